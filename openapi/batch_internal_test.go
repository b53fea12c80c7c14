package openapi

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/event-piper/event-piper/core"
)

// The body is written by hand and described by a type; both must say the same.
func TestBatchIsAsDescribed(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 120_000_000, time.UTC)
	body := appendBatch(nil, core.Batch{
		Events: []*core.Event{
			{ID: 5, Type: `"é<`, Timestamp: at, Payload: []byte(`{"foo":[1.50,"bar"]}`)},
			{ID: 6, Type: "insert", Timestamp: at, Payload: []byte(`null`)},
		},
		Cursor: 9, More: true,
	})
	var described eventBatch
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&described); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	again, err := json.Marshal(described)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(body, again) {
		t.Errorf("the body is %s\nas described it would be %s", body, again)
	}
}

func TestWhoTakesCloudEvents(t *testing.T) {
	for accept, want := range map[string]bool{
		"":                                   false,
		"*/*":                                false,
		"application/cloudevents-batch+json": true,
		"Application/CloudEvents-Batch+JSON": true,
		"application/json, APPLICATION/CLOUDEVENTS-BATCH+JSON;Q=0.5": false,
	} {
		if got := takesCloudEvents([]string{accept}); got != want {
			t.Errorf("Accept: %s: got %t, want %t", accept, got, want)
		}
	}
}

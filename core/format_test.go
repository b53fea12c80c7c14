package core_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strconv"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/event-piper/event-piper/core"
)

// eventObject is what the format event says of an event.
type eventObject struct {
	ID          int64           `json:"id"`
	Type        string          `json:"type"`
	Timestamp   time.Time       `json:"timestamp"`
	Subscriber  string          `json:"subscriber"`
	Amends      int64           `json:"amends"`
	Traceparent string          `json:"traceparent"`
	Payload     json.RawMessage `json:"payload"`
}

// cloudEvent is what the format cloudevents says of one.
type cloudEvent struct {
	SpecVersion     string          `json:"specversion"`
	ID              string          `json:"id"`
	Source          string          `json:"source"`
	Type            string          `json:"type"`
	Subject         string          `json:"subject"`
	Time            time.Time       `json:"time"`
	Amends          string          `json:"amends"`
	Traceparent     string          `json:"traceparent"`
	DataContentType string          `json:"datacontenttype"`
	Data            json.RawMessage `json:"data"`
}

// FuzzFormats lets events through as the database does, and reads both formats back by a JSON library.
func FuzzFormats(f *testing.F) {
	f.Add(int64(6), "insert", "toto", int64(0), int64(0), "", "event-piper", `{"foo": "bar"}`)
	f.Add(int64(7), `a"b\`, "é☃\u2028<&>", int64(-1), int64(6), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		"https://example.com/?a=b&c=\"", `{"z":123456789012345678901234567890,"a":1e400,"a":[1.10,"\u0000"]}`)
	f.Add(int64(core.MaxID), "\u202e", " ", int64(1<<62), int64(core.MaxID), "\x7f", "", "[\t\"\xff\", -0 ]")
	f.Fuzz(func(t *testing.T, id int64, typ, consumer string, nanoseconds, amends int64, traceparent, source, payload string) {
		if core.CheckName(typ) != nil || core.CheckName(consumer) != nil || !utf8.ValidString(traceparent) ||
			!utf8.ValidString(source) || !json.Valid([]byte(payload)) {
			t.Skip("the database takes no such event")
		}
		e := &core.Event{
			ID: id & core.MaxID, Type: typ, Consumer: consumer, Amends: amends & core.MaxID, Traceparent: traceparent,
			Timestamp: time.Unix(0, nanoseconds).UTC(), Payload: core.AppendCompact(nil, []byte(payload)),
		}
		object := eventObject{e.ID, typ, e.Timestamp, consumer, e.Amends, traceparent, e.Payload}
		readsBack(t, core.AppendEvent(nil, e), object)

		cloud := cloudEvent{
			"1.0", strconv.FormatInt(e.ID, 10), source, typ, consumer, e.Timestamp, "", traceparent, "application/json", e.Payload,
		}
		if e.Amends != 0 {
			cloud.Amends = strconv.FormatInt(e.Amends, 10)
		}
		readsBack(t, core.AppendCloudEvent(nil, e, source), cloud)
	})
}

// readsBack checks that an encoding is one line of JSON that says what is wanted and nothing else.
func readsBack[T any](t *testing.T, encoded []byte, want T) {
	t.Helper()
	if bytes.ContainsAny(encoded, "\r\n") {
		t.Errorf("%q is more than the data of one field", encoded)
	}
	var got T
	d := json.NewDecoder(bytes.NewReader(encoded))
	d.DisallowUnknownFields()
	if err := d.Decode(&got); err != nil || d.More() {
		t.Fatalf("%q cannot be read: %v", encoded, err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%q was understood as %+v, want %+v", encoded, got, want)
	}
}

package emf

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/event-piper/event-piper/core/settings"
)

// open returns a log under a name, as its setting makes it, that writes to the buffer.
func open(t *testing.T, service string) (*Log, *bytes.Buffer) {
	t.Helper()
	var l Log
	s := settings.New("test", "")
	l.Define(s)
	if err := s.Parse(nil, func(string) string { return service }); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	l.out = &b
	return &l, &b
}

// problems returns what the specification's JSON schema has against a line.
func problems(t *testing.T, line []byte) []error {
	t.Helper()
	text, err := os.ReadFile("testdata/schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var schema huma.Schema
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	precompute(&schema)
	var document any
	if err := json.Unmarshal(line, &document); err != nil {
		t.Fatalf("want one line of JSON, got %q: %v", line, err)
	}
	var result huma.ValidateResult
	huma.Validate(huma.NewMapRegistry("", nil), &schema, huma.NewPathBuffer(nil, 0), huma.ModeWriteToServer, document, &result)
	return result.Errors
}

func precompute(s *huma.Schema) {
	s.PrecomputeMessages()
	for _, p := range s.Properties {
		precompute(p)
	}
	if s.Items != nil {
		precompute(s.Items)
	}
}

// TestLinesAreWhatCloudWatchExtracts: a line that breaks the format is only a line of the log, in silence.
func TestLinesAreWhatCloudWatchExtracts(t *testing.T) {
	l, out := open(t, "orders-poll")
	l.Write(append(Answer(503, 7), Milliseconds("Wait", 1500*time.Microsecond))...)
	line := out.Bytes()
	if got := bytes.Count(line, []byte("\n")); got != 1 || line[len(line)-1] != '\n' {
		t.Fatalf("want one line, got %q", line)
	}
	if errs := problems(t, line); len(errs) > 0 {
		t.Errorf("%s: %v", line, errs)
	}
	var got struct {
		AWS struct {
			Timestamp         int64
			CloudWatchMetrics []struct {
				Namespace  string
				Dimensions [][]string
				Metrics    []struct{ Name, Unit string }
			}
		} `json:"_aws"`
		Service                              string
		Requests, ServerErrors, Events, Wait float64
	}
	if err := json.Unmarshal(line, &got); err != nil {
		t.Fatal(err)
	}
	if got.Service != "orders-poll" || got.Requests != 1 || got.ServerErrors != 1 || got.Events != 7 || got.Wait != 1.5 {
		t.Errorf("want the values as members of the root, got %s", line)
	}
	if at := time.UnixMilli(got.AWS.Timestamp); time.Since(at).Abs() > time.Hour {
		t.Errorf("want a timestamp in milliseconds, got %v", at)
	}
	directive := got.AWS.CloudWatchMetrics[0]
	if len(directive.Dimensions) != 1 || len(directive.Dimensions[0]) != 1 || directive.Dimensions[0][0] != "Service" {
		t.Errorf("want the service as the only dimension, got %v", directive.Dimensions)
	}
	var members map[string]any
	if err := json.Unmarshal(line, &members); err != nil {
		t.Fatal(err)
	}
	for _, m := range directive.Metrics {
		if _, ok := members[m.Name].(float64); !ok {
			t.Errorf("metric %s has no value in %s", m.Name, line)
		}
	}
	if len(members) != len(directive.Metrics)+2 {
		t.Errorf("want nothing but metrics, the service and the metadata, got %s", line)
	}
}

// TestTheSchemaIsUsed: the check of the format finds what is wrong.
func TestTheSchemaIsUsed(t *testing.T) {
	for _, wrong := range []string{
		`{}`,
		`{"_aws":{"CloudWatchMetrics":[]}}`,
		`{"_aws":{"Timestamp":1,"CloudWatchMetrics":[{"Namespace":"","Dimensions":[["Service"]],"Metrics":[]}]}}`,
		`{"_aws":{"Timestamp":1,"CloudWatchMetrics":[{"Namespace":"n","Dimensions":[],"Metrics":[]}]}}`,
		`{"_aws":{"Timestamp":1,"CloudWatchMetrics":[{"Namespace":"n","Dimensions":[["Service"]],"Metrics":[{"Name":"m","Unit":"Hours"}]}]}}`,
	} {
		if errs := problems(t, []byte(wrong)); len(errs) == 0 {
			t.Errorf("want %s refused", wrong)
		}
	}
}

func TestOffWritesNothing(t *testing.T) {
	l, out := open(t, "")
	l.Write(Count("Requests", 1))
	l.Every(time.Nanosecond, func() []Value { t.Error("want nothing read"); return nil })()
	if out.Len() > 0 {
		t.Errorf("want nothing, got %s", out)
	}
}

// TestALineIsBounded, and so are the names that a setting brings.
func TestALineIsBounded(t *testing.T) {
	l, out := open(t, strings.Repeat(`"`, maxService)) // each takes two bytes
	l.Write(append(Answer(200, math.MaxInt64), Milliseconds("StreamTime", math.MaxInt64), Count("ReplacedConnections", math.MaxInt64))...)
	if out.Len() > 2<<10 {
		t.Errorf("want at most 2 KB, got %d bytes: %s", out.Len(), out)
	}
	if errs := problems(t, out.Bytes()); len(errs) > 0 {
		t.Errorf("%s: %v", out, errs)
	}
	for _, name := range []string{strings.Repeat("x", maxService+1), "two\nlines", "größer"} {
		var l Log
		s := settings.New("test", "")
		l.Define(s)
		if err := s.Parse(nil, func(string) string { return name }); err == nil {
			t.Errorf("CLOUDWATCH_METRICS=%q: want it refused", name)
		}
	}
}

func TestEveryIntervalUntilItIsStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, out := open(t, "orders-stream")
		var reads atomic.Int64
		stop := l.Every(time.Minute, func() []Value { return []Value{Count("Sessions", reads.Add(1))} })
		synctest.Wait()
		for want := 1; want <= 3; want++ {
			if got := reads.Load(); got != int64(want) {
				t.Fatalf("after %d minutes: want %d reads, got %d", want-1, want, got)
			}
			time.Sleep(time.Minute)
			synctest.Wait()
		}
		stop()
		lines := strings.Count(out.String(), "\n")
		time.Sleep(time.Hour)
		if lines != 4 || strings.Count(out.String(), "\n") != lines {
			t.Errorf("want 4 lines and none after the stop, got %s", out)
		}
	})
}

package sse

import (
	"bytes"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/event-piper/event-piper/core"
)

func TestFramesByteForByte(t *testing.T) {
	for _, c := range []struct {
		name, got, want string
	}{
		{"event", string(encode(&core.Event{ID: 6, Type: "insert", Payload: []byte(`{"foo":"bar"}`)})),
			"id: 6\nevent: insert\ndata: {\"foo\":\"bar\"}\n\n"},
		{"highest id, scalar payload", string(encode(&core.Event{ID: core.MaxID, Type: "a", Payload: []byte(`1.0e400`)})),
			"id: 281474976710655\nevent: a\ndata: 1.0e400\n\n"},
		{"type with spaces and colons", string(encode(&core.Event{ID: 1, Type: " a: b ", Payload: []byte(`null`)})),
			"id: 1\nevent:  a: b \ndata: null\n\n"},
		{"payload beyond ASCII", string(encode(&core.Event{ID: 1, Type: "été", Payload: []byte("\"\u2028\ufeff\"")})),
			"id: 1\nevent: été\ndata: \"\u2028\ufeff\"\n\n"},
		{"pruned", string(appendReset(nil, &core.ResetError{Reason: core.Pruned, Oldest: 5, Newest: 7})),
			"event: reset\ndata: {\"reason\":\"pruned\",\"oldest\":5,\"newest\":7}\n\n"},
		{"ahead", string(appendReset(nil, &core.ResetError{Reason: core.Ahead, Oldest: 0, Newest: 7})),
			"event: reset\ndata: {\"reason\":\"ahead\",\"oldest\":0,\"newest\":7}\n\n"},
		{"heartbeat", heartbeat, "event: heartbeat\ndata: thump\n\n"},
		{"retry", string(appendRetry(nil, 2500*time.Millisecond)), "retry: 2500\n\n"},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, c.got, c.want)
		}
	}
}

func TestRetryIsJitteredAroundTheSetting(t *testing.T) {
	s := &Server{config: Config{Retry: time.Second}}
	seen := map[string]bool{}
	for range 100 {
		frame := string(s.appendRetry(nil))
		if ms := retryOf(t, frame); ms < 500 || ms >= 1500 {
			t.Fatalf("got %q, want from 500 to 1500 milliseconds", frame)
		}
		seen[frame] = true
	}
	if len(seen) < 2 {
		t.Errorf("100 frames are all the same: %v", seen)
	}
}

func retryOf(t *testing.T, frame string) int {
	t.Helper()
	digits, ok := strings.CutPrefix(frame, "retry: ")
	digits, end := strings.CutSuffix(digits, "\n\n")
	ms, err := strconv.Atoi(digits)
	if !ok || !end || err != nil {
		t.Fatalf("got %q, want a frame that is one retry field", frame)
	}
	return ms
}

// dispatched is an event as a browser's EventSource has it.
type dispatched struct{ lastEventID, typ, data string }

// interpret is WHATWG HTML, sections 9.2.5 and 9.2.6, step by step: what a client makes of a stream.
func interpret(stream []byte) (events []dispatched, retries []int) {
	stream = bytes.TrimPrefix(stream, []byte("\ufeff"))
	text := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(stream))
	lines := strings.Split(text, "\n")
	lines = lines[:len(lines)-1] // what no line ending follows is discarded
	var typ, data, lastEventID, id string
	for _, line := range lines {
		if line == "" {
			lastEventID = id
			if data != "" {
				if typ == "" {
					typ = "message"
				}
				events = append(events, dispatched{lastEventID, typ, strings.TrimSuffix(data, "\n")})
			}
			typ, data = "", ""
			continue
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "event":
			typ = value
		case "data":
			data += value + "\n"
		case "id":
			if !strings.Contains(value, "\x00") {
				id = value
			}
		case "retry":
			if ms, err := strconv.Atoi(value); err == nil && strings.Trim(value, "0123456789") == "" {
				retries = append(retries, ms)
			}
		}
	}
	return events, retries
}

func TestInterpretFollowsTheStandardsExamples(t *testing.T) {
	for _, c := range []struct {
		stream string
		want   []dispatched
	}{
		{"data: YHOO\ndata: +2\ndata: 10\n\n", []dispatched{{"", "message", "YHOO\n+2\n10"}}},
		{": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
			[]dispatched{{"1", "message", "first event"}, {"", "message", "second event"}, {"", "message", " third event"}}},
		{"data\n\ndata\ndata\n\ndata:", []dispatched{{"", "message", ""}, {"", "message", "\n"}}},
		{"data:test\r\rdata: test\r\n\r\n", []dispatched{{"", "message", "test"}, {"", "message", "test"}}},
		{"event: x\nid: 7\n\ndata: y\n\n", []dispatched{{"7", "message", "y"}}},
	} {
		if got, _ := interpret([]byte(c.stream)); !slices.Equal(got, c.want) {
			t.Errorf("%q: got %q, want %q", c.stream, got, c.want)
		}
	}
}

// FuzzEncode lets events through as the database does, and reads them back as a browser does.
func FuzzEncode(f *testing.F) {
	f.Add(int64(6), "insert", `{"foo": "bar"}`)
	f.Add(int64(1), " event: x", "[1.10, \"a\\nb\", \"\\\"\",\n\tnull]")
	f.Add(int64(core.MaxID), "data", "\"\u2028\u0085\"")
	f.Add(int64(0), "a\rb", `"x\ry"`)
	f.Add(int64(2), "a\nid: 99", "{\"a\":\r\n1}")
	f.Fuzz(func(t *testing.T, id int64, typ, payload string) {
		var compact bytes.Buffer
		if core.CheckName(typ) != nil || json.Compact(&compact, []byte(payload)) != nil {
			t.Skip("the database takes no such event")
		}
		id = min(id&math.MaxInt64, core.MaxID)
		e := &core.Event{ID: id, Type: typ, Payload: core.AppendCompact(nil, []byte(payload))}
		if !bytes.Equal(e.Payload, compact.Bytes()) {
			t.Fatalf("compacted to %q, want %q", e.Payload, compact.Bytes())
		}
		events, retries := interpret(encode(e))
		want := []dispatched{{strconv.FormatInt(id, 10), typ, compact.String()}}
		if !slices.Equal(events, want) || len(retries) > 0 {
			t.Fatalf("%q was understood as %q, retries %v; want %q", encode(e), events, retries, want)
		}
	})
}

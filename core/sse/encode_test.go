package sse

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http/httputil"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/event-piper/event-piper/core"
)

var testEncoders = newEncoders("/test")

func testStream(chunked bool) *stream {
	return &stream{server: &Server{encoders: testEncoders}, chunked: chunked}
}

// frameAs returns an event's frame, neither shared nor a chunk.
func frameAs(e *core.Event, idLast bool) string {
	return string(appendEvent(nil, e, e.Payload, idLast, false))
}

func TestFramesByteForByte(t *testing.T) {
	for _, c := range []struct {
		name, got, want string
	}{
		{"event", frameAs(&core.Event{ID: 6, Type: "insert", Payload: []byte(`{"foo":"bar"}`)}, false),
			"id: 6\nevent: insert\ndata: {\"foo\":\"bar\"}\n\n"},
		{"event of a longer write", frameAs(&core.Event{ID: 6, Type: "insert", Payload: []byte(`{"foo":"bar"}`)}, true),
			"event: insert\ndata: {\"foo\":\"bar\"}\nid: 6\n\n"},
		{"chunk", string(encode(&core.Event{ID: 6, Type: "insert"}, []byte(`{"foo":"bar"}`))),
			"29\r\nid: 6\nevent: insert\ndata: {\"foo\":\"bar\"}\n\n\r\n"},
		{"highest id, scalar payload", frameAs(&core.Event{ID: core.MaxID, Type: "a", Payload: []byte(`1.0e400`)}, false),
			"id: 281474976710655\nevent: a\ndata: 1.0e400\n\n"},
		{"type with spaces and colons", frameAs(&core.Event{ID: 1, Type: " a: b ", Payload: []byte(`null`)}, false),
			"id: 1\nevent:  a: b \ndata: null\n\n"},
		{"payload beyond ASCII", frameAs(&core.Event{ID: 1, Type: "été", Payload: []byte("\"\u2028\ufeff\"")}, false),
			"id: 1\nevent: été\ndata: \"\u2028\ufeff\"\n\n"},
		{"pruned", string(appendReset(nil, &core.ResetError{Reason: core.Pruned, Oldest: 5, Newest: 7})),
			"id: 5\nevent: reset\ndata: {\"reason\":\"pruned\",\"oldest\":5,\"newest\":7}\n\n"},
		{"ahead", string(appendReset(nil, &core.ResetError{Reason: core.Ahead, Oldest: 0, Newest: 7})),
			"id: 7\nevent: reset\ndata: {\"reason\":\"ahead\",\"oldest\":0,\"newest\":7}\n\n"},
		{"heartbeat", string(appendHeartbeat(nil, 57, 0)), "id: 57\nevent: heartbeat\ndata: thump\n\n"},
		{"first frame", string(appendHeartbeat(nil, 41, 1834*time.Millisecond)), "id: 41\nevent: heartbeat\ndata: thump\nretry: 1834\n\n"},
		{"chunk of a heartbeat", string(appendFrame(nil, appendHeartbeat(nil, 57, 0), true)),
			"25\r\nid: 57\nevent: heartbeat\ndata: thump\n\n\r\n"},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, c.got, c.want)
		}
	}
}

// TestWhereTheIDIs has writes around the length up to which the id comes first, of one event and of many, as chunks and
// not, from history and live: all must come to the same frames.
func TestWhereTheIDIs(t *testing.T) {
	one := func(size int) *core.Event { // whose chunk has this size
		e := &core.Event{ID: 1234, Type: "insert", Payload: []byte(`""`)}
		e.Payload = []byte(`"` + strings.Repeat("x", size-chunkSize(e, e.Payload)) + `"`)
		for chunkSize(e, e.Payload) > size { // a longer length has more digits
			e.Payload = append(e.Payload[:len(e.Payload)-2], '"')
		}
		return e
	}
	for _, c := range []struct {
		sizes  []int
		idLast bool
	}{
		{[]int{segment}, false},
		{[]int{segment + 1}, true},
		{[]int{60_000}, true},
		{[]int{400, 400, 400}, false},
		{[]int{400, 400, 401}, true},
		{[]int{100, 60_000, 100}, true},
	} {
		for _, live := range []bool{false, true} {
			var events []*core.Event
			var chunks, frames string
			for _, size := range c.sizes {
				e := one(size)
				if e.Live = live; chunkSize(e, e.Payload) != size {
					t.Fatalf("a chunk of %d bytes has %d", size, chunkSize(e, e.Payload))
				}
				events = append(events, e)
				frame := frameAs(e, c.idLast)
				if last := strings.HasSuffix(frame, "\nid: 1234\n\n"); last != c.idLast {
					t.Fatalf("got %.40q… with the id last: %t, want %t", frame, last, c.idLast)
				}
				frames += frame
				chunks += fmt.Sprintf("%x\r\n%s\r\n", len(frame), frame)
			}
			if got := string(testStream(true).appendEvents(nil, events)); got != chunks {
				t.Errorf("%v live=%t: got chunks %.80q…, want %.80q…", c.sizes, live, got, chunks)
			}
			if got := string(testStream(false).appendEvents(nil, events)); got != frames {
				t.Errorf("%v live=%t: got frames %.80q…, want %.80q…", c.sizes, live, got, frames)
			}
			if len(events) > 1 {
				continue
			}
			if got := string(encode(events[0], events[0].Payload)); got != chunks {
				t.Errorf("%v: encoded as %.80q…, want %.80q…", c.sizes, got, chunks)
			}
			if got := string(frameOf(encode(events[0], events[0].Payload))); got != frames {
				t.Errorf("%v: encoded as %.80q…, want %.80q…", c.sizes, got, frames)
			}
		}
	}
}

func TestRetryIsJitteredAroundTheSetting(t *testing.T) {
	s := &Server{config: Config{Retry: time.Second}}
	seen := map[time.Duration]bool{}
	for range 100 {
		retry := s.retry()
		if retry < 500*time.Millisecond || retry >= 1500*time.Millisecond {
			t.Fatalf("got %v, want from 500 to 1500 milliseconds", retry)
		}
		seen[retry] = true
	}
	if len(seen) < 2 {
		t.Errorf("100 are all the same: %v", seen)
	}
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
		want := []dispatched{{strconv.FormatInt(id, 10), typ, compact.String()}}
		for _, idLast := range []bool{false, true} {
			frame := appendEvent(nil, e, e.Payload, idLast, false)
			if events, retries := interpret(frame); !slices.Equal(events, want) || len(retries) > 0 {
				t.Fatalf("%q was understood as %q, retries %v; want %q", frame, events, retries, want)
			}
			chunk := appendEvent(nil, e, e.Payload, idLast, true)
			body, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(append(chunk, lastChunk...))))
			if err != nil || !bytes.Equal(body, frame) {
				t.Fatalf("chunk %q is %q (%v), want %q", chunk, body, err, frame)
			}
			e := &core.Event{ID: e.ID, Type: e.Type, Payload: e.Payload}
			if got := appendEncoded(nil, e.Encoded(core.FormatPayload, testEncoders[core.FormatPayload]), true, true); !bytes.Equal(got, appendEvent(nil, e, e.Payload, true, true)) {
				t.Fatalf("%q was made of %q", got, e.Encoded(core.FormatPayload, testEncoders[core.FormatPayload]))
			}
		}
	})
}

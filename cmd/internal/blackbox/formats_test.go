//go:build unix

package blackbox_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"github.com/event-piper/event-piper/postgresql/pgtest"
)

const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// testFormats: what amends, and the trace, are in the event object and in CloudEvents.
func testFormats(t *testing.T, s site) {
	before := s.settle(t)
	first := query[int64](t, s.db, `insert into events (type, timestamp, subscriber, payload, traceparent) values
		('order.created', '2026-03-01 12:00:00+00', 'formats', '{"n": 1.50}', '`+traceparent+`') returning id`)
	second := query[int64](t, s.db, fmt.Sprintf(`insert into events (type, timestamp, subscriber, payload, amends) values
		('order.corrected', '2026-03-01 12:00:01+00', 'formats', '[]', %d) returning id`, first))
	s.settle(t)

	a := s.poll(t, "formats", fmt.Sprint("wait=0&after=", before))
	want := fmt.Sprintf(`{"events":[`+
		`{"id":%d,"type":"order.created","timestamp":"2026-03-01T12:00:00Z","subscriber":"formats","traceparent":"%s","payload":{"n":1.50}},`+
		`{"id":%d,"type":"order.corrected","timestamp":"2026-03-01T12:00:01Z","subscriber":"formats","amends":%[1]d,"payload":[]}`+
		`],"cursor":%[3]d,"more":false}`, first, traceparent, second)
	if a.body != want {
		t.Errorf("want\n%s\ngot\n%s", want, a.body)
	}

	a = s.poll(t, "formats", fmt.Sprint("wait=0&limit=1&after=", before), "Accept", "application/cloudevents-batch+json, application/json;q=0.5")
	want = fmt.Sprintf(`[{"specversion":"1.0","id":"%d","source":"event-piper","type":"order.created","subject":"formats",`+
		`"time":"2026-03-01T12:00:00Z","traceparent":"%s","datacontenttype":"application/json","data":{"n":1.50}}]`, first, traceparent)
	if a.body != want || a.header.Get("Content-Type") != "application/cloudevents-batch+json" ||
		a.header.Get("X-Cursor") != fmt.Sprint(first) || a.header.Get("X-More") != "true" {
		t.Errorf("want\n%s\ngot %v\n%s", want, a.header, a.body)
	}
	if b := s.poll(t, "formats", fmt.Sprint("wait=0&view=current&after=", before)).batch(t); len(b.Events) != 1 || b.Events[0].ID != second {
		t.Errorf("the current view: want event %d alone, got %v", second, b.ids())
	}
	s.poll(t, "formats", "wait=0&view=latest").problem(t, http.StatusUnprocessableEntity)
	s.poll(t, "formats", "wait=0&format=event").problem(t, http.StatusUnprocessableEntity)
}

// TestFormatsOfAStream: the frame is the same in all formats but for its data.
func TestFormatsOfAStream(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	db := connect(t, dsn)
	p := start(t, "stream", "DATABASE_URL="+dsn, "CLOUDEVENTS_SOURCE=/orders")
	db.exec(t, `insert into events (type, timestamp, subscriber, payload) values ('insert', '2026-03-01 12:00:00+00', 'toto', '{"foo": "bar"}')`)
	for format, data := range map[string]string{
		"payload": `{"foo":"bar"}`,
		"event":   `{"id":1,"type":"insert","timestamp":"2026-03-01T12:00:00Z","subscriber":"toto","payload":{"foo":"bar"}}`,
		"cloudevents": `{"specversion":"1.0","id":"1","source":"/orders","type":"insert","subject":"toto","time":"2026-03-01T12:00:00Z",` +
			`"datacontenttype":"application/json","data":{"foo":"bar"}}`,
	} {
		s, err := openAt(p.addr, "/events?format="+format, "toto", 0)
		if err != nil {
			t.Fatal(err)
		}
		defer s.close()
		if f, err := s.nextEvent(); err != nil || f != (frame{1, "insert", data}) {
			t.Errorf("%s: got %+v (%v), want %s", format, f, err, data)
		}
	}
	live, err := openAt(p.addr, "/events?format=event&view=current", "toto", 1)
	if err != nil {
		t.Fatal(err)
	}
	defer live.close()
	db.exec(t, "select events_redact(1, 'asked for')")
	f, err := live.nextEvent()
	var redaction struct {
		Amends  int64
		Payload json.RawMessage
	}
	if err != nil || f.event != "redacted" || json.Unmarshal([]byte(f.data), &redaction) != nil || redaction.Amends != 1 {
		t.Errorf("want a redaction of event 1, got %+v (%v)", f, err)
	}
	replay := mustOpen(t, p.addr, "toto", 0)
	if f, err := replay.nextEvent(); err != nil || f.id != 1 || f.data != "null" {
		t.Errorf("want an empty payload after the redaction, got %+v (%v)", f, err)
	}
	for _, query := range []string{"format=xml", "format=event&format=payload", "view=latest"} {
		if a := ask(t, http.MethodGet, p.url("/events?"+query), "toto"); a.status != http.StatusBadRequest {
			t.Errorf("%s: want 400, got %d", query, a.status)
		}
	}
}

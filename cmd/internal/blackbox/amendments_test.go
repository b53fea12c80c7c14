//go:build unix

package blackbox_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/event-piper/event-piper/functions/gateway/gatewaytest"
	"github.com/event-piper/event-piper/postgresql/pgtest"
)

// falselyAmended inserts events of a consumer and of a topic that others, or what comes before them, say they amend or have
// redacted, and one that is amended in truth. It returns what the consumer has in all, and what is current.
func falselyAmended(t *testing.T, db database, consumer, topic string) (all, current []int64) {
	t.Helper()
	insert := func(address, eventType string, amends int64) int64 {
		return query[int64](t, db, `insert into events (type, subscriber, payload, amends) values ($1, $2, '"kept"', nullif($3, 0)) returning id`,
			eventType, address, amends)
	}
	own, team := insert(consumer, "insert", 0), insert(topic, "insert", 0)
	for _, eventType := range []string{"corrected", "redacted"} {
		insert("stranger", eventType, own)
		insert("stranger", eventType, team)
		all = append(all, insert(topic, eventType, own), insert(consumer, eventType, team))
	}
	early := insert(consumer, "corrected", query[int64](t, db, "select max(id) + 2 from events"))
	late := insert(consumer, "insert", 0)
	corrected := insert(consumer, "insert", 0)
	last := insert(consumer, "corrected", corrected)
	all = append([]int64{own, team}, append(all, early, late, corrected, last)...)
	return all, slices.DeleteFunc(slices.Clone(all), func(id int64) bool { return id == corrected })
}

// testFalseAmendments: only an event of the same address hides an earlier one from the current view, so that no writer of one
// hides what is for another.
func testFalseAmendments(t *testing.T, s site) {
	before := s.settle(t)
	all, current := falselyAmended(t, s.db, "amended", "amended-team")
	s.settle(t)
	for view, want := range map[string][]int64{"all": all, "current": current} {
		for _, limit := range []int{1, 3, 100} {
			var got []int64
			for cursor, more := before, true; more; {
				b := s.poll(t, "amended", fmt.Sprintf("wait=0&view=%s&limit=%d&after=%d", view, limit, cursor), "X-Consumer-Topics", "amended-team").batch(t)
				for _, e := range b.Events {
					if string(e.Payload) != `"kept"` {
						t.Errorf("event %d has the payload %s, want what was inserted", e.ID, e.Payload)
					}
				}
				got = append(got, b.ids()...)
				cursor, more = b.Cursor, b.More
			}
			if !slices.Equal(got, want) {
				t.Errorf("view=%s, %d at a time: want %v, got %v", view, limit, want, got)
			}
		}
	}
}

// TestFalseAmendmentsOnAStream is the same for history that is streamed, and for the live end.
func TestFalseAmendmentsOnAStream(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]func(t *testing.T, dsn string) string{
		"stream": func(t *testing.T, dsn string) string { return start(t, "stream", "DATABASE_URL="+dsn).addr },
		"lambda": func(t *testing.T, dsn string) string { return startStreamLambda(t, dsn, gatewaytest.Config{}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := pgtest.New(t)
			db, addr := connect(t, dsn), begin(t, dsn)
			read := func(view string, cursor int64) *stream {
				s, err := openAt(addr, "/events?view="+view, "amended", cursor, "X-Consumer-Topics", "amended-team")
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(s.close)
				return s
			}
			live := read("all", fromNow) // the current view may leave out what was read as history
			all, current := falselyAmended(t, db, "amended", "amended-team")
			live.wantKept(t, all)
			read("current", 0).wantKept(t, current)
		})
	}
}

func (s *stream) wantKept(t *testing.T, ids []int64) {
	t.Helper()
	for _, id := range ids {
		if f, err := s.nextEvent(); err != nil || f.id != id || f.data != `"kept"` {
			t.Errorf("want event %d as it was inserted, got %+v (%v)", id, f, err)
			return
		}
	}
}

package postgresql_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/postgresql/pgtest"
)

// holdReaders makes readers wait for two locks of the test, right before and right after they look at the writers.
const holdReaders = `create or replace view events_writers as
	with seen as materialized (%s)
	select 0::bigint as before, 0 as pid where pg_advisory_xact_lock_shared(0, 1) is null
	union all select * from seen
	union all select 0, 0 where pg_advisory_xact_lock_shared(0, 2) is null`

// What makes it exact is the order of a reader's steps: the sequence, then the writers, then the events as they are now.
func TestTheWatermarkIsExactWhateverHappensBetweenItsSteps(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		what                   string
		lock                   int
		slow, conn             string
		slowMeanwhile, andConn string
	}{
		{what: "an id drawn before is committed before the look", lock: 1, slow: "begin; " + insert, slowMeanwhile: "commit"},
		{what: "an id is drawn after the look", lock: 2, conn: insert, slowMeanwhile: "begin; " + insert, andConn: insert},
	} {
		t.Run(test.what, func(t *testing.T) {
			t.Parallel()
			dsn := pgtest.New(t)
			slow, conn, holder := connect(t, dsn), connect(t, dsn), connect(t, dsn)
			store, f := open(t, dsn), follow(t, dsn)
			writers := query[string](t, conn, "select pg_get_viewdef('events_writers'::regclass)")
			exec(t, conn, fmt.Sprintf(holdReaders, strings.TrimSuffix(writers, ";")))
			exec(t, slow, test.slow)
			exec(t, conn, test.conn)

			exec(t, holder, "select pg_advisory_lock(0, $1)", test.lock)
			type result struct {
				reader   string
				events   []*core.Event
				position int64
				err      error
			}
			results := make(chan result, 2)
			go func() {
				r, err := f.Read(t.Context(), 0, []string{"toto"})
				results <- result{"the follower", r.Events, r.Position, err}
			}()
			go func() {
				pages, err := store.Pages(t.Context(), []core.PageQuery{{Addresses: []string{"toto"}, Limit: 10}}, core.Mark{})
				if err != nil {
					pages = make([]core.Page, 1)
				}
				results <- result{"a page", pages[0].Events, pages[0].Next, err}
			}()
			for query[int](t, conn, advisoryLocks+" and not granted") < 2 {
				select {
				case r := <-results:
					t.Fatalf("%s did not wait: %+v", r.reader, r)
				default:
				}
			}
			exec(t, slow, test.slowMeanwhile)
			exec(t, conn, test.andConn)
			exec(t, holder, "select pg_advisory_unlock(0, $1)", test.lock)
			for range 2 {
				r := <-results
				if r.err != nil || len(r.events) != 1 || r.events[0].ID != 1 || r.position != 1 {
					t.Errorf("%s read %d events up to %d (%v), want the first and no further", r.reader, len(r.events), r.position, r.err)
				}
			}
		})
	}
}

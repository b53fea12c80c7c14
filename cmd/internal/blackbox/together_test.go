//go:build unix

package blackbox_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"testing"

	"github.com/event-piper/event-piper/postgresql/pgtest"
)

// Readers that come at once to the same history may be served from one read of it, but each gets what it asked for.
func TestReadersThatComeTogetherGetWhatEachAsksFor(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	db := connect(t, dsn)
	db.exec(t, `insert into events (type, subscriber, payload, amends)
		select 't' || n % 3, case when n % 4 = 0 then 'team' else 'ann' end, '{}', case when n % 7 = 0 then n - 4 end
		from generate_series(1, 400) n`)
	p := start(t, "stream", "DATABASE_URL="+dsn)
	wanted := func(addresses []string, types, view string) []int64 {
		return query[[]int64](t, db, `select array_agg(id order by id) from events e where subscriber = any ($1) and $2 in ('', type)
			and ($3 = '' or not exists (select from events a where a.amends = e.id and a.subscriber = e.subscriber))`, addresses, types, view)
	}
	var readers sync.WaitGroup
	for range 3 {
		for _, types := range []string{"", "t0", "t1"} {
			for _, view := range []string{"", "current"} {
				for _, topics := range []string{"", "team"} {
					for _, consumer := range []string{"ann", "bob"} {
						addresses := []string{consumer}
						if topics != "" {
							addresses = append(addresses, topics)
						}
						want := wanted(addresses, types, view)
						asked := url.Values{"types": {types}, "view": {view}, "topics": {topics}, "wait": {"0"}, "limit": {"50"}}
						readers.Go(func() {
							var got []int64
							for cursor, more := int64(0), true; more; {
								asked.Set("after", fmt.Sprint(cursor))
								a, err := try(http.MethodGet, p.url("/events/poll?"+asked.Encode()), consumer, "X-Consumer-Topics", "team")
								if err != nil {
									t.Error(err)
									return
								}
								b, err := a.tryBatch()
								if err != nil {
									t.Error(err)
									return
								}
								got, cursor, more = append(got, b.ids()...), b.Cursor, b.More
							}
							if !slices.Equal(got, want) {
								t.Errorf("%v of %s: want %v\ngot %v", asked, consumer, want, got)
							}
						})
					}
				}
			}
		}
	}
	readers.Wait()
}

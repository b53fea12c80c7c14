package postgresql_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/postgresql"
	"github.com/event-piper/event-piper/postgresql/pgtest"
)

// Or a restart would have as many rows of a topic read, and sent, as it has followers times events.
func TestWhatFollowersReadTogetherIsReadOnce(t *testing.T) {
	t.Parallel()
	const followers, events = 200, 100
	for what, payload := range map[string]string{
		"small payloads": "'{}'",
		// Each as large as an eighth of what a read brings at most.
		"large payloads": "to_json((select string_agg(md5(n::text || i), '') from generate_series(1, 2048) i))",
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			dsn := pgtest.New(t)
			conn := connect(t, dsn)
			exec(t, conn, fmt.Sprintf("insert into events (type, subscriber, payload) select 'insert', 'news', %s from generate_series(1, %d) n", payload, events))
			exec(t, conn, fmt.Sprintf("insert into events (type, subscriber, payload) select 'insert', 'c' || n, '{}' from generate_series(1, %d) n", followers))
			queries := make([]core.PageQuery, followers)
			for i := range queries {
				queries[i] = core.PageQuery{Addresses: []string{fmt.Sprint("c", i+1), "news"}, Limit: 100}
			}
			n := touched(t, dsn, conn, func(store core.Store) {
				got := 0
				for range 20 {
					pages, err := store.Pages(t.Context(), queries, core.Mark{})
					if err != nil || len(pages) != followers {
						t.Fatalf("%d pages (%v), want one for each of %d followers", len(pages), err, followers)
					}
					for i, p := range pages {
						got += len(p.Events)
						queries[i].After = p.Next
					}
				}
				if want := followers * (events + 1); got != want {
					t.Fatalf("%d events in all, want %d", got, want)
				}
			})
			if most := int64(5_000); n == 0 || n > most {
				t.Errorf("%d rows and index entries touched for 100 events of a topic and 200 of its followers, want at most %d", n, most)
			}
		})
	}
}

// Whatever they have in common.
func TestPagesThatAreReadTogetherAreThoseOfEachAlone(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	conn := connect(t, dsn)
	// Some are amended, some large, one oversized, and some deleted.
	exec(t, conn, `insert into events (type, subscriber, payload, amends)
		select 't' || n % 3, 'a' || n * n % 7 % 4, to_json(n || repeat(md5(n::text), case when n = 211 then 12000 when n % 5 = 0 then 500 else 1 end)),
			case when n % 11 = 0 then n - 7 end
		from generate_series(1, 400) n`)
	exec(t, conn, "delete from events where id % 13 = 0 and id < 100")
	store := openWith(t, postgresql.Config{URL: dsn, Name: "event-piper test", Pagers: 2, MaxPayload: 300_000})
	for seed := range uint64(8) {
		r := rand.New(rand.NewPCG(seed, 0))
		queries := make([]core.PageQuery, 40)
		for i := range queries {
			q := &queries[i]
			*q = core.PageQuery{After: int64(50 * r.IntN(8)), Limit: []int{1, 16, 20, 1000}[r.IntN(4)], Current: r.IntN(3) == 0}
			for a := range 4 {
				if r.IntN(2) == 0 || len(q.Addresses) == 0 && a == 3 {
					q.Addresses = append(q.Addresses, fmt.Sprint("a", a))
				}
			}
			if r.IntN(3) == 0 {
				q.Types = core.Types{fmt.Sprint("t", r.IntN(3))}
			}
		}
		for left := queries; len(left) > 0; {
			pages, err := store.Pages(t.Context(), left, core.Mark{})
			if err != nil || len(pages) == 0 {
				t.Fatalf("seed %d: %d pages (%v)", seed, len(pages), err)
			}
			for i, got := range pages {
				alone, err := store.Pages(t.Context(), left[i:i+1], core.Mark{})
				if err != nil {
					t.Fatal(err)
				}
				// What is large may end a page earlier where many are read.
				want := alone[0]
				if n := len(got.Events); n > 0 && n < len(want.Events) && got.More && got.Next == got.Events[n-1].ID {
					want.Events, want.More, want.Next = want.Events[:n], true, got.Next
				}
				if a, b := told(got), told(want); a != b {
					t.Fatalf("seed %d: %+v gets\n%s\nalone\n%s", seed, left[i], a, b)
				}
			}
			left = left[len(pages):]
		}
	}
}

// told is all that a page tells.
func told(p core.Page) string {
	var events []string
	for _, e := range p.Events {
		events = append(events, fmt.Sprintf("%d %s %s %d %d", e.ID, e.Consumer, e.Type, e.Amends, len(e.Payload)))
	}
	if !slices.IsSortedFunc(p.Events, func(a, b *core.Event) int { return int(a.ID - b.ID) }) {
		events = append(events, "not in order")
	}
	return fmt.Sprint(events, p.Next, p.More, p.Newest, p.Pruned, p.Ahead, p.Oversized)
}

package coretest

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/event-piper/event-piper/core"
)

func (s *suite) walk() {
	var mine []int64
	for range 7 {
		mine = append(mine, s.insert("toto", `{}`)...)
		s.insert("titi", `{}`)
	}
	newest := s.newest(s.follow())
	var got []*core.Event
	cursor, reads := int64(0), 0
	for more := true; more; reads++ {
		p := s.page("toto", cursor, 3)
		if len(p.Events) > 3 {
			s.Fatalf("a page of %d events, want at most 3", len(p.Events))
		}
		if p.More && p.Next != p.Events[len(p.Events)-1].ID {
			s.Errorf("with more to come the next cursor is %d, want the last event's %d", p.Next, p.Events[len(p.Events)-1].ID)
		}
		got, cursor, more = append(got, p.Events...), p.Next, p.More
	}
	s.wantIDs("all pages", got, mine...)
	if reads != 3 {
		s.Errorf("%d pages of 3 for 7 events, want 3", reads)
	}
	if p := s.page("toto", cursor, 3); p.Next != newest || p.More || p.Reset(core.PageQuery{After: cursor}) != nil {
		s.Errorf("in the end next is %d, more %t; want %d, past the others' events, false", p.Next, p.More, newest)
	}
	if p := s.page("toto", 0, 7); len(p.Events) != 7 || p.More {
		s.Errorf("a page with room for exactly all events has %d and more %t, want 7 and false", len(p.Events), p.More)
	}
	if p := s.page("nobody", 0, 7); len(p.Events) != 0 || p.Next != newest || p.More {
		s.Errorf("the page of a consumer without events has %d, next %d, more %t; want 0, %d, false", len(p.Events), p.Next, p.More, newest)
	}
}

// walkAll walks through all pages of a query.
func (s *suite) walkAll(q core.PageQuery) (events []*core.Event, cursor int64, reads int) {
	s.Helper()
	for more := true; more; reads++ {
		if reads > 1000 {
			s.Fatalf("no end of pages after %d", q.After)
		}
		pages, err := s.Pages(s.ctx, []core.PageQuery{q}, core.Mark{})
		s.ok(err)
		p := pages[0]
		if len(p.Events) > q.Limit || p.More && p.Next <= q.After {
			s.Fatalf("a page after %d has %d events and goes on after %d, want at most %d events, and some way", q.After, len(p.Events), p.Next, q.Limit)
		}
		events, q.After, more = append(events, p.Events...), p.Next, p.More
	}
	return events, q.After, reads
}

func (s *suite) typedPages() {
	want := s.fewRare()
	newest := s.newest(s.follow())
	for _, limit := range []int{1, 2, 1000} {
		q := core.PageQuery{Addresses: []string{"toto"}, Types: core.Types{"none", "rare"}, Limit: limit}
		got, cursor, reads := s.walkAll(q)
		s.wantIDs(fmt.Sprint("rare ones, by ", limit), got, want...)
		if cursor != newest {
			s.Errorf("the pages end at %d, want %d", cursor, newest)
		}
		if reads > 20 {
			s.Errorf("%d pages of up to %d events, want few", reads, limit)
		}
	}
	got, _, _ := s.walkAll(core.PageQuery{Addresses: []string{"toto"}, Types: core.Types{"common"}, Limit: 1000})
	if len(got) != 1495 {
		s.Errorf("%d common events, want 1495", len(got))
	}
}

func (s *suite) mergedPages() {
	var want, rare []int64
	for i := range 60 {
		address := fmt.Sprint("address-", i*i%5)
		tx := s.begin()
		typ := "common"
		if i%7 == 0 {
			typ = "rare"
		}
		id, err := tx.Insert(s.ctx, address, typ, `1`)
		s.ok(err)
		s.ok(tx.Commit(s.ctx))
		if address != "address-0" {
			want = append(want, id)
			if typ == "rare" {
				rare = append(rare, id)
			}
		}
	}
	addresses := []string{"address-1", "address-2", "address-3", "address-4", "nobody"}
	for _, limit := range []int{1, 3, 10, 1000} {
		got, _, _ := s.walkAll(core.PageQuery{Addresses: addresses, Limit: limit})
		s.wantIDs(fmt.Sprint("merged, by ", limit), got, want...)
		got, _, _ = s.walkAll(core.PageQuery{Addresses: addresses, Types: core.Types{"rare"}, Limit: limit})
		s.wantIDs(fmt.Sprint("merged rare ones, by ", limit), got, rare...)
	}
	s.ok(s.Delete(s.ctx, "address-4", want[10]))
	pages, err := s.Pages(s.ctx, []core.PageQuery{{Addresses: addresses, Limit: 10}}, core.Mark{})
	s.ok(err)
	if pages[0].Pruned == 0 {
		s.Error("a page does not say that events of one of its addresses were deleted")
	}
}

// noise is a payload of n bytes that no compression makes smaller.
func noise(n int) string {
	b := make([]byte, n/4*3)
	_, _ = rand.NewChaCha8([32]byte{}).Read(b) // never fails
	return `"` + base64.StdEncoding.EncodeToString(b) + `"`
}

func (s *suite) largePages() {
	large := noise(150 << 10)
	want := map[string][]int64{}
	queries := make([]core.PageQuery, 6)
	for i := range queries {
		consumer := fmt.Sprint("consumer-", i)
		want[consumer] = s.insert(consumer, large, large, large)
		queries[i] = core.PageQuery{Addresses: []string{consumer}, Limit: 1000}
	}
	got := map[string][]*core.Event{}
	rounds := 0
	for ; len(queries) > 0; rounds++ {
		pages, err := s.Pages(s.ctx, queries, core.Mark{})
		s.ok(err)
		if len(pages) == 0 || len(pages) > len(queries) {
			s.Fatalf("%d queries were answered with %d pages, want at least one and no more than asked", len(queries), len(pages))
		}
		again := slices.Clone(queries[len(pages):])
		for i, p := range pages {
			q := queries[i]
			consumer := q.Addresses[0]
			got[consumer] = append(got[consumer], p.Events...)
			for _, e := range p.Events {
				if e.Consumer != consumer {
					s.Errorf("the page of %s has an event of %s", consumer, e.Consumer)
				}
			}
			if p.More {
				again = append(again, core.PageQuery{Addresses: q.Addresses, After: p.Next, Limit: q.Limit})
			}
		}
		queries = again
	}
	if rounds < 2 {
		s.Errorf("18 payloads of %d bytes were read at once, want them bounded", len(large))
	}
	for consumer, ids := range want {
		s.wantIDs(consumer, got[consumer], ids...)
	}
}

func (s *suite) prunedPages() {
	f := s.follow()
	mine := s.insert("toto", `1`, `2`, `3`)
	others := s.insert("titi", `4`)
	s.ok(s.Delete(s.ctx, "toto", mine[1]))
	for _, test := range []struct {
		consumer string
		after    int64
		want     *core.ResetError
	}{
		{"toto", 0, &core.ResetError{Reason: core.Pruned, Oldest: mine[1], Newest: others[0]}},
		{"toto", mine[0], &core.ResetError{Reason: core.Pruned, Oldest: mine[1], Newest: others[0]}},
		{"toto", mine[1], nil},
		{"toto", others[0], nil},
		{"titi", 0, nil},
	} {
		q := core.PageQuery{Addresses: []string{test.consumer}, After: test.after, Limit: 10}
		p := s.page(test.consumer, q.After, q.Limit)
		got := p.Reset(q)
		if (got == nil) != (test.want == nil) || got != nil && *got != *test.want {
			s.Errorf("%s after %d: %v, want %v", test.consumer, test.after, got, test.want)
		}
	}
	s.ok(s.Delete(s.ctx, "titi", others[0]))
	if newest := s.newest(f); newest != others[0] {
		s.Errorf("after the newest event was deleted the newest position is %d, want %d still", newest, others[0])
	}
}

func (s *suite) prunedAboveWatermark() {
	open := s.begin()
	late := s.insertInto(open, "toto", `1`)
	gone := s.insert("toto", `2`)[0]
	s.ok(s.Delete(s.ctx, "toto", gone))
	if p := s.page("toto", 0, 10); p.Pruned >= late || p.Next >= late {
		s.Errorf("pruned through %d, next %d: want both below %d, which is about to commit", p.Pruned, p.Next, late)
	}
	s.ok(open.Commit(s.ctx))
	if p := s.page("toto", 0, 10); p.Pruned != gone {
		s.Errorf("pruned through %d, want %d", p.Pruned, gone)
	}
}

func (s *suite) ahead() {
	id := s.insert("toto", `1`)[0]
	for after, want := range map[int64]bool{0: false, id: false, id + 1: true, core.MaxID: true} {
		q := core.PageQuery{Addresses: []string{"toto"}, After: after, Limit: 10}
		p := s.page("toto", q.After, q.Limit)
		if p.Ahead != want {
			s.Errorf("after %d of %d: ahead is %t, want %t", after, id, p.Ahead, want)
		}
		if reset := p.Reset(q); want && (reset == nil || reset.Reason != core.Ahead || reset.Resume() != id) {
			s.Errorf("after %d: reset %v, want one that resumes at %d", after, reset, id)
		}
	}
}

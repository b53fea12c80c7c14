package coretest

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/event-piper/event-piper/core"
)

// TestStore checks that a store keeps the promises of core.Store. Open returns an empty one for each of the
// tests, which run in parallel.
func TestStore(t *testing.T, open func(t *testing.T) Harness) {
	for _, test := range []struct {
		name string
		run  func(*suite)
	}{
		{"an empty table", (*suite).emptyTable},
		{"an id that commits late is not skipped", (*suite).lateCommit},
		{"what was committed before a writer began is not held back", (*suite).earlierEvents},
		{"a rollback frees the watermark and is no position", (*suite).rollback},
		{"a savepoint's rollback frees the watermark until the next insert", (*suite).savepoint},
		{"pages walk through the history of one consumer", (*suite).walk},
		{"pages end early, and answer a prefix, when payloads are large", (*suite).largePages},
		{"a large event makes a read of its own", (*suite).largeEvents},
		{"a read of many events is cut short", (*suite).manyEvents},
		{"pages have the types they were asked for", (*suite).typedPages},
		{"a page merges several addresses", (*suite).mergedPages},
		{"amendments are told, and leave out what they amend if asked", (*suite).amendments},
		{"retention is reported", (*suite).prunedPages},
		{"retention above the watermark is no position", (*suite).prunedAboveWatermark},
		{"a cursor beyond every id is ahead", (*suite).ahead},
		{"marks tell what is there from what is not", (*suite).marks},
		{"a read brings the payloads it was asked for", (*suite).payloads},
		{"payloads are compact and otherwise exact", (*suite).exactPayloads},
		{"a commit ends a wait", (*suite).commitEndsWait},
		{"a rollback ends a wait", (*suite).rollbackEndsWait},
		{"a wait ends with its context", (*suite).cancelledWait},
		{"racing writers lose nothing", (*suite).race},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			h := open(t)
			test.run(&suite{writer: writer{t, h.Table, ctx}, Store: h.Store})
		})
	}
}

// suite is one test's store. Its methods end the test on errors.
type suite struct {
	writer
	core.Store
}

func (s *suite) follow() core.Follower {
	s.Helper()
	f, err := s.Follow(s.ctx)
	s.ok(err)
	s.Cleanup(f.Close)
	return f
}

func (s *suite) newest(f core.Follower) int64 {
	s.Helper()
	standing, err := f.Look(s.ctx, nil)
	s.ok(err)
	return standing.Newest.ID
}

func (s *suite) read(f core.Follower, after int64, consumers ...string) core.Read {
	s.Helper()
	r, err := f.Read(s.ctx, after, consumers)
	s.ok(err)
	return r
}

func (s *suite) page(consumer string, after int64, limit int) core.Page {
	s.Helper()
	pages, err := s.Pages(s.ctx, []core.PageQuery{{Addresses: []string{consumer}, After: after, Limit: limit}}, core.Mark{})
	s.ok(err)
	if len(pages) != 1 {
		s.Fatalf("one query was answered with %d pages, want 1", len(pages))
	}
	return pages[0]
}

func (s *suite) wantIDs(what string, events []*core.Event, want ...int64) {
	s.Helper()
	wantIDs(s.T, what, events, want...)
}

// wantVisible checks that both ways to read return the same events, all of which are toto's.
func (s *suite) wantVisible(what string, f core.Follower, want ...int64) {
	s.Helper()
	const consumer = "toto"
	r := s.read(f, 0, consumer)
	s.wantIDs(what+", live", r.Events, want...)
	p := s.page(consumer, 0, 1000)
	s.wantIDs(what+", history", p.Events, want...)
	var last int64
	if len(want) > 0 {
		last = want[len(want)-1]
	}
	if newest := s.newest(f); newest != last || p.Newest != last || p.Next != last || p.More {
		s.Errorf("%s: newest is %d, and the page's newest %d, next %d, more %t; want %d, %[6]d, %[6]d, false",
			what, newest, p.Newest, p.Next, p.More, last)
	}
}

func (s *suite) emptyTable() {
	f := s.follow()
	s.wantVisible("empty", f)
	if r := s.read(f, 0); r.Sequence != 0 || r.Watermark != 0 || r.Writers != 0 || r.More {
		s.Errorf("read %+v, want a position of 0 and no writers", r)
	}
}

func (s *suite) lateCommit() {
	f := s.follow()
	late, early := s.begin(), s.begin()
	first := s.insertInto(late, "toto", `1`)
	second := s.insertInto(early, "toto", `2`)
	s.ok(early.Commit(s.ctx))
	s.wantVisible("before the late commit", f)
	if r := s.read(f, 0); r.Sequence != second || r.Watermark >= first || r.Writers != 1 {
		s.Errorf("sequence %d, watermark %d, %d writers; want %d, less than %d, 1", r.Sequence, r.Watermark, r.Writers, second, first)
	}
	s.ok(late.Commit(s.ctx))
	s.wantVisible("after it", f, first, second)
	if r := s.read(f, 0); r.Watermark != second || r.Writers != 0 {
		s.Errorf("watermark %d with %d writers, want %d with none", r.Watermark, r.Writers, second)
	}
}

func (s *suite) earlierEvents() {
	f := s.follow()
	ids := s.insert("toto", `1`, `2`)
	open := s.begin()
	third := s.insertInto(open, "toto", `3`)
	fourth := s.insert("toto", `4`)[0]
	s.wantVisible("while a writer is in flight", f, ids...)
	s.ok(open.Commit(s.ctx))
	s.wantVisible("then", f, append(ids, third, fourth)...)
}

func (s *suite) rollback() {
	f := s.follow()
	committed := s.insert("toto", `1`)
	gone := s.begin()
	drawn := s.insertInto(gone, "toto", `2`)
	s.ok(gone.Rollback(s.ctx))
	s.wantVisible("after a rollback", f, committed...)
	if r := s.read(f, committed[0]); r.Sequence < drawn {
		s.Errorf("sequence %d, want at least %d, which was drawn", r.Sequence, drawn)
	}
	if p := s.page("toto", drawn, 10); p.Ahead || p.Next != drawn {
		s.Errorf("the page after the id that was drawn: ahead %t, next %d; want false, %d", p.Ahead, p.Next, drawn)
	}
}

func (s *suite) savepoint() {
	f := s.follow()
	tx := s.begin()
	s.ok(tx.Savepoint(s.ctx))
	s.insertInto(tx, "toto", `1`)
	held := s.insert("toto", `2`)[0]
	s.wantVisible("with an insert behind a savepoint", f)
	s.ok(tx.RollbackTo(s.ctx))
	s.wantVisible("after the savepoint's rollback", f, held)
	again := s.insertInto(tx, "toto", `3`)
	last := s.insert("toto", `4`)[0]
	s.wantVisible("after the next insert", f, held)
	s.ok(tx.Savepoint(s.ctx))
	s.insertInto(tx, "toto", `5`)
	s.ok(tx.RollbackTo(s.ctx))
	s.wantVisible("after the rollback of a savepoint behind an insert", f, held)
	s.ok(tx.Commit(s.ctx))
	s.wantVisible("in the end", f, held, again, last)
}

func (s *suite) largeEvents() {
	f := s.follow()
	large, huge := noise(400<<10), noise(4<<20)
	ids := s.insert("toto", large, large, huge, large, `1`)
	for name, r := range map[string]core.Read{"of the consumer": s.read(f, 0, "toto"), "of all": s.read(f, 0)} {
		s.wantIDs(name, r.Events, ids...)
		bytes, rounds := 0, 0
		for _, e := range r.Events {
			bytes += len(e.Payload)
		}
		if bytes > len(large) {
			s.Errorf("%s: the read brought %d bytes of payloads, want large ones left out", name, bytes)
		}
		for rest := r.Events; len(rest) > 0; rounds++ {
			n, err := f.FillPayloads(s.ctx, rest)
			s.ok(err)
			if n < 1 || n > len(rest) {
				s.Fatalf("%s: filled %d of %d events, want at least one", name, n, len(rest))
			}
			rest = rest[n:]
		}
		if rounds < 2 {
			s.Errorf("%s: three payloads of %d bytes were read at once, want them bounded", name, len(large))
		}
		for i, want := range []string{large, large, "", large, `1`} {
			if got := string(r.Events[i].Payload); got != want {
				s.Errorf("%s: event %d has %d bytes, want %d: what was inserted, but nothing of the largest", name, ids[i], len(got), len(want))
			}
		}
	}
	if p := s.page("toto", ids[1], 1); len(p.Events) != 1 || string(p.Events[0].Payload) != huge {
		s.Errorf("the page of the largest has %d events, want it", len(p.Events))
	}
}

func (s *suite) manyEvents() {
	const n = 2500
	f := s.follow()
	ids := s.insert("toto", slices.Repeat([]string{`{}`}, n)...)
	r := s.read(f, 0, "toto")
	if !r.More || len(r.Events) >= n {
		s.Fatalf("read %d events, more %t; want fewer than %d and true", len(r.Events), r.More, n)
	}
	rest := s.read(f, r.Events[len(r.Events)-1].ID, "toto")
	s.wantIDs("both reads", append(r.Events, rest.Events...), ids...)
	if rest.More {
		s.Error("the second read is cut short too")
	}
}

func (s *suite) marks() {
	f := s.follow()
	look := func(known ...core.Mark) core.Standing {
		standing, err := f.Look(s.ctx, known)
		s.ok(err)
		return standing
	}
	first := s.insert("toto", `1`)[0]
	marks := []core.Mark{look().Newest}
	for i := range 3 {
		s.insert([]string{"toto", "titi", "toto"}[i], `2`)
		marks = append(marks, s.read(f, marks[i].ID, "toto").Mark)
	}
	last := marks[3]
	if marks[0].ID != first || last.ID != first+3 || last != look().Newest {
		s.Fatalf("marks %v, and the newest is %v; want them to be of the last events", marks, look().Newest)
	}
	if none := s.read(f, last.ID, "toto").Mark; none != (core.Mark{}) {
		s.Errorf("a read without events has the mark %v, want none", none)
	}
	kept := func(what string, want int64, known ...core.Mark) {
		s.Helper()
		if got := look(known...).Kept; got != want {
			s.Errorf("%s: kept through %d, want %d", what, got, want)
		}
		if len(known) == 0 {
			return
		}
		newest := known[len(known)-1]
		_, err := s.Pages(s.ctx, []core.PageQuery{{Addresses: []string{"toto"}, Limit: 10}}, newest)
		if replaced := errors.Is(err, core.ErrReplaced); replaced != (want < newest.ID) || err != nil && !replaced {
			s.Errorf("%s: a page of what was read through %d: %v", what, newest.ID, err)
		}
	}
	kept("nothing known", 0)
	kept("all are there", last.ID, marks...)
	other := core.Mark{ID: last.ID, Stamp: last.Stamp + 1}
	kept("another has the id of the last", marks[2].ID, marks[0], marks[1], marks[2], other)
	kept("the last is gone", marks[1].ID, marks[0], marks[1], core.Mark{ID: last.ID + 1, Stamp: last.Stamp})
	kept("none is there", 0, other)
	s.ok(s.Redact(s.ctx, last.ID))
	kept("redacted", last.ID, marks...)
	s.ok(s.Delete(s.ctx, "toto", marks[2].ID))
	kept("deleted by retention", marks[1].ID, marks[1])
}

func (s *suite) payloads() {
	f := s.follow()
	a := s.insert("toto", `"a"`)[0]
	b := s.insert("titi", `"b"`)[0]
	c := s.insert("tutu", `"c"`)[0]
	d := s.insert("titi", `"d"`)[0]
	some := s.read(f, 0, "toto", "tutu")
	s.wantIDs("two consumers", some.Events, a, c)
	for i, want := range []string{`"a"`, `"c"`} {
		if got := string(some.Events[i].Payload); got != want {
			s.Errorf("event %d of %s has payload %q, want %q", some.Events[i].ID, some.Events[i].Consumer, got, want)
		}
	}
	none, err := f.Read(s.ctx, 0, []string{})
	s.ok(err)
	if len(none.Events) != 0 || none.Position != d || some.Position != d {
		s.Errorf("read for nobody: %d events up to %d, and for two consumers up to %d; want none, and both up to %d",
			len(none.Events), none.Position, some.Position, d)
	}
	r := s.read(f, 0)
	s.wantIDs("all consumers", r.Events, a, b, c, d)
	for i, consumer := range []string{"toto", "titi", "tutu", "titi"} {
		if e := r.Events[i]; e.Consumer != consumer || e.Payload != nil {
			s.Errorf("event %d is of %s with payload %q, want %s and none", e.ID, e.Consumer, e.Payload, consumer)
		}
	}
	s.ok(s.Delete(s.ctx, "titi", b))
	n, err := f.FillPayloads(s.ctx, r.Events)
	s.ok(err)
	if got := string(r.Events[3].Payload); n != 4 || got != `"d"` || r.Events[1].Payload != nil {
		s.Errorf("filled %d events, the last with %q, the deleted one with %q; want 4, \"d\", none", n, got, r.Events[1].Payload)
	}
	if n, err := f.FillPayloads(s.ctx, r.Events[2:]); n != 2 || err != nil {
		s.Errorf("filled %d events that have payloads (%v), want 2", n, err)
	}
}

func (s *suite) exactPayloads() {
	stored := "{ \"z\" : 1.0,\n\t\"a\": 12345678901234567890.10e+400, \"a\":\"\\u0041 \\\" \\\\\", \"é\": [ ] }"
	want := `{"z":1.0,"a":12345678901234567890.10e+400,"a":"\u0041 \" \\","é":[]}`
	f := s.follow()
	s.insert("toto", stored)
	if got := string(s.read(f, 0, "toto").Events[0].Payload); got != want {
		s.Errorf("live payload\n%s, want\n%s", got, want)
	}
	if got := string(s.page("toto", 0, 1).Events[0].Payload); got != want {
		s.Errorf("page's payload\n%s, want\n%s", got, want)
	}
	bare := s.read(f, 0).Events
	_, err := f.FillPayloads(s.ctx, bare)
	s.ok(err)
	if got := string(bare[0].Payload); got != want {
		s.Errorf("filled payload\n%s, want\n%s", got, want)
	}
}

package coretest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/event-piper/event-piper/core"
)

// Polling is a poller, and the table that it reads.
type Polling struct {
	core.Poller
	Table
}

// MaxPayload is the bound of payloads that TestPoller expects pollers to have.
const MaxPayload = 3 << 20

// TestPoller checks that a poller keeps the promises of core.Poller, whatever it reads with. Open returns one
// over an empty table for each of the tests, which run in parallel. It delivers payloads of up to MaxPayload.
func TestPoller(t *testing.T, open func(t *testing.T) Polling) {
	for _, test := range []struct {
		name string
		run  func(*pollSuite)
	}{
		{"an empty table", (*pollSuite).emptyTable},
		{"batches walk through history", (*pollSuite).walk},
		{"a commit ends a wait", (*pollSuite).commitEndsWait},
		{"a rollback ends a wait", (*pollSuite).rollbackEndsWait},
		{"an id that commits late is not skipped", (*pollSuite).lateCommit},
		{"an idle consumer's cursor moves on", (*pollSuite).cursorMovesOn},
		{"from now on", (*pollSuite).fromNow},
		{"types are found through all of history", (*pollSuite).types},
		{"topics are read beside the consumer's own address", (*pollSuite).topics},
		{"what is amended is left out of history if asked", (*pollSuite).current},
		{"a batch is bounded in bytes", (*pollSuite).largeBatches},
		{"an oversized event is told, and passed by", (*pollSuite).oversized},
		{"resets are told", (*pollSuite).resets},
		{"a poll ends with its client", (*pollSuite).clientLeaves},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			p := open(t)
			test.run(&pollSuite{writer: writer{t, p.Table, ctx}, poller: p.Poller})
		})
	}
}

// pollSuite is one test's poller. Its methods end the test on errors.
type pollSuite struct {
	writer
	poller core.Poller
}

const (
	// patience is how long a poll waits for what must come, and glance for what must not.
	patience = 30 * time.Second
	glance   = 30 * time.Millisecond
)

func (s *pollSuite) try(p core.Poll) (core.Batch, error) {
	if p.Consumer == "" {
		p.Consumer = "toto"
	}
	if p.Limit == 0 {
		p.Limit = 10
	}
	batch, err := s.poller.Poll(s.ctx, p)
	batch.Release()
	return batch, err
}

func (s *pollSuite) poll(p core.Poll) core.Batch {
	s.Helper()
	batch, err := s.try(p)
	s.ok(err)
	if batch.Cursor < p.After {
		s.Fatalf("a poll after %d ended at %d", p.After, batch.Cursor)
	}
	return batch
}

// settle waits until the poller has come to a position: one that reads for many gets there after the commit.
func (s *pollSuite) settle(position int64) {
	s.Helper()
	for cursor := core.FromNow; cursor < position; {
		cursor = s.poll(core.Poll{Consumer: "nobody", After: cursor, Wait: glance}).Cursor
	}
}

// walkAll polls until it has as many events as are wanted.
func (s *pollSuite) walkAll(p core.Poll, want int) (events []*core.Event) {
	s.Helper()
	p.Wait = patience
	for len(events) < want {
		b := s.poll(p)
		if len(b.Events) > p.Limit || len(b.Events) == 0 && !b.More {
			s.Fatalf("a poll after %d got %d events, more %t; want 1 to %d", p.After, len(b.Events), b.More, p.Limit)
		}
		events, p.After = append(events, b.Events...), b.Cursor
	}
	return events
}

func (s *pollSuite) wantIDs(what string, events []*core.Event, want ...int64) {
	s.Helper()
	wantIDs(s.T, what, events, want...)
}

func (s *pollSuite) emptyTable() {
	for _, after := range []int64{core.FromNow, core.FromStart} {
		if b := s.poll(core.Poll{After: after, Wait: glance}); len(b.Events) != 0 || b.Cursor != 0 || b.More {
			s.Errorf("after %d: %+v, want nothing and the cursor 0", after, b)
		}
	}
}

func (s *pollSuite) walk() {
	var mine []int64
	for range 7 {
		mine = append(mine, s.insert("toto", `{"n": 1}`)...)
		s.insert("titi", `{}`)
	}
	newest := mine[6] + 1
	s.settle(newest)
	for _, limit := range []int{1, 3, 7, 100} {
		var got []*core.Event
		var cursor int64
		for more := true; more; {
			b := s.poll(core.Poll{After: cursor, Limit: limit})
			if len(b.Events) == 0 || len(b.Events) > limit {
				s.Fatalf("a batch of %d events, want 1 to %d", len(b.Events), limit)
			}
			got, cursor, more = append(got, b.Events...), b.Cursor, b.More
		}
		s.wantIDs(fmt.Sprint("by ", limit), got, mine...)
		e := got[0]
		if e.Consumer != "toto" || e.Type != "insert" || string(e.Payload) != `{"n":1}` || e.Timestamp.IsZero() {
			s.Errorf("got %+v, want what was inserted", e)
		}
	}
	if b := s.poll(core.Poll{After: newest}); len(b.Events) != 0 || b.Cursor != newest || b.More {
		s.Errorf("at the end: %+v, want nothing and the cursor %d", b, newest)
	}
}

func (s *pollSuite) commitEndsWait() {
	var cursor int64
	for range 20 {
		inserted := s.insertMeanwhile("toto")
		b := s.poll(core.Poll{After: cursor, Wait: patience})
		s.wantIDs("the answer", b.Events, <-inserted)
		cursor = b.Cursor
	}
}

func (s *pollSuite) rollbackEndsWait() {
	open := s.begin()
	s.insertInto(open, "toto", `1`)
	held := s.insert("toto", `2`)[0]
	if b := s.poll(core.Poll{After: 0, Wait: glance}); len(b.Events) > 0 {
		s.Fatalf("got event %d past a writer in flight", b.Events[0].ID)
	}
	rolledBack := make(chan error, 1)
	go func() { rolledBack <- open.Rollback(s.ctx) }()
	s.wantIDs("after the rollback", s.poll(core.Poll{After: 0, Wait: patience}).Events, held)
	s.ok(<-rolledBack)
}

func (s *pollSuite) lateCommit() {
	earlier := s.insert("toto", `0`)[0]
	s.settle(earlier)
	late := s.begin()
	first := s.insertInto(late, "toto", `1`)
	second := s.insert("toto", `2`)[0]
	b := s.poll(core.Poll{After: earlier, Wait: glance})
	if len(b.Events) > 0 || b.Cursor >= first {
		s.Fatalf("before the late commit: %d events, cursor %d; want none, below %d", len(b.Events), b.Cursor, first)
	}
	s.ok(late.Commit(s.ctx))
	got := s.walkAll(core.Poll{After: b.Cursor, Limit: 10}, 2)
	s.wantIDs("after it", got, first, second)
}

func (s *pollSuite) cursorMovesOn() {
	others := s.insert("titi", `1`, `2`)
	s.settle(others[1])
	if b := s.poll(core.Poll{After: 0}); b.Cursor != others[1] || b.More {
		s.Errorf("the cursor is %d, more %t; want %d, false", b.Cursor, b.More, others[1])
	}
	third := s.insert("titi", `3`)[0]
	s.settle(third)
	if b := s.poll(core.Poll{After: others[1], Wait: glance}); b.Cursor != third {
		s.Errorf("after a wait the cursor is %d, want %d", b.Cursor, third)
	}
}

func (s *pollSuite) fromNow() {
	s.settle(s.insert("toto", `1`)[0])
	now := s.poll(core.Poll{After: core.FromNow})
	if len(now.Events) != 0 {
		s.Errorf("from now on got event %d", now.Events[0].ID)
	}
	id := s.insert("toto", `2`)[0]
	s.wantIDs("the next", s.poll(core.Poll{After: now.Cursor, Wait: patience}).Events, id)
}

func (s *pollSuite) types() {
	want := s.fewRare()
	for _, limit := range []int{1, 2, 1000} {
		got := s.walkAll(core.Poll{Types: core.Types{"none", "rare"}, Limit: limit}, len(want))
		s.wantIDs(fmt.Sprint("rare ones, by ", limit), got, want...)
	}
	s.settle(want[4])
	none := core.Poll{Types: core.Types{"none"}, Wait: glance}
	for b := s.poll(none); ; b = s.poll(none) {
		if len(b.Events) > 0 || none.After == b.Cursor && b.More {
			s.Fatalf("none of a type: %+v after %d, want no events, and some way", b, none.After)
		}
		if none.After = b.Cursor; !b.More {
			break
		}
	}
	if none.After != want[4] {
		s.Errorf("none of a type: the cursor is %d in the end, want %d", none.After, want[4])
	}
}

func (s *pollSuite) topics() {
	var want []int64
	for i := range 40 {
		address := []string{"toto", "team-7", "others", "order-17"}[i*i%7%4]
		if id := s.insert(address, `1`)[0]; address != "others" {
			want = append(want, id)
		}
	}
	p := core.Poll{Topics: []string{"team-7", "order-17", "nothing"}}
	for _, p.Limit = range []int{1, 3, 100} {
		got := s.walkAll(p, len(want))
		s.wantIDs(fmt.Sprint("by ", p.Limit), got, want...)
	}
	last := want[len(want)-1]
	inserted := s.insertMeanwhile("order-17")
	p.After, p.Wait = last, patience
	b := s.poll(p)
	s.wantIDs("a topic's event ends a wait", b.Events, <-inserted)
	if got := b.Events[0].Consumer; got != "order-17" {
		s.Errorf("the event is of %s, want the topic", got)
	}
}

func (s *pollSuite) current() {
	ids := s.insert("toto", `1`, `2`)
	tx := s.begin()
	amendment, err := tx.Amend(s.ctx, "toto", "corrected", `0`, ids[0])
	s.ok(err)
	s.ok(tx.Commit(s.ctx))
	s.settle(amendment)
	for _, limit := range []int{1, 10} {
		got := s.walkAll(core.Poll{Current: true, Limit: limit}, 2)
		s.wantIDs("the current ones", got, ids[1], amendment)
		if got[1].Amends != ids[0] {
			s.Errorf("the amendment amends %d, want %d", got[1].Amends, ids[0])
		}
	}
}

func (s *pollSuite) largeBatches() {
	large, huge := noise(400<<10), noise(2<<20)
	want := s.insert("toto", large, large, large, huge, large, `1`)
	var got []*core.Event
	for cursor := int64(0); len(got) < len(want); {
		b := s.poll(core.Poll{After: cursor, Limit: 1000, Wait: patience})
		bytes := 0
		for _, e := range b.Events {
			bytes += len(e.Payload)
		}
		if len(b.Events) == 0 || len(b.Events) > 1 && bytes > 1<<20 {
			s.Fatalf("a batch of %d events with %d bytes, want up to 1 MiB, or one event", len(b.Events), bytes)
		}
		got, cursor = append(got, b.Events...), b.Cursor
	}
	s.wantIDs("all batches", got, want...)
}

func (s *pollSuite) oversized() {
	ids := s.insert("toto", `1`, noise(MaxPayload+1<<10), `3`)
	s.settle(ids[2])
	b := s.poll(core.Poll{After: 0, Wait: patience})
	s.wantIDs("before it", b.Events, ids[0])
	_, err := s.try(core.Poll{After: b.Cursor, Wait: patience})
	reset, ok := errors.AsType[*core.ResetError](err)
	if !ok || reset.Reason != core.Oversized || reset.Resume() != ids[1] {
		s.Fatalf("at it: %v, want that it is oversized, and to go on after %d", err, ids[1])
	}
	s.wantIDs("after it", s.poll(core.Poll{After: reset.Resume(), Wait: patience}).Events, ids[2])
}

func (s *pollSuite) resets() {
	ids := s.insert("toto", `1`, `2`, `3`)
	s.ok(s.Delete(s.ctx, "toto", ids[1]))
	s.settle(ids[2])
	for _, test := range []struct {
		after int64
		want  core.ResetError
	}{
		{0, core.ResetError{Reason: core.Pruned, Oldest: ids[1], Newest: ids[2]}},
		{ids[2] + 1000, core.ResetError{Reason: core.Ahead, Oldest: ids[1], Newest: ids[2]}},
	} {
		_, err := s.try(core.Poll{After: test.after, Wait: patience})
		if reset, ok := errors.AsType[*core.ResetError](err); !ok || *reset != test.want {
			s.Errorf("after %d: %v, want %v", test.after, err, &test.want)
		}
	}
	// A topic of which events were deleted, too.
	_, err := s.try(core.Poll{Consumer: "titi", Topics: []string{"toto"}, After: 0, Wait: patience})
	if reset, ok := errors.AsType[*core.ResetError](err); !ok || reset.Reason != core.Pruned {
		s.Errorf("with the topic: %v, want that it is pruned", err)
	}
}

func (s *pollSuite) clientLeaves() {
	ctx, cancel := context.WithCancel(s.ctx)
	ended := make(chan error, 1)
	go func() {
		_, err := s.poller.Poll(ctx, core.Poll{Consumer: "toto", After: core.FromNow, Limit: 1, Wait: patience})
		ended <- err
	}()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		s.Errorf("the poll ended with %v, want %v", err, context.Canceled)
	}
	id := s.insert("toto", `1`)[0]
	s.wantIDs("the next poll", s.poll(core.Poll{After: 0, Wait: patience}).Events, id)
}

func wantIDs(t *testing.T, what string, events []*core.Event, want ...int64) {
	t.Helper()
	got := make([]int64, 0, len(events))
	for _, e := range events {
		got = append(got, e.ID)
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s: events %v, want %v", what, got, want)
	}
}

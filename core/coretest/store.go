// Package coretest has a store in memory that can be made to fail, and the conformance suite that every
// store must pass.
package coretest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/event-piper/event-piper/core"
)

// ErrLost is what a broken connection answers.
var ErrLost = errors.New("the connection is lost")

const (
	// safetyPause is how long a follower waits for a ring before it reads unasked.
	safetyPause = time.Second
	// maxReadEvents bounds the events of a read, which come with payloads of up to smallPayload bytes.
	maxReadEvents = 2000
	smallPayload  = 1 << 10
	// largePayload is what a larger one is left to history by.
	largePayload = 1 << 20
	// maxReadBytes bounds the payloads of pages and of FillPayloads; a larger one makes a read of its own.
	maxReadBytes = 512 << 10
)

// Store is a table of events in memory. As in PostgreSQL, an id is drawn at insert and becomes visible at
// commit, so ids become visible in any order; a watermark computed from the writers in flight keeps readers
// from going past one that may still appear.
type Store struct {
	mu sync.Mutex
	// All below is guarded by mu.
	sequence  int64           // the highest id drawn
	events    []*core.Event   // the visible ones, in order
	writers   []*Tx           // those in flight that have inserted
	stamps    map[int64]int64 // of events
	stamp     int64           // the last one given
	pruned    map[string]int64
	followers map[*follower]struct{}
	// connections are those of Connect, followers with a part of their own: whether they are armed.
	connections map[*connection]bool
	pids        int
	faults      Faults
	calls       Calls
}

// Faults say what goes wrong in a store. The zero value is nothing.
type Faults struct {
	// IgnoreWatermark makes reads return whatever is visible, as "id > cursor" alone would. It loses events.
	IgnoreWatermark bool
	// Fail is asked before a call of the store or of a follower, by the name of its method. Its error is the
	// call's; a follower's connection is lost with it. Fail may block, to make the call slow, and must then
	// return when ctx ends.
	Fail func(ctx context.Context, method string) error
	// LoseRings keeps commits from ending a Wait early, RingAfter delays that.
	LoseRings bool
	RingAfter time.Duration
	// Damaged tells the events that no read can return.
	Damaged func(*core.Event) bool
	// MaxPayload is what a larger payload is oversized by; 0 is no bound.
	MaxPayload int
	// MaxPages and MaxPayloads bound how many queries of Pages and events of FillPayloads are answered at a
	// time, MaxPageEvents and MaxEvents the events of a page and of a Read; 0 is the store's own bound.
	MaxPages, MaxPayloads, MaxPageEvents, MaxEvents int
}

// Calls counts the calls of a store's and its followers' methods.
type Calls struct {
	Follow, Read, FillPayloads, Pages int
	// Queries counts the queries of all Pages, PagesAtOnce the most Pages that ran at the same time.
	Queries, PagesAtOnce int
	pages                int // running now
}

// NewStore returns an empty store.
func NewStore() *Store {
	return &Store{stamps: map[int64]int64{}, pruned: map[string]int64{}, followers: map[*follower]struct{}{}, connections: map[*connection]bool{}}
}

// SetFaults replaces the faults.
func (s *Store) SetFaults(f Faults) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = f
}

// Calls returns the counts so far.
func (s *Store) Calls() Calls {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

// Disconnect breaks all connections.
func (s *Store) Disconnect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for f := range s.followers {
		f.lose()
	}
	for c := range s.connections {
		c.lose()
	}
}

// Following counts the followers' connections.
func (s *Store) Following() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.followers)
}

// Insert commits one event and returns its id.
func (s *Store) Insert(consumer, typ, payload string) int64 {
	tx := s.Begin()
	defer tx.Commit()
	return tx.Insert(consumer, typ, payload)
}

// Delete deletes a consumer's visible events up to and including an id, as retention does.
func (s *Store) Delete(consumer string, through int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = slices.DeleteFunc(s.events, func(e *core.Event) bool {
		gone := e.Consumer == consumer && e.ID <= through
		if gone {
			s.pruned[consumer] = max(s.pruned[consumer], e.ID)
			delete(s.stamps, e.ID)
		}
		return gone
	})
}

// Restore goes back to the backup made when sequence was the highest id drawn.
func (s *Store) Restore(sequence int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sequence = sequence
	s.events = slices.DeleteFunc(s.events, func(e *core.Event) bool { return e.ID > sequence })
	maps.DeleteFunc(s.stamps, func(id, _ int64) bool { return id > sequence })
	maps.DeleteFunc(s.pruned, func(_ string, through int64) bool { return through > sequence })
	s.ring()
}

// Visible returns the events of a consumer that readers may be given: those up to the watermark.
func (s *Store) Visible(consumer string) []*core.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	watermark := s.watermark()
	return slices.DeleteFunc(slices.Clone(s.events), func(e *core.Event) bool {
		return e.Consumer != consumer || e.ID > watermark
	})
}

// ring ends the waits of those that follow or are armed, or not, as the faults say.
func (s *Store) ring() {
	if s.faults.LoseRings {
		return
	}
	for f := range s.followers {
		s.ringAt(&f.door)
	}
	for c, armed := range s.connections {
		if armed {
			s.ringAt(&c.door)
		}
	}
}

func (s *Store) ringAt(d *door) {
	if after := s.faults.RingAfter; after > 0 {
		time.AfterFunc(after, d.ring)
	} else {
		d.ring()
	}
}

// watermark is the highest id at or below which nothing can appear any more.
func (s *Store) watermark() int64 {
	w := s.sequence
	if s.faults.IgnoreWatermark {
		return w
	}
	for _, tx := range s.writers {
		w = min(w, tx.before)
	}
	return w
}

// newest is the highest id at or below the watermark that was committed.
func (s *Store) newest() (newest int64) {
	w := s.watermark()
	for _, e := range s.events {
		if e.ID <= w {
			newest = e.ID
		}
	}
	for _, through := range s.pruned {
		if through <= w {
			newest = max(newest, through)
		}
	}
	return newest
}

// after returns the visible events after a position.
func (s *Store) after(position int64) []*core.Event {
	w := s.watermark()
	search := func(id int64) int {
		i, _ := slices.BinarySearchFunc(s.events, id, func(e *core.Event, id int64) int { return cmp.Compare(e.ID, id) })
		return i
	}
	from := search(position + 1)
	return s.events[from:max(from, search(w+1))]
}

// fail returns what the faults make of a call.
func (s *Store) fail(ctx context.Context, method string, count *int) error {
	s.mu.Lock()
	*count++
	fail := s.faults.Fail
	s.mu.Unlock()
	if fail != nil {
		if err := fail(ctx, method); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// Pages implements core.Store.
func (s *Store) Pages(ctx context.Context, queries []core.PageQuery, known core.Mark) ([]core.Page, error) {
	s.mu.Lock()
	s.calls.Queries += len(queries)
	s.calls.pages++
	s.calls.PagesAtOnce = max(s.calls.PagesAtOnce, s.calls.pages)
	s.mu.Unlock()
	err := s.fail(ctx, "Pages", &s.calls.Pages)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls.pages--
	if err != nil {
		return nil, err
	}
	if known.ID > s.sequence || known.Stamp != 0 && !s.has(known) {
		return nil, core.ErrReplaced
	}
	if n := s.faults.MaxPages; n > 0 {
		queries = queries[:min(n, len(queries))]
	}
	var pages []core.Page
	shared := map[int64]*core.Event{}
	for bytes := 0; len(pages) < len(queries) && bytes < maxReadBytes; {
		page, err := s.page(queries[len(pages)], known.ID, shared, &bytes)
		if err != nil {
			return nil, err
		}
		pages = append(pages, page)
	}
	return pages, nil
}

// has reports that the event of a mark is there, or was deleted by retention. The caller holds the mutex.
func (s *Store) has(m core.Mark) bool {
	if stamp, ok := s.stamps[m.ID]; ok && stamp == m.Stamp {
		return true
	}
	for _, through := range s.pruned {
		if through >= m.ID {
			return true
		}
	}
	return false
}

// scanned bounds the events that a page of some types looks at.
const scanned = 200

// page makes a page. As in PostgreSQL, the pages of one read share their events.
func (s *Store) page(q core.PageQuery, known int64, shared map[int64]*core.Event, bytes *int) (core.Page, error) {
	if n := s.faults.MaxPageEvents; n > 0 {
		q.Limit = min(q.Limit, n)
	}
	newest := max(s.newest(), known)
	page := core.Page{
		Next: max(q.After, newest), Newest: newest,
		Ahead: q.After > s.sequence,
	}
	for _, address := range q.Addresses {
		page.Pruned = max(page.Pruned, min(s.pruned[address], newest))
	}
	looked, last := 0, q.After
	for _, e := range s.after(q.After) {
		if !slices.Contains(q.Addresses, e.Consumer) {
			continue
		}
		if looked++; looked > scanned && len(q.Types) > 0 {
			page.More, page.Next = true, last
			break
		}
		last = e.ID
		if !q.Types.Want(e.Type) || q.Current && s.amended(e) {
			continue
		}
		if len(page.Events) == q.Limit || len(page.Events) > 0 && *bytes >= maxReadBytes {
			page.More, page.Next = true, page.Events[len(page.Events)-1].ID
			break
		}
		if err := s.damaged(e); err != nil {
			return page, err
		}
		if n := s.faults.MaxPayload; n > 0 && len(e.Payload) > n {
			page.More = true
			if page.Next = q.After; len(page.Events) > 0 {
				page.Next = page.Events[len(page.Events)-1].ID
			} else {
				page.Oversized = e.ID
			}
			break
		}
		if shared[e.ID] == nil {
			shared[e.ID] = copied(e, true)
			*bytes += len(e.Payload)
		}
		page.Events = append(page.Events, shared[e.ID])
	}
	return page, nil
}

// amended reports that a later event of the same address that is visible amends an event.
func (s *Store) amended(e *core.Event) bool {
	return slices.ContainsFunc(s.after(e.ID), func(a *core.Event) bool { return a.Amends == e.ID && a.Consumer == e.Consumer })
}

// damaged returns the error of a read that would return an event.
func (s *Store) damaged(e *core.Event) error {
	if s.faults.Damaged != nil && s.faults.Damaged(e) {
		return fmt.Errorf("event %d: %w", e.ID, core.ErrUnreadable)
	}
	return nil
}

// copied returns an event as a read from a table would: nobody else has it.
func copied(e *core.Event, payload bool) *core.Event {
	c := &core.Event{ID: e.ID, Type: e.Type, Timestamp: e.Timestamp, Consumer: e.Consumer, Amends: e.Amends}
	if payload {
		c.Payload = e.Payload
	}
	return c
}

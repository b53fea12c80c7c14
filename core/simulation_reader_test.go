package core_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/event-piper/event-piper/core"
)

// simReader is a client with one cursor. It knows what it must get next, and fails the test when it gets something else.
type simReader struct {
	s       *simulation
	name    string
	granted granted
	types   core.Types
	current bool
	cursor  int64
	rewound bool // the database went back, and the reader may be told, but must get nothing of what is gone

	// addresses are what it must be given: its own, and the topics that it follows since it asked last.
	addresses []string
	topics    []string // what the code under test makes of what it asked for
	asked     int      // counts
	lost      bool     // what led to its cursor is gone, and it must be told before it gets anything

	// of its stream, if it has one
	session *core.Session
	at      *instance
	woken   atomic.Bool
}

func (s *simulation) newReader() *simReader {
	r := &simReader{s: s, name: fmt.Sprint("reader-", len(s.readers)), granted: s.grant(), current: s.r.IntN(4) == 0}
	r.addresses = []string{r.granted.consumer}
	r.ask()
	if s.r.IntN(4) == 0 {
		r.types = core.Types{simTypes[s.r.IntN(2)]}
	}
	return r
}

func (r *simReader) wants(f *fact) bool {
	return slices.Contains(r.addresses, f.address) && r.types.Want(f.typ)
}

// turn goes on reading in one of the ways.
func (r *simReader) turn() {
	if r.session != nil {
		if r.s.r.IntN(4) == 0 {
			r.session.Discard() // its client stalls
			return
		}
		r.take(1 + r.s.r.IntN(6))
		return
	}
	switch r.s.r.IntN(4) {
	case 0:
		r.poll()
	case 1:
		r.page()
	default:
		r.stream()
	}
}

func (r *simReader) leave() {
	if r.session != nil {
		r.s.say("%s leaves at %d", r.name, r.cursor)
		r.session.Close()
		r.session = nil
	}
}

// stream opens a session, unless there is one.
func (r *simReader) stream() {
	if r.session != nil {
		return
	}
	r.mayAsk()
	r.at = r.s.hubs[r.s.r.IntN(len(r.s.hubs))]
	cursor := r.cursor
	if cursor == 0 && r.s.r.IntN(3) == 0 {
		cursor = core.FromNow
	}
	session, err := r.at.hub.Load().Open(r.addresses[0], cursor, r.types, func() { r.woken.Store(true) }, r.topics...)
	if err != nil {
		return // not started yet
	}
	session.SetView(core.View{Current: r.current})
	r.session = session
	if cursor == core.FromNow {
		r.cursor = session.Cursor() // the first frame says it
	}
	r.woken.Store(true)
	r.s.say("%s streams after %d", r.name, r.cursor)
}

// takeAll takes as long as there was something, or the session was woken; it reports whether there was.
func (r *simReader) takeAll() (busy bool) {
	for r.session != nil && r.woken.Load() && r.take(100) {
		busy = true
	}
	return busy
}

// take takes once, if the session was woken since it last took nothing.
func (r *simReader) take(limit int) (got bool) {
	if !r.woken.Swap(false) {
		return false
	}
	position := r.at.hub.Load().Status().Position
	events, err := r.session.Take(nil, limit, 1<<20)
	var reset *core.ResetError
	switch {
	case errors.As(err, &reset):
		r.woken.Store(true)
		r.reset(reset)
		if at := r.session.Cursor(); at != r.cursor {
			r.s.Errorf("%s: after a reset to %d the session is at %d", r.name, r.cursor, at)
		}
		return true
	case err != nil && !errors.Is(err, core.ErrUnavailable):
		r.s.Errorf("%s: take: %v", r.name, err)
	}
	r.got(events, position)
	r.moved(r.session.Cursor())
	if len(events) > 0 {
		r.woken.Store(true) // there may be more
		r.s.say("%s took up to %d", r.name, r.cursor)
	}
	return len(events) > 0
}

// poll asks an instance for what there is.
func (r *simReader) poll() {
	r.mayAsk()
	hub := r.s.hubs[r.s.r.IntN(len(r.s.hubs))].hub.Load()
	poll := core.Poll{Consumer: r.addresses[0], Topics: r.topics, After: r.cursor, Types: r.types, Current: r.current,
		Limit: 1 + r.s.r.IntN(10), Wait: time.Duration(r.s.r.IntN(3)) * 300 * time.Millisecond}
	asked, position := r.asked, hub.Status().Position
	r.s.resting++ // or an instance would wait for this
	r.s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	batch, err := hub.Poll(ctx, poll)
	cancel()
	r.s.mu.Lock()
	r.s.resting--
	if r.session != nil || r.cursor != poll.After || r.asked != asked {
		batch.Release()
		return // somebody else went on meanwhile
	}
	r.answer("polls", batch.Events, position, batch.Cursor, err)
	batch.Release()
}

// page reads as a Lambda does: a page of the table, without an instance.
func (r *simReader) page() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	r.mayAsk()
	query := core.PageQuery{Addresses: append([]string{r.addresses[0]}, r.topics...), After: r.cursor, Types: r.types, Current: r.current,
		Limit: 1 + r.s.r.IntN(10)}
	asked, newest := r.asked, r.s.newest()
	r.s.mu.Unlock()
	pages, err := r.s.store.Pages(ctx, []core.PageQuery{query}, core.Mark{})
	r.s.mu.Lock()
	if r.session != nil || r.cursor != query.After || r.asked != asked {
		return
	}
	if err != nil {
		return
	}
	if reset := pages[0].Reset(query); reset != nil {
		r.answer("reads a page", nil, 0, 0, reset)
		return
	}
	for id, f := range r.s.truth {
		if f.deleted && !f.vague && slices.Contains(r.addresses, f.address) && id > r.cursor && id <= pages[0].Next {
			r.s.Errorf("%s: is not told that %d after %d was deleted", r.name, id, r.cursor)
		}
	}
	r.answer("reads a page", pages[0].Events, newest, pages[0].Next, nil)
}

func (r *simReader) answer(how string, events []*core.Event, position, cursor int64, err error) {
	var reset *core.ResetError
	switch {
	case errors.As(err, &reset):
		r.reset(reset)
	case err == nil:
		r.got(events, position)
		r.moved(cursor)
		r.s.say("%s %s up to %d", r.name, how, r.cursor)
	}
}

// got checks events as they come: wanted, committed, exact, and none before them left out. Whoever gave them had read up to a
// position before, and nothing that was redacted up to there.
func (r *simReader) got(events []*core.Event, position int64) {
	for _, e := range events {
		f := r.s.truth[e.ID]
		switch {
		case r.lost:
			r.s.Errorf("%s: got %d, and is not told that what led to its cursor is gone", r.name, e.ID)
		case f == nil:
			r.s.Errorf("%s: got %d, which was not committed", r.name, e.ID)
		case e.ID <= r.cursor:
			r.s.Errorf("%s: got %d when the cursor was at %d", r.name, e.ID, r.cursor)
		case f.redaction > position && !f.deleted && string(e.Payload) == f.was:
		case f.deleted && string(e.Payload) == f.was:
		case !r.wants(f) || e.Consumer != f.address || e.Type != f.typ || string(e.Payload) != f.payload:
			r.s.Errorf("%s: got %d of %s, %s, %.40s; it is of %s, %s, %.40s", r.name, e.ID, e.Consumer, e.Type, e.Payload, f.address, f.typ, f.payload)
		}
		r.moved(e.ID - 1)
		r.cursor = max(r.cursor, e.ID)
	}
}

// moved checks that nothing was left out up to a cursor.
func (r *simReader) moved(cursor int64) {
	if cursor < r.cursor {
		return // of events that came with it
	}
	for id, f := range r.s.truth {
		if id > r.cursor && id <= cursor && !f.deleted && r.wants(f) && (!r.current || !r.s.amended(id)) {
			r.s.Errorf("%s: the cursor went from %d to %d, past %d", r.name, r.cursor, cursor, id)
		}
	}
	r.cursor = cursor
}

// reset checks that a reset is true, and goes on from where it says.
func (r *simReader) reset(reset *core.ResetError) {
	r.s.say("%s is told that %d is %s, oldest %d, newest %d", r.name, r.cursor, reset.Reason, reset.Oldest, reset.Newest)
	justified := false
	switch reset.Reason {
	case core.Pruned:
		for id, f := range r.s.truth {
			// What was deleted may be above the watermark, where no cursor can go on.
			justified = justified || f.deleted && slices.Contains(r.addresses, f.address) && id > r.cursor
		}
		justified = justified && reset.Oldest > r.cursor || r.rewound
	case core.Ahead:
		// A cursor at which the database went on may have been given before.
		justified = r.rewound || r.cursor <= r.s.backTo
		r.lost = false
	}
	if !justified {
		r.s.Errorf("%s: a reset from %d: %v", r.name, r.cursor, reset)
	}
	if r.cursor = reset.Newest; reset.Reason == core.Pruned {
		r.cursor = reset.Oldest
	}
}

// seam is the store, with the world going on right before and right after each call.
type seam struct{ s *simulation }

func (m seam) Pages(ctx context.Context, queries []core.PageQuery, known core.Mark) ([]core.Page, error) {
	m.s.between()
	defer m.s.between()
	defer m.s.linger()
	return m.s.store.Pages(ctx, queries, known)
}

func (m seam) Follow(ctx context.Context) (core.Follower, error) {
	m.s.between()
	f, err := m.s.store.Follow(ctx)
	if err != nil {
		return nil, err
	}
	m.s.between()
	return seamFollower{f, m.s}, nil
}

type seamFollower struct {
	core.Follower
	s *simulation
}

func (f seamFollower) Look(ctx context.Context, known []core.Mark) (core.Standing, error) {
	f.s.between()
	defer f.s.between()
	return f.Follower.Look(ctx, known)
}

func (f seamFollower) Read(ctx context.Context, after int64, addresses []string) (core.Read, error) {
	f.s.between()
	defer f.s.between()
	return f.Follower.Read(ctx, after, addresses)
}

func (f seamFollower) FillPayloads(ctx context.Context, events []*core.Event) (int, error) {
	f.s.between()
	defer f.s.between()
	return f.Follower.FillPayloads(ctx, events)
}

func (f seamFollower) Wait(ctx, hurried context.Context) error {
	f.s.between()
	return f.Follower.Wait(ctx, hurried)
}

package core

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"
)

// Limits bound what a hub holds.
type Limits struct {
	// Sessions bounds the open sessions in all, SessionsPerConsumer those of one consumer.
	Sessions, SessionsPerConsumer int
	// Pagers is how many pages are read at the same time, each over a connection of its own.
	Pagers int
	// TailBytes bounds the recent events kept in memory for all consumers together. The newest event is
	// kept whatever its size.
	TailBytes int
	// HeldBackDown is how long one transaction may hold back the events of all before the hub is not healthy; 0 is for ever.
	HeldBackDown time.Duration
	// BufferBytes bounds what is held between the table and slow clients, a quarter of it for one consumer; 0
	// stands for 64 MB.
	BufferBytes int
}

const (
	// linger is how long a tail outlives its last session.
	linger = time.Minute
	// stalledAfter is how long the follower may go without a successful read before it counts as stalled.
	stalledAfter = 5 * time.Second
)

// Hub follows a store for all sessions of an instance: it reads every event once, keeps each consumer's
// recent ones, and wakes the sessions of that consumer alone.
type Hub struct {
	// Set at construction.
	store  Store
	log    *slog.Logger
	limits Limits
	pager  *pager
	buffer *buffer         // guarded by mu
	ctx    context.Context // ends with the hub
	stop   context.CancelFunc

	// Owned by Run.
	waking []*Session // what publish returned last, for its memory

	mu sync.Mutex
	// All below is guarded by mu.
	position  int64 // the newest position read; every tail is complete up to it
	marks     marks // of what was read; Run alone changes them, and reads them without the mutex
	tails     map[string]*tail
	addresses []string  // the keys of tails while they are few, nil after a change
	leaving   []leaving // about in the order of since; a tail stands here at most once
	newTails  []*tail   // the tails made since the running read chose its addresses
	recent    []*Event  // the events of all tails in the order of their ids, oldest first
	bytes     int       // what recent holds, see weight
	lost      loss      // what the database lost last
	era       int       // how often it was connected to, or has lost something
	suspects  bool      // a page says that it has, and the follower is to look
	sessions  int
	ids       int64        // the id of the newest session
	formats   [Formats]int // how many sessions get events in each format
	polls     int          // of the sessions
	status    Status
	counters  Counters
	asked     chan struct{} // closed once a read that has yet to begin has got to the end; nil if nobody asks
	answering chan struct{} // the same of the running read
	hurry     func()        // ends the follower's wait
	started   chan struct{} // closed once the first position is known
	draining  chan struct{} // closed by Drain
}

// Status tells whether an event committed now would be delivered.
type Status struct {
	// Following reports that the follower is connected.
	Following bool
	// LastRead is when it last read successfully.
	LastRead time.Time
	// Position is the newest position read, Watermark and Writers are those of the last read.
	Position, Watermark int64
	// Sequence is the highest id drawn by the last read; what is above Watermark may be held back.
	Sequence int64
	Writers  int
	// HeldBack is since when the same transaction has been holding the watermark back; zero if none does.
	HeldBack time.Time
	// HeldBackBy is the process id of that transaction's backend, 0 for a prepared transaction.
	HeldBackBy int
}

// NewHub returns a hub that serves sessions while Run runs.
func NewHub(store Store, limits Limits, log *slog.Logger) *Hub {
	h := &Hub{
		store: store, log: log, limits: limits,
		tails: map[string]*tail{}, started: make(chan struct{}), draining: make(chan struct{}),
		ids: time.Now().UnixMicro(), hurry: func() {},
	}
	h.ctx, h.stop = context.WithCancel(context.Background())
	h.pager = &pager{hub: h}
	h.buffer = &buffer{limit: cmp.Or(limits.BufferBytes, defaultBuffer), freed: h.pager.start}
	return h
}

// Started is closed once the hub follows its store for the first time.
func (h *Hub) Started() <-chan struct{} { return h.started }

// Status returns the current status.
func (h *Hub) Status() Status {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.status
	s.Position = h.position
	return s
}

// Down says why an event committed now would not be delivered; it is "" if it would be.
func (h *Hub) Down() string {
	s := h.Status()
	switch {
	case !s.Following:
		return "not connected to the database"
	case time.Since(s.LastRead) > stalledAfter:
		return "the database does not answer"
	case h.limits.HeldBackDown > 0 && !s.HeldBack.IsZero() && time.Since(s.HeldBack) > h.limits.HeldBackDown:
		return "an open transaction holds events back"
	}
	return ""
}

// Sessions counts the open sessions.
func (h *Hub) Sessions() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sessions
}

// Drain makes waiting polls answer now, because the service is shutting down.
func (h *Hub) Drain() {
	h.mu.Lock()
	defer h.mu.Unlock()
	select {
	case <-h.draining:
	default:
		close(h.draining)
	}
}

// Open starts a session of a consumer after a cursor; FromNow means after the newest position. The session
// calls wake, from any goroutine and with no regard to what went before, whenever Take may have something
// new; wake must not block and must not call back into the hub, and may be called once more after the
// session was closed. The caller must close the session. Before the hub has started it is ErrUnavailable.
//
// The session reads the consumer's own address and the given topics, which must differ from it and from one
// another.
func (h *Hub) Open(consumer string, cursor int64, types Types, wake func(), topics ...string) (*Session, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	select {
	case <-h.started:
	default:
		return nil, ErrUnavailable // no cursor means anything before the first position is known
	}
	if h.sessions >= h.limits.Sessions {
		h.counters.RefusedSessions++
		return nil, ErrTooManySessions
	}
	own := h.tail(consumer)
	if own.owned >= h.limits.SessionsPerConsumer {
		h.counters.RefusedSessionsOfConsumer++
		return nil, ErrTooManySessionsOfConsumer
	}
	now := time.Now()
	doubted := h.lost.hits(cursor, now) && !own.given[cursor]
	if cursor == FromNow {
		cursor = h.position
	}
	h.ids++
	s := &Session{hub: h, wake: wake, place: place{cursor: cursor, types: types}, id: h.ids, since: now.UnixNano()}
	s.history = history{buffer: h.buffer, limit: maxPageEvents, most: maxPageEvents, doubted: doubted}
	s.follows = s.own[:]
	if len(topics) > 0 {
		s.follows = make([]follow, 1+len(topics))
	}
	s.follows[0].tail = own
	for i, topic := range topics {
		s.follows[1+i].tail = h.tail(topic)
	}
	for i := range s.follows {
		s.follows[i].session = s
		s.follows[i].tail.add(&s.follows[i])
	}
	own.owned++
	h.sessions++
	h.formats[s.view.Format]++
	return s, nil
}

// tail returns the tail of an address.
func (h *Hub) tail(address string) *tail {
	t := h.tails[address]
	if t == nil {
		t = &tail{address: address, floor: h.position}
		h.tails[address] = t
		h.newTails = append(h.newTails, t)
		h.addresses = nil
	}
	return t
}

// close ends a session.
func (h *Hub) close(s *Session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	s.give()
	s.written()
	s.history.drop()
	s.owner().owned--
	h.sessions--
	h.formats[s.view.Format]--
	for i := range s.follows {
		t := s.follows[i].tail
		t.remove(&s.follows[i])
		if len(t.follows) == 0 {
			t.left = time.Now()
			h.leaveLater(t, t.left)
		}
	}
}

// leaving is a tail that had no session at some moment and is to be looked at after it has lingered.
type leaving struct {
	tail  *tail
	since time.Time
}

func (h *Hub) leaveLater(t *tail, since time.Time) {
	if !t.leaving {
		t.leaving = true
		h.leaving = append(h.leaving, leaving{t, since})
	}
}

// sweep forgets the tails that nobody came back to. It looks at no others.
func (h *Hub) sweep(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.leaving) > 0 && now.Sub(h.leaving[0].since) > linger {
		t := h.leaving[0].tail
		h.leaving[0] = leaving{}
		h.leaving = h.leaving[1:]
		t.leaving = false
		switch {
		case len(t.follows) > 0:
		case now.Sub(t.left) > linger:
			delete(h.tails, t.address)
			h.addresses = nil
		default: // somebody came back and left again
			h.leaveLater(t, t.left)
		}
	}
}

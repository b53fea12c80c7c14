package core

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

const (
	// connectTimeout bounds an attempt to follow the store.
	connectTimeout = 15 * time.Second
	// readTimeout bounds one read of the live end, whatever comes meanwhile: a store gives up much sooner where
	// nothing does.
	readTimeout = time.Minute
	// maxBackoff bounds the pause before the store is tried again: an event is to be delivered within two seconds
	// of the end of what kept it.
	maxBackoff = 1500 * time.Millisecond
	// warnAfter is how long one transaction may hold events back before the log names it.
	warnAfter = 3 * time.Second
	// maxInterest bounds the addresses that a read asks for by name. Beyond it a read asks for all events
	// without payloads, and for the wanted payloads in a second step: a round trip more instead of a long
	// list to send and to look up, maybe for a single event.
	maxInterest = 64
)

// Run follows the store until ctx ends. It returns an error only if the store cannot be followed at the
// start; a connection lost later is replaced, and the sessions stay open meanwhile.
func (h *Hub) Run(ctx context.Context) error {
	defer h.end()
	var lost time.Time // when the store was last heard of, while it is not followed
	for failures := 0; ; {
		err := h.follow(ctx, func() {
			if failures > 0 {
				h.log.Info("following the database again", "after", time.Since(lost).Round(time.Millisecond))
				failures = 0
			}
		})
		if ctx.Err() != nil {
			return nil
		}
		if failures == 0 {
			lost = h.Status().LastRead
		}
		select {
		case <-h.started:
		default:
			return err
		}
		h.sweep(time.Now())
		pause := backoff(failures)
		failures++
		h.log.Warn("not following the database", "error", err, "retry_in", pause)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// end stops the readers of history and waits for them. None starts once the hub's context has ended, which
// the mutex makes a moment.
func (h *Hub) end() {
	h.mu.Lock()
	h.stop()
	h.mu.Unlock()
	h.pager.running.Wait()
}

// backoff is the pause after a number of failures in a row, jittered so that the instances of a service do
// not return in one instant.
func backoff(failures int) time.Duration {
	d := min(50*time.Millisecond<<min(failures, 10), maxBackoff)
	return d/2 + rand.N(d/2)
}

// follow is one connection's life: the position first, then read, publish, wait, and again.
func (h *Hub) follow(ctx context.Context, connected func()) error {
	defer h.setFollowing(false)
	timeout, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	f, err := h.store.Follow(timeout)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := h.begin(timeout, f); err != nil {
		return err
	}
	var held heldBack
	var swept, published time.Time
	for {
		more, err := h.readOnce(ctx, f, &held)
		if err != nil {
			return err
		}
		connected()
		if now := time.Now(); now.Sub(swept) > time.Second {
			h.sweep(now)
			swept = now
		}
		if woken := len(h.waking); woken > 0 {
			now := time.Now()
			letWrite(ctx, woken, now.Sub(published))
			published = now
		}
		if more {
			continue
		}
		hurried, cancel := h.hurried(ctx)
		err = f.Wait(ctx, hurried)
		cancel()
		if err != nil {
			return fmt.Errorf("wait for events: %w", err)
		}
	}
}

// letWrite lets a large fan-out be written before more is read. When events come faster than that, sessions
// get several in one write instead of a write for each, which is what a delivery mostly costs; the events
// wait as long as it would take to write them one by one. A lone event is never held up.
func letWrite(ctx context.Context, woken int, sinceLast time.Duration) {
	const perSession, maximum = 6 * time.Microsecond, 50 * time.Millisecond
	pause := min(time.Duration(woken)*perSession, maximum)
	if woken < 100 || sinceLast > 2*pause {
		return
	}
	select {
	case <-time.After(pause):
	case <-ctx.Done():
	}
}

// begin takes up the position of a new connection: the newest one at the first start, the one read last
// afterwards, unless what led there is gone. That its ids are drawn is not enough: a standby that was promoted before it had
// got everything draws them again, for other events.
func (h *Hub) begin(ctx context.Context, f Follower) error {
	standing, err := f.Look(ctx, h.marks.list())
	if err != nil {
		return fmt.Errorf("look where the table stands: %w", err)
	}
	if standing.Kept < h.marks.last().ID {
		h.rewind(standing)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	select {
	case <-h.started:
	default:
		h.position = standing.Newest.ID
		h.marks.add(standing.Newest, time.Now())
		close(h.started)
	}
	for _, t := range h.tails {
		for _, f := range t.follows {
			// Its cursor is from another instance, or from a page that was ahead of this one's reads, and may be beyond
			// what the database has now: it may have been replaced meanwhile.
			if f.session.furthest() > h.position {
				f.session.lookUp()
			}
		}
	}
	h.era++
	h.status.Following = true
	h.counters.Connections++
	h.status.LastRead = time.Now()
	return nil
}

func (h *Hub) setFollowing(following bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.status.Following = following
	if !following {
		// Nothing is read for those who ask now, and nothing more for those who asked before.
		h.answered()
		h.answering, h.asked = h.asked, nil
		h.answered()
	}
}

// readOnce reads the events after the position and publishes them.
func (h *Hub) readOnce(ctx context.Context, f Follower, held *heldBack) (more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	after, addresses := h.interest()
	r, err := f.Read(ctx, after, addresses)
	if errors.Is(err, ErrUnreadable) && addresses != nil {
		// Whose fault it is comes out when the payloads are read by themselves.
		h.log.Warn("reading events without their payloads", "error", err)
		r, err = f.Read(ctx, after, nil)
	}
	if err != nil {
		return false, fmt.Errorf("read events: %w", err)
	}
	h.waking = h.waking[:0]
	if r.Sequence < after || h.isSuspicious() {
		standing, err := f.Look(ctx, h.marks.list())
		if err != nil {
			return false, fmt.Errorf("look where the table stands: %w", err)
		}
		if r.Sequence < after || standing.Kept < h.marks.last().ID {
			h.rewind(standing)
			return true, nil
		}
	}
	h.mark(r.Mark)
	position, wanted := r.Position, h.wanted(r.Events)
	filled, err := h.fillPayloads(ctx, f, wanted)
	if err != nil {
		return false, fmt.Errorf("read payloads: %w", err)
	}
	if filled < len(wanted) {
		wanted = wanted[:filled]
		position = wanted[filled-1].ID
		r.More = true
	}
	h.wakeAll(h.publish(wanted, position))
	h.observe(r, held)
	if !r.More {
		h.mu.Lock()
		h.answered()
		h.mu.Unlock()
	}
	return r.More, nil
}

// mark notes how far the table was read.
func (h *Hub) mark(m Mark) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.marks.add(m, time.Now())
}

// isSuspicious reports, once, that a page was found to be of another table than what was read before. It may have come over
// a connection to a new primary while this one still is to the old.
func (h *Hub) isSuspicious() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	suspects := h.suspects
	h.suspects = false
	return suspects
}

// fillPayloads reads the payloads that are missing and reports how far it got. Where one cannot be read it gets
// as far as the one before, and then past it: its sessions will be told when they read it as history.
func (h *Hub) fillPayloads(ctx context.Context, f Follower, events []*Event) (int, error) {
	if !slices.ContainsFunc(events, func(e *Event) bool { return e.Payload == nil }) {
		return len(events), nil
	}
	n, err := f.FillPayloads(ctx, events)
	switch {
	case !errors.Is(err, ErrUnreadable):
		return n, err
	case len(events) == 1:
		h.log.Warn("an event cannot be read", "id", events[0].ID, "consumer", events[0].Consumer, "error", err)
		return 1, nil
	}
	return h.fillPayloads(ctx, f, events[:len(events)/2])
}

// interest returns what the next read is about: the position to read after, and the addresses that have a
// tail, nil if they are many. That settles the choice: a tail made from now on is complete only from the
// position that this read leads to.
func (h *Hub) interest() (after int64, addresses []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.newTails = h.newTails[:0]
	if h.answering == nil {
		h.answering, h.asked = h.asked, nil
	}
	if h.addresses == nil && len(h.tails) <= maxInterest {
		h.addresses = make([]string, 0, len(h.tails))
		for address := range h.tails {
			h.addresses = append(h.addresses, address)
		}
	}
	return h.position, h.addresses
}

// wanted returns the events whose consumer has a tail.
func (h *Hub) wanted(events []*Event) []*Event {
	h.mu.Lock()
	defer h.mu.Unlock()
	wanted := events[:0]
	for _, e := range events {
		if h.tails[e.Consumer] != nil {
			wanted = append(wanted, e)
		}
	}
	return wanted
}

// publish appends events to their consumers' tails and returns the sessions to wake. Position is where the
// read of these events ended.
func (h *Hub) publish(events []*Event, position int64) []*Session {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.position = position
	var woken []*tail
	for _, t := range h.newTails {
		if t.floor < position {
			// A session may have looked since, in vain. What this read found for it is history now.
			t.floor, t.woken = position, true
			woken = append(woken, t)
		}
	}
	h.newTails = h.newTails[:0]

	for _, e := range events {
		t := h.tails[e.Consumer]
		if t == nil || e.ID <= t.floor {
			continue
		}
		if e.Type == RedactedType && e.Amends != 0 {
			h.redact(t, e)
		}
		if e.Payload == nil {
			// Too large to keep others waiting, unreadable, or deleted: history knows.
			t.forget(e.ID)
			if !t.woken {
				t.woken = true
				woken = append(woken, t)
			}
			continue
		}
		e.Live = true
		h.share(e)
		t.events = append(t.events, e)
		h.recent = append(h.recent, e)
		h.bytes += e.weight
		if !t.woken {
			t.woken = true
			woken = append(woken, t)
		}
	}
	h.evict()
	sessions := h.waking[:0]
	for _, t := range woken {
		t.woken = false
		for _, f := range t.follows {
			sessions = append(sessions, f.session)
		}
	}
	h.waking = sessions
	h.counters.Wakes += int64(len(sessions))
	return sessions
}

// wakeAll wakes sessions outside the mutex, which the first of them will want while the last are woken.
func (h *Hub) wakeAll(sessions []*Session) {
	for _, s := range sessions {
		s.wake()
	}
	clear(sessions)
}

// evict drops the oldest events of all tails until the rest fits the bound.
func (h *Hub) evict() {
	for h.bytes > h.limits.TailBytes && len(h.recent) > 1 {
		e := h.recent[0]
		h.recent[0] = nil
		h.recent = h.recent[1:]
		h.bytes -= e.weight
		if t := h.tails[e.Consumer]; t != nil && e.ID > t.floor {
			t.forget(e.ID)
		}
	}
}

// rewind starts over at the newest position of a database that has lost events. Every session looks its cursor up again,
// and is told if what led there may be gone.
func (h *Hub) rewind(s Standing) {
	h.mu.Lock()
	defer h.mu.Unlock()
	newest := s.Newest.ID
	h.log.Error("the database went back: it was replaced by an older one, or by a standby that had not got everything",
		"position", h.position, "kept", s.Kept, "newest", newest)
	h.lost = loss{after: s.Kept, through: max(h.position, newest), newest: newest, noticed: time.Now()}
	h.era++
	h.position = newest
	h.marks.cut(s.Kept)
	h.marks.add(s.Newest, time.Now())
	clear(h.recent)
	h.recent, h.bytes = nil, 0
	for _, t := range h.tails {
		clear(t.events)
		t.events, t.floor, t.redacted, t.given = nil, newest, min(t.redacted, newest), nil
		for _, f := range t.follows {
			f.session.history.doubted = f.session.cursor > s.Kept
			if f.session.history.doubted {
				f.session.failure = nil // a reset to be told was read from another database, or is told all the more
			}
			f.session.lookUp()
		}
	}
}

// furthest is where the cursor will be once everything at hand is taken.
func (s *Session) furthest() int64 {
	furthest := s.readThrough()
	if next := s.history.next; next != nil {
		furthest = max(furthest, next.Next)
	}
	return furthest
}

// lookUp has the session ask the database whether it knows its cursor, and read again what it has at hand.
func (s *Session) lookUp() {
	s.history.known = false
	s.history.drop()
	s.wake()
}

// heldBack remembers since when one transaction has been holding the watermark back.
type heldBack struct {
	pid       int
	watermark int64
	since     time.Time
	warnAfter time.Duration
}

// observe notes what a read said about the writers, and warns of one that keeps others' events waiting.
func (h *Hub) observe(r Read, held *heldBack) {
	now := time.Now()
	switch {
	case r.Watermark >= r.Sequence:
		*held = heldBack{}
	case held.since.IsZero() || held.pid != r.OldestWriter || held.watermark != r.Watermark:
		*held = heldBack{pid: r.OldestWriter, watermark: r.Watermark, since: now, warnAfter: warnAfter}
	case now.Sub(held.since) >= held.warnAfter:
		holder := "an open transaction that inserted events holds back all later events"
		if held.pid == 0 {
			holder = "a prepared transaction that inserted events holds back all later events: find it in pg_prepared_xacts"
		}
		h.log.Warn(holder,
			"pid", held.pid, "age", now.Sub(held.since).Round(time.Millisecond), "watermark", r.Watermark,
			"held_back", r.Sequence-r.Watermark)
		held.warnAfter *= 2
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.counters.Reads++
	h.counters.EventsRead += int64(len(r.Events))
	h.status.LastRead = now
	h.status.Watermark = r.Watermark
	h.status.Sequence = r.Sequence
	h.status.Writers = r.Writers
	h.status.HeldBack, h.status.HeldBackBy = held.since, held.pid
}

// unavailable hides the cause of a failed read from whoever only needs to know that it may work later.
func unavailable(err error) error { return errors.Join(ErrUnavailable, err) }

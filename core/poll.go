package core

import (
	"cmp"
	"context"
	"errors"
	"time"
)

// Poll is one long-poll: a single turn of the reading loop.
type Poll struct {
	Consumer string
	// Topics are what it reads besides its own address.
	Topics []string
	// After is the cursor, or FromNow.
	After int64
	Types Types
	// Current leaves out of history the events that a later one amends.
	Current bool
	Limit   int
	// Wait is how long to wait for the first event; zero asks for what there is now.
	Wait time.Duration
}

// Batch answers a poll.
type Batch struct {
	Events []*Event
	// Cursor is what to send as After next time.
	Cursor int64
	// More reports that there is another batch right now.
	More bool

	session *Session // holds what the answer takes of the limits; nil if it takes nothing
}

// Built tells that the answer's body has been made, and how large it is. From then on it is what counts against
// the bound of what waits for clients: the caller must have let go of the events.
func (b Batch) Built(bytes int) {
	if b.session != nil {
		_ = b.session.Keep(bytes, nil) // it is smaller than what was kept before, or about as large
	}
}

// Release tells that the batch is of no more use. Until then one with events counts as a session, so that the limits hold
// for answers that their clients take long to receive.
func (b Batch) Release() {
	if b.session != nil {
		b.session.Close()
	}
}

// Poller answers polls. It returns as soon as there is at least one event, else an empty batch after the
// wait, and ctx's error when ctx ends. A *ResetError reports a cursor that cannot be continued, an error
// that is ErrUnavailable, ErrTooManySessions, ErrBufferFull, or either's OfConsumer a reason to try again later.
// The caller must release the batch.
type Poller interface {
	Poll(ctx context.Context, p Poll) (Batch, error)
}

// pollGrace is how long after its wait a poll stays for history that is on its way, before it asks whether the store
// answers at all.
const pollGrace = 2 * time.Second

// maxBatchBytes bounds the payloads of one batch; a larger event makes a batch of its own.
const maxBatchBytes = 1 << 20

// Poll implements Poller with a session of the hub.
func (h *Hub) Poll(ctx context.Context, p Poll) (answer Batch, _ error) {
	woken := make(chan struct{}, 1)
	if p.After == FromNow {
		h.Refresh(ctx)
	}
	s, err := h.Open(p.Consumer, p.After, p.Types, func() {
		select {
		case woken <- struct{}{}:
		default:
		}
	}, p.Topics...)
	if err != nil {
		return Batch{}, err
	}
	s.SetView(View{Current: p.Current})
	h.beginPoll()
	defer func() {
		h.endPoll(&answer)
		if answer.session == nil {
			s.Close()
		}
	}()
	s.history.limit, s.history.most = min(p.Limit, maxPageEvents), min(p.Limit, maxPageEvents) // the next poll would read the rest again
	timeout := time.NewTimer(cmp.Or(max(p.Wait, 0), pollGrace))
	defer timeout.Stop()
	if p.After != FromNow && (p.Wait <= 0 || s.isBehind()) {
		h.Refresh(ctx) // it is not going to wait, and is to tell what there is when it is asked for
	}
	start, selective := s.Cursor(), len(p.Types) > 0 || p.Current // then page after page may be empty
	over, draining := p.Wait <= 0, h.draining
	for {
		events, err := s.Take(nil, p.Limit, maxBatchBytes)
		ended := errors.Is(err, ErrEnded)
		switch {
		case err != nil && !ended:
			return Batch{}, err
		case len(events) > 0:
			return s.answer(events)
		case ended || over && (s.Settled() || selective && s.Cursor() > start):
			if h.Down() != "" {
				return Batch{}, ErrUnavailable
			}
			return Batch{Cursor: s.Cursor(), More: s.More()}, nil
		}
		if err := s.withheld(); err != nil {
			return Batch{}, err
		}
		select {
		case <-woken:
		case <-timeout.C:
			switch {
			case !over:
				over = true
				timeout.Reset(pollGrace)
			case h.Down() != "":
				return Batch{}, ErrUnavailable // the page that it waits for may never come
			default:
				timeout.Reset(pollGrace / 8)
			}
		case <-draining:
			over, draining = true, nil
		case <-ctx.Done():
			return Batch{}, ctx.Err()
		}
	}
}

// answer makes a batch of what a poll took, which the session holds until the batch is released.
func (s *Session) answer(events []*Event) (Batch, error) {
	bytes := 0
	for _, e := range events {
		bytes += weight(e)
	}
	b := Batch{Events: events, Cursor: s.Cursor(), More: s.More(), session: s}
	s.Discard()
	if err := s.Keep(bytes, nil); err != nil {
		return Batch{}, err
	}
	return b, nil
}

// withheld says why the page of history that was asked for is not read, or nil.
func (s *Session) withheld() error {
	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if !s.history.onItsWay() {
		return nil
	}
	err := h.buffer.room(s.owner())
	if err != nil {
		h.counters.Overfull++
	}
	return err
}

package core

import (
	"context"
	"time"
)

// Poll is one long-poll: a single turn of the reading loop.
type Poll struct {
	Consumer string
	// After is the cursor, or FromNow.
	After int64
	Types Types
	Limit int
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

	release func()
}

// Release tells that the batch is of no more use. Until then one with events counts as a session, so that the limits hold
// for answers that their clients take long to receive.
func (b Batch) Release() {
	if b.release != nil {
		b.release()
	}
}

// Poller answers polls. It returns as soon as there is at least one event, else an empty batch after the
// wait, and ctx's error when ctx ends. A *ResetError reports a cursor that cannot be continued, an error
// that is ErrUnavailable, ErrTooManySessions or ErrTooManySessionsOfConsumer a reason to try again later. The
// caller must release the batch.
type Poller interface {
	Poll(ctx context.Context, p Poll) (Batch, error)
}

// maxBatchBytes bounds the payloads of one batch; a larger event makes a batch of its own.
const maxBatchBytes = 1 << 20

// Poll implements Poller with a session of the hub.
func (h *Hub) Poll(ctx context.Context, p Poll) (answer Batch, _ error) {
	woken := make(chan struct{}, 1)
	s, err := h.Open(p.Consumer, p.After, p.Types, func() {
		select {
		case woken <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return Batch{}, err
	}
	h.beginPoll()
	defer func() {
		h.endPoll(&answer)
		if len(answer.Events) == 0 {
			s.Close()
			return
		}
		s.Discard()
		answer.release = s.Close
	}()
	if len(p.Types) == 0 {
		s.pageLimit = p.Limit // what this poll leaves of a page is read again by the next
	}
	start := s.Cursor()
	timeout := time.NewTimer(p.Wait)
	defer timeout.Stop()
	over, draining := p.Wait <= 0, h.draining
	for {
		events, err := s.Take(nil, p.Limit, maxBatchBytes)
		switch {
		case err != nil:
			return Batch{}, err
		case len(events) > 0:
			return Batch{Events: events, Cursor: s.Cursor(), More: s.More()}, nil
		case over && (s.Settled() || s.Cursor() > start):
			if h.Healthy() != "" {
				return Batch{}, ErrUnavailable
			}
			return Batch{Cursor: s.Cursor(), More: s.More()}, nil
		}
		select {
		case <-woken:
		case <-timeout.C:
			over = true
		case <-draining:
			over, draining = true, nil
		case <-ctx.Done():
			return Batch{}, ctx.Err()
		}
	}
}

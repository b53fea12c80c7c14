package coretest

import (
	"context"
	"sync"
	"time"

	"github.com/event-piper/event-piper/core"
)

// door is a connection to a store: it can be rung at, and lost.
type door struct {
	store *Store
	rung  chan struct{} // has room for one ring
	lost  chan struct{} // closed by lose
	lose  func()
}

func (s *Store) door() door {
	d := door{store: s, rung: make(chan struct{}, 1), lost: make(chan struct{})}
	d.lose = sync.OnceFunc(func() { close(d.lost) })
	return d
}

func (d *door) ring() {
	select {
	case d.rung <- struct{}{}:
	default:
	}
}

// fail returns what a call comes to before it has begun.
func (d *door) fail(ctx context.Context, method string, count *int) error {
	if err := d.store.fail(ctx, method, count); err != nil {
		d.lose()
		return err
	}
	select {
	case <-d.lost:
		return ErrLost
	default:
		return nil
	}
}

// wait waits for a ring, until it is hurried, or for a while.
func (d *door) wait(ctx, hurried context.Context, pause time.Duration) error {
	if err := d.fail(ctx, "Wait", new(int)); err != nil {
		return err
	}
	timeout := time.NewTimer(pause)
	defer timeout.Stop()
	select {
	case <-d.rung:
	case <-timeout.C:
	case <-d.lost:
		return ErrLost
	case <-hurried.Done():
		return ctx.Err()
	}
	return nil
}

// follower implements core.Follower.
type follower struct{ door }

// Follow implements core.Store.
func (s *Store) Follow(ctx context.Context) (core.Follower, error) {
	if err := s.fail(ctx, "Follow", &s.calls.Follow); err != nil {
		return nil, err
	}
	f := &follower{s.door()}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.followers[f] = struct{}{}
	return f, nil
}

// Look implements core.Follower.
func (f *follower) Look(ctx context.Context, known []core.Mark) (core.Standing, error) {
	if err := f.fail(ctx, "Look", new(int)); err != nil {
		return core.Standing{}, err
	}
	s := f.store
	s.mu.Lock()
	defer s.mu.Unlock()
	newest := s.newest()
	standing := core.Standing{Newest: core.Mark{ID: newest, Stamp: s.stamps[newest]}}
	for _, m := range known {
		if s.has(m) {
			standing.Kept = m.ID
		}
	}
	return standing, nil
}

// Read implements core.Follower.
func (f *follower) Read(ctx context.Context, after int64, addresses []string) (core.Read, error) {
	s := f.store
	if err := f.fail(ctx, "Read", &s.calls.Read); err != nil {
		return core.Read{}, err
	}
	selected := map[string]bool{}
	for _, address := range addresses {
		selected[address] = true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := core.Read{Sequence: s.sequence, Watermark: s.watermark(), Writers: len(s.writers)}
	for _, tx := range s.writers {
		if tx.before == r.Watermark {
			r.OldestWriter = tx.pid
		}
	}
	limit := maxReadEvents
	if n := s.faults.MaxEvents; n > 0 {
		limit = n
	}
	r.Position = after
	for _, e := range s.after(after) {
		if r.More = len(r.Events) == limit; r.More {
			break
		}
		r.Position, r.Mark = e.ID, core.Mark{ID: e.ID, Stamp: s.stamps[e.ID]}
		if addresses != nil && !selected[e.Consumer] {
			continue
		}
		payload := addresses != nil && len(e.Payload) <= smallPayload
		if payload {
			if err := s.damaged(e); err != nil {
				return core.Read{}, err
			}
		}
		r.Events = append(r.Events, copied(e, payload))
	}
	return r, nil
}

// FillPayloads implements core.Follower.
func (f *follower) FillPayloads(ctx context.Context, events []*core.Event) (int, error) {
	s := f.store
	if err := f.fail(ctx, "FillPayloads", &s.calls.FillPayloads); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	bytes, filled := 0, 0
	for i, e := range events {
		if e.Payload != nil {
			continue
		}
		if bytes >= maxReadBytes || s.faults.MaxPayloads > 0 && filled == s.faults.MaxPayloads {
			return i, nil
		}
		for _, stored := range s.after(e.ID - 1) {
			if err := s.damaged(stored); err != nil && stored.ID == e.ID {
				return i, err
			}
			if stored.ID == e.ID && len(stored.Payload) <= largePayload {
				e.Payload = stored.Payload
			}
			break
		}
		bytes += len(e.Payload)
		filled++
	}
	return len(events), nil
}

// Wait implements core.Follower.
func (f *follower) Wait(ctx, hurried context.Context) error { return f.wait(ctx, hurried, safetyPause) }

// Close implements core.Follower.
func (f *follower) Close() {
	f.store.mu.Lock()
	defer f.store.mu.Unlock()
	delete(f.store.followers, f)
}

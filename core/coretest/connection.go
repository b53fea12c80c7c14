package coretest

import (
	"context"
	"errors"
	"time"

	"github.com/event-piper/event-piper/core"
)

// connection implements core.Connection. As a real one, it is rung at only while it is armed.
type connection struct{ door }

// Connect is what connects a core.Direct to the store. Its faults and counts have the names of core.Connection's
// methods, and Connect.
func (s *Store) Connect(ctx context.Context) (core.Connection, error) {
	if err := s.fail(ctx, "Connect", new(int)); err != nil {
		return nil, err
	}
	c := &connection{s.door()}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.connections[c] = false
	return c, nil
}

// Connected counts the connections of Connect, and those of them that are armed.
func (s *Store) Connected() (connections, armed int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, is := range s.connections {
		if is {
			armed++
		}
	}
	return len(s.connections), armed
}

// Horizon implements core.Connection.
func (c *connection) Horizon(ctx context.Context) (core.Horizon, error) {
	if err := c.fail(ctx, "Horizon", new(int)); err != nil {
		return core.Horizon{}, err
	}
	c.store.mu.Lock()
	defer c.store.mu.Unlock()
	return core.Horizon{Watermark: c.store.watermark(), Newest: c.store.newest(), Writers: len(c.store.writers)}, nil
}

// Page implements core.Connection.
func (c *connection) Page(ctx context.Context, q core.PageQuery, _ core.Horizon) (core.Page, error) {
	if err := c.fail(ctx, "Page", new(int)); err != nil {
		return core.Page{}, err
	}
	c.store.mu.Lock()
	defer c.store.mu.Unlock()
	return c.store.page(q, 0, map[int64]*core.Event{}, new(int))
}

// Arm implements core.Connection.
func (c *connection) Arm(ctx context.Context) error {
	if err := c.fail(ctx, "Arm", new(int)); err != nil {
		return err
	}
	c.setArmed(true)
	return nil
}

func (c *connection) setArmed(armed bool) {
	c.store.mu.Lock()
	defer c.store.mu.Unlock()
	c.store.connections[c] = armed
}

// Wait implements core.Connection.
func (c *connection) Wait(ctx context.Context, _ core.Horizon, until time.Time) error {
	return c.wait(ctx, ctx, min(safetyPause, time.Until(until)))
}

// Disarm implements core.Connection. One that is lost or fails stays armed until it is closed, as a real one would.
func (c *connection) Disarm() error {
	if err := c.fail(context.Background(), "Disarm", new(int)); err != nil {
		return errors.Join(errors.New("still armed"), err)
	}
	c.setArmed(false)
	select {
	case <-c.rung: // of no interest any more
	default:
	}
	return nil
}

// Close implements core.Connection.
func (c *connection) Close() {
	c.store.mu.Lock()
	defer c.store.mu.Unlock()
	delete(c.store.connections, c)
}

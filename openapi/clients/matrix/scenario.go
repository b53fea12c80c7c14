package main

import (
	"context"
	"io"
	"net/http"
)

// scenario is what happens to all clients: before with each by itself, between once for all, and after with each again.
// What was inserted by then must arrive.
type scenario struct {
	name, title   string
	before, after func(ctx context.Context, a *actor) error
	between       func(ctx context.Context, w *world, actors []*actor) error
}

const (
	missed = 20     // events that are inserted while a client is away
	small  = 10     // bytes of padding
	large  = 59_000 // more than a TCP segment, and than what a proxy passes at once
)

// large events are cut by proxy.cutHere, which knows them by their padding.

var scenarios = []scenario{
	{
		name: "first", title: "cut before the first event",
		before: func(ctx context.Context, a *actor) error {
			if err := a.awaitStream(ctx); err != nil {
				return err
			}
			return a.missSome(ctx)
		},
	},
	{name: "fin", title: "cut inside a 59 kB event, FIN", before: cutInside(false)},
	{name: "rst", title: "cut inside a 59 kB event, RST", before: cutInside(true)},
	{
		name: "resumed", title: "cut after a resume without events",
		before: func(ctx context.Context, a *actor) error {
			if err := a.begin(ctx); err != nil {
				return err
			}
			a.cutOff()
			if err := a.awaitStream(ctx); err != nil {
				return err
			}
			return a.missSome(ctx)
		},
	},
	{
		name: "restart", title: "drain and restart",
		before: func(ctx context.Context, a *actor) error { return a.begin(ctx) },
		between: func(ctx context.Context, w *world, actors []*actor) error {
			w.service.stop()
			for _, a := range actors {
				if err := a.insert(ctx, missed, small); err != nil {
					return err
				}
			}
			return w.service.start(context.WithoutCancel(ctx)) // it outlives the scenario
		},
	},
	{
		name: "overload", title: "refused for now",
		before: func(ctx context.Context, a *actor) error {
			if err := a.begin(ctx); err != nil {
				return err
			}
			a.hold()
			a.cutOff()
			for range 2 { // as many as one consumer may have
				leave, err := a.occupy(ctx)
				if err != nil {
					return err
				}
				defer leave()
			}
			a.release()
			if err := a.await(ctx, a.refused, "a refusal"); err != nil {
				return err
			}
			return a.insert(ctx, missed, small)
		},
	},
}

// begin waits for a stream and has it receive an event.
func (a *actor) begin(ctx context.Context) error {
	if err := a.awaitStream(ctx); err != nil {
		return err
	}
	if err := a.insert(ctx, 1, small); err != nil {
		return err
	}
	return a.awaitAll(ctx)
}

// missSome cuts the connection, and inserts events before the client can come back.
func (a *actor) missSome(ctx context.Context) error {
	a.hold()
	defer a.release()
	a.cutOff()
	return a.insert(ctx, missed, small)
}

// cutInside cuts a connection inside of an event, of which the client has seen half by then.
func cutInside(reset bool) func(ctx context.Context, a *actor) error {
	return func(ctx context.Context, a *actor) error {
		if err := a.begin(ctx); err != nil {
			return err
		}
		a.cutNext(reset)
		if err := a.insert(ctx, 1, large); err != nil {
			return err
		}
		if err := a.await(ctx, a.cut, "the cut"); err != nil {
			return err
		}
		if err := a.await(ctx, a.opened, "a stream after the cut"); err != nil {
			return err
		}
		return a.insert(ctx, 1, small)
	}
}

// occupy opens a stream of the client's consumer.
func (a *actor) occupy(ctx context.Context) (leave func(), err error) {
	for {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+a.upstream+"/events", nil)
		if err != nil {
			return nil, err
		}
		r.Header.Set("X-Consumer-Id", a.consumer)
		resp, err := http.DefaultClient.Do(r) //nolint:bodyclose // closed by leave, or below
		if err != nil {
			return nil, err
		}
		if resp.StatusCode == http.StatusOK {
			go func() { _, _ = io.Copy(io.Discard, resp.Body) }()
			return func() { _ = resp.Body.Close() }, nil
		}
		_ = resp.Body.Close() // the client's own session has not ended yet
	}
}

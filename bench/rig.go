//go:build linux

package main

import (
	"context"
	"errors"
	"time"
)

// rig is what most scenarios run on: an empty database, a stream server over it, and a load generator.
type rig struct {
	bench     *bench
	dsn       string
	server    *process
	generator *generator
	// write makes events.
	write func(context.Context, offer) (*offered, error)
}

func (b *bench) newRig(ctx context.Context, settings ...string) (r *rig, err error) {
	return b.newRigOf(ctx, b.stream, settings...)
}

// newRigOf is newRig with another program for the server.
func (b *bench) newRigOf(ctx context.Context, program string, settings ...string) (r *rig, err error) {
	r = &rig{bench: b}
	defer func() {
		if err != nil {
			r.close(ctx)
		}
	}()
	if r.dsn, err = b.database.copy(ctx, ours); err != nil {
		return r, err
	}
	r.write = func(ctx context.Context, o offer) (*offered, error) { return write(ctx, r.dsn, o) }
	if r.server, err = b.startServer(ctx, program, r.dsn, settings...); err != nil {
		return r, err
	}
	r.generator, err = startGenerator(ctx)
	return r, err
}

func (r *rig) close(ctx context.Context) {
	if r.generator != nil {
		r.generator.stop()
	}
	if r.server != nil {
		r.server.stop()
	}
	if r.dsn != "" && ctx.Err() == nil {
		r.bench.complain(r.bench.database.drop(ctx, r.dsn))
	}
}

// each is the order to open sessions of as many consumers, c0 and on, from now on.
func (r *rig) each(sessions int) order {
	return order{
		Kind: sse, Address: r.server.address, Path: "/events",
		Sessions: sessions, Consumers: sessions, Consumer: "c", Cursor: -1,
	}
}

func (r *rig) openEach(sessions int) (*answer, error) { return r.generator.open(r.each(sessions)) }

// usage is the CPU time of everybody who takes part.
type usage struct {
	at                                         time.Time
	server, postgresql, client, writer, others time.Duration
}

// used returns what has been used until now.
func (r *rig) used() usage {
	return usage{
		at:         time.Now(),
		server:     treeCPU(r.server.pid()),
		postgresql: treeCPU(r.bench.database.postmaster),
		client:     treeCPU(r.generator.cmd.Process.Pid),
		writer:     ownCPU(),
		others:     othersCPU(),
	}
}

// since returns what has been used since an earlier moment, in seconds of CPU and of the clock.
func (u usage) since(before usage) spent {
	return spent{
		wall:       u.at.Sub(before.at).Seconds(),
		server:     (u.server - before.server).Seconds(),
		postgresql: (u.postgresql - before.postgresql).Seconds(),
		client:     (u.client - before.client).Seconds(),
		writer:     (u.writer - before.writer).Seconds(),
		others:     max((u.others - before.others).Seconds(), 0),
	}
}

// spent is seconds. Others is what the machine did besides, which should be next to nothing.
type spent struct{ wall, server, postgresql, client, writer, others float64 }

// spentHeader and cells are the columns that say where CPU time went.
var spentHeader = []string{"server CPU s", "PostgreSQL", "client", "writer", "others"}

func (s spent) cells() []any { return []any{s.server, s.postgresql, s.client, s.writer, s.others} }

// sleep waits, unless the benchmark is interrupted.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

var errIncomplete = errors.New("not all events arrived")

//go:build linux

package main

import (
	"context"
	"fmt"
	"time"
)

// idleSessions holds sessions to which nothing is said but heartbeats. Beside those are nchan's pings.
func idleSessions(ctx context.Context, b *bench) error {
	t := newTable("idle: memory of a session without events",
		"sessions", "server RSS before", "after", "peak", "per session", "peak per session", "kernel, both ends", "opened in")
	for _, sessions := range []int{10_000, 19_000} {
		if err := b.idle(ctx, t, sessions); err != nil {
			return err
		}
	}
	t.print(b.out)
	return b.heartbeats(ctx)
}

func (b *bench) idle(ctx context.Context, t *table, sessions int) error {
	r, err := b.newRig(ctx, "HEARTBEAT_INTERVAL=10s")
	if err != nil {
		return err
	}
	defer r.close(ctx)
	// The kernel takes its time to free what an earlier run has closed.
	if err := sleep(ctx, 3*time.Second); err != nil {
		return err
	}
	before, _ := memory(r.server.pid())
	kernel := kernelMemory()
	opened := time.Now()
	if _, err := r.openEach(sessions); err != nil {
		return err
	}
	took := time.Since(opened)
	if err := sleep(ctx, b.length(15*time.Second)); err != nil {
		return err
	}
	after, peak := memory(r.server.pid())
	t.row(sessions, megabytes(before), megabytes(after), megabytes(peak), kilobytes(after-before, sessions),
		kilobytes(peak-before, sessions), kilobytes(kernelMemory()-kernel, sessions), took)
	return nil
}

func (b *bench) heartbeats(ctx context.Context) error {
	t := newTable("idle: heartbeats every 10 s", "", "sessions", "heartbeats/s", "server, of a core", "PostgreSQL", "client")
	r, err := b.newRig(ctx, "HEARTBEAT_INTERVAL=10s")
	if err != nil {
		return err
	}
	err = r.heartbeats(ctx, t, "Event Piper", sse, "/events")
	r.close(ctx)
	if err != nil {
		return err
	}
	err = b.besideNchan(ctx, func(r *rig) error { return r.heartbeats(ctx, t, "nchan", nchan, "/sub?id=c0") })
	if err != nil {
		return err
	}
	t.print(b.out)
	return nil
}

// heartbeatSessions is what one worker of nginx takes, whose connections are not spread evenly.
const heartbeatSessions = 18_900

func (r *rig) heartbeats(ctx context.Context, t *table, name string, kind kind, path string) error {
	o := r.each(heartbeatSessions)
	o.Kind, o.Path = kind, path
	if _, err := r.generator.open(o); err != nil {
		return err
	}
	if err := sleep(ctx, 11*time.Second); err != nil { // until every session has had its first
		return err
	}
	if _, err := r.generator.report(0); err != nil {
		return err
	}
	start := r.used()
	if err := sleep(ctx, r.bench.length(30*time.Second)); err != nil {
		return err
	}
	s := r.used().since(start)
	a, err := r.generator.report(0)
	if err != nil {
		return err
	}
	share := func(cpu float64) string { return fmt.Sprintf("%.1f %%", 100*cpu/s.wall) }
	t.row(name, o.Sessions, float64(a.Heartbeats)/s.wall, share(s.server), share(s.postgresql), share(s.client))
	return nil
}

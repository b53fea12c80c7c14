package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

func killServer(ctx context.Context, w *world, r *rand.Rand) (string, error) {
	p := pick(r, w.programs)
	p.kill()
	_ = sleep(ctx, between(r, 10*time.Millisecond, 2*time.Second))
	return p.name, w.startAgain(ctx, p)
}

// restartServer is a deployment: SIGTERM, and another instance.
func restartServer(ctx context.Context, w *world, r *rand.Rand) (string, error) {
	p := pick(r, w.programs)
	p.stop()
	return p.name, w.startAgain(ctx, p)
}

// startAgain returns when the server delivers, which is when the fault has ended. A start that fails is tried again, as
// whatever runs containers does.
func (w *world) startAgain(ctx context.Context, p *program) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for askHealth(ctx, "http://"+p.address) != up {
		if err := p.start(); err != nil {
			return err
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return fmt.Errorf("%s does not get ready: %w", p.name, err)
		}
	}
	return nil
}

// stopServer freezes a server, for longer than the timeouts of its clients at times.
func stopServer(ctx context.Context, w *world, r *rand.Rand) (string, error) {
	p := pick(r, w.programs)
	p.signal(syscall.SIGSTOP)
	_ = sleep(ctx, between(r, time.Second, 15*time.Second))
	p.signal(syscall.SIGCONT)
	return p.name, nil
}

func killLambda(_ context.Context, w *world, r *rand.Rand) (string, error) {
	l := pick(r, w.lambdas)
	environments := l.front.Environments()
	for _, e := range environments {
		_ = syscall.Kill(e.PID(), syscall.SIGKILL) // it may have ended by itself
	}
	return fmt.Sprintf("%s, %d environments", l.name, len(environments)), nil
}

func restartBouncer(ctx context.Context, w *world, r *rand.Rand) (string, error) {
	s, name := syscall.SIGINT, "SIGINT"
	if r.IntN(2) == 0 {
		s, name = syscall.SIGKILL, "SIGKILL"
	}
	w.bouncer.end(s)
	_ = sleep(ctx, between(r, 10*time.Millisecond, 2*time.Second))
	return name, w.bouncer.start()
}

func restartFast(ctx context.Context, w *world, r *rand.Rand) (string, error) {
	return w.restart(ctx, r, false)
}

func restartImmediate(ctx context.Context, w *world, r *rand.Rand) (string, error) {
	return w.restart(ctx, r, true)
}

// restart stops the server, with a crash if it is immediate, and starts it after a while.
func (w *world) restart(ctx context.Context, r *rand.Rand, immediate bool) (string, error) {
	if err := w.database.server.Halt(immediate); err != nil {
		return "", err
	}
	away := between(r, time.Millisecond, 3*time.Second)
	_ = sleep(ctx, away)
	if err := w.database.server.Resume(); err != nil {
		return "", err
	}
	return fmt.Sprintf("away for %.1f s", away.Seconds()), w.database.awaitUp(ctx)
}

// killBackend has one die as by the kernel's out-of-memory killer: PostgreSQL ends all others and recovers.
func killBackend(ctx context.Context, w *world, r *rand.Rand) (string, error) {
	backends := w.database.processes()["backend"]
	if len(backends) == 0 {
		return "none", nil
	}
	if err := syscall.Kill(pick(r, backends), syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return "", err
	}
	_ = sleep(ctx, 50*time.Millisecond)
	return "", w.database.awaitUp(ctx)
}

// stopProcesses freezes some of the database's processes: all of a kind, all backends, or the postmaster.
func stopProcesses(ctx context.Context, w *world, r *rand.Rand) (string, error) {
	found := w.database.processes()
	found["postmaster"] = []int{w.database.postmaster()}
	kinds := slices.Sorted(maps.Keys(found))
	kind := pick(r, kinds)
	if r.IntN(3) == 0 {
		kind = "backend"
	}
	pids := found[kind]
	for _, pid := range pids {
		if pid != 0 {
			_ = syscall.Kill(pid, syscall.SIGSTOP) // it may have ended
		}
	}
	_ = sleep(ctx, between(r, time.Second, 12*time.Second))
	for _, pid := range pids {
		if pid != 0 {
			_ = syscall.Kill(pid, syscall.SIGCONT)
		}
	}
	return fmt.Sprintf("%s (%d)", kind, len(pids)), w.database.awaitUp(ctx)
}

// terminateBackends ends all connections of the servers, or of everybody, once or again and again.
func terminateBackends(ctx context.Context, w *world, r *rand.Rand) (string, error) {
	whose := pick(r, []string{"event-piper%", "event-piper%", "%"})
	times := 1 + r.IntN(5)
	for range times {
		err := w.database.query(ctx, func(ctx context.Context, c *pgx.Conn) error {
			_, err := c.Exec(ctx, `select pg_terminate_backend(pid) from pg_stat_activity
				where backend_type = 'client backend' and application_name like $1 and pid <> pg_backend_pid()`, whose)
			return err
		})
		if err != nil {
			return whose, err
		}
		_ = sleep(ctx, between(r, 0, 300*time.Millisecond))
	}
	return fmt.Sprintf("%s, %d times", whose, times), nil
}

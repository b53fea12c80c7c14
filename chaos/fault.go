package main

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// fault is something that goes wrong for a while. Its run makes it, holds it, and mends it, and says on what it fell.
type fault struct {
	name   string
	weight int
	run    func(ctx context.Context, w *world, r *rand.Rand) (on string, err error)
	// whole says that it stops the database as a whole, of which there is one at a time.
	whole bool
	// without says why it cannot be made here, if it cannot.
	without func(w *world) string
}

var faults = []fault{
	{name: "terminate backends", weight: 4, run: terminateBackends},
	{name: "kill -9 a backend", weight: 2, whole: true, run: killBackend},
	{name: "restart PostgreSQL, fast", weight: 2, whole: true, run: restartFast},
	{name: "restart PostgreSQL, immediate", weight: 3, whole: true, run: restartImmediate},
	{name: "SIGSTOP PostgreSQL's processes", weight: 3, whole: true, run: stopProcesses},
	{name: "SIGKILL a server", weight: 4, run: killServer},
	{name: "SIGSTOP a server", weight: 3, run: stopServer},
	{name: "SIGTERM a server", weight: 2, run: restartServer},
	{name: "SIGKILL a Lambda", weight: 2, run: killLambda},
	{name: "link: latency", weight: 2, run: toxic("latency", func(r *rand.Rand) map[string]any {
		return map[string]any{"latency": 50 + r.IntN(1500), "jitter": r.IntN(50)}
	})},
	{name: "link: bandwidth", weight: 2, run: toxic("bandwidth", func(r *rand.Rand) map[string]any {
		return map[string]any{"rate": 1 + r.IntN(50)} // KB/s
	})},
	{name: "link: slicer", weight: 2, run: toxic("slicer", func(r *rand.Rand) map[string]any {
		return map[string]any{"average_size": 1 + r.IntN(100), "size_variation": 1, "delay": r.IntN(500)} // bytes, µs
	})},
	{name: "link: black hole", weight: 4, run: blackHole},
	{name: "link: reset", weight: 3, run: toxic("reset_peer", func(r *rand.Rand) map[string]any {
		return map[string]any{"timeout": r.IntN(200)}
	})},
	{name: "link: cut inside a message", weight: 3, run: toxic("limit_data", func(r *rand.Rand) map[string]any {
		return map[string]any{"bytes": 1 + r.IntN(20_000)}
	})},
	{name: "link: down", weight: 3, run: linkDown},
	{name: "disk full", weight: 2, whole: true, run: diskFull, without: func(w *world) string {
		if w.database.disk == "" {
			return "no file system can be mounted here"
		}
		return ""
	}},
	{name: "connections exhausted", weight: 2, run: exhaustConnections},
	{name: "restart PgBouncer", weight: 2, run: restartBouncer, without: func(w *world) string {
		if w.bouncer == nil {
			return "there is no PgBouncer here"
		}
		return ""
	}},
	{name: "ACCESS EXCLUSIVE lock", weight: 3, run: exclusiveLock},
	{name: "schema change", weight: 3, run: schemaChange},
	{name: "retention", weight: 5, run: retention},
	{name: "statement timeouts of writers", weight: 2, run: hurryWriters},
	{name: "synchronous standby gone", weight: 2, run: standbyGone},
}

// fallen is a fault that was, and how things recovered.
type fallen struct {
	name, on string
	from, to time.Time
	recovery recovery
	err      error
}

// choose draws a fault by weight from those that are wanted.
func choose(list []fault, r *rand.Rand) fault {
	var sum int
	for _, f := range list {
		sum += f.weight
	}
	n := r.IntN(sum)
	for _, f := range list {
		if n -= f.weight; n < 0 {
			return f
		}
	}
	panic("unreachable: n is below the sum")
}

// wanted are the faults whose names contain one of the patterns, or all, and that can be made here.
func wanted(w *world, patterns string) (list []fault, without []string) {
	for _, f := range faults {
		found := patterns == ""
		for _, p := range strings.Split(patterns, ",") {
			found = found || p != "" && strings.Contains(f.name, p)
		}
		if !found {
			continue
		}
		if f.without != nil && f.without(w) != "" {
			without = append(without, f.name+": "+f.without(w))
			continue
		}
		list = append(list, f)
	}
	return list, without
}

// plague makes faults, one after the other or two at a time, until ctx ends, each when those before have been recovered from.
func plague(ctx context.Context, w *world, p *probe, list []fault, together int, r *rand.Rand, tell func(string)) (all []fallen, err error) {
	// Each fault once before any comes again, so that a round sees as many as it can.
	r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	for n := 0; ctx.Err() == nil; n++ {
		f := choose(list, r)
		if n < len(list) {
			f = list[n]
		}
		if together > 1 {
			f = f.beside(another(f, list, r))
		}
		was := w.suffer(context.WithoutCancel(ctx), f, p, r)
		all = append(all, was)
		tell(fmt.Sprintf("%s  %-32s %-40s %5.1f s, then %s", clock(was.from), was.name, was.on, was.to.Sub(was.from).Seconds(), was.outcome()))
		if was.err != nil {
			return all, fmt.Errorf("%s (%s): %w", f.name, was.on, was.err)
		}
		_ = sleep(ctx, 200*time.Millisecond+time.Duration(r.Int64N(int64(time.Second))))
	}
	return all, nil
}

// recoveryLimit is how long a recovery may take before the run is given up.
const recoveryLimit = 45 * time.Second

func (w *world) suffer(ctx context.Context, f fault, p *probe, r *rand.Rand) fallen {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*time.Minute, fmt.Errorf("%s does not end", f.name))
	defer cancel()
	was := fallen{name: f.name, from: time.Now()}
	was.on, was.err = f.run(ctx, w, r)
	was.to = time.Now()
	if was.err != nil {
		return was
	}
	recovering, over := context.WithTimeoutCause(ctx, recoveryLimit, fmt.Errorf("not within %v", recoveryLimit))
	defer over()
	was.recovery, was.err = p.awaitFresh(recovering, was.to)
	return was
}

// outcome says how a fault was recovered from.
func (f fallen) outcome() string {
	if f.err != nil {
		return f.err.Error()
	}
	slowest, longest := f.recovery.slowest()
	said := fmt.Sprintf("a commit after %.2f s, delivered after %.2f s more (%s)", f.recovery.database.Seconds(), longest.Seconds(), slowest)
	for _, name := range slices.Sorted(maps.Keys(f.recovery.targets)) {
		if d := f.recovery.targets[name]; name != slowest && d > time.Second {
			said += fmt.Sprintf(", %s %.2f s", name, d.Seconds())
		}
	}
	return said
}

func (r recovery) slowest() (target string, longest time.Duration) {
	for name, d := range r.targets {
		if d >= longest {
			target, longest = name, d
		}
	}
	return target, longest
}

// between draws a duration.
func between(r *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(r.Int64N(int64(to-from)))
}

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

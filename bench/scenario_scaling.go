//go:build linux

package main

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// scalingSessions is the number of sessions of each instance, each of a consumer of its own.
const scalingSessions = 500

// scaling measures what each further instance costs PostgreSQL: all of them read the table's live end, each
// for its own sessions.
func scaling(ctx context.Context, b *bench) error {
	t := newTable(fmt.Sprintf("scaling: instances of %d consumers each, an event is for one of them", scalingSessions),
		"events/s", "in one insert", "instances", "delivered", "its backends, ms CPU/s", "all backends", "the instance, ms CPU/s",
		"its connections", "PostgreSQL and writers", "others, s")
	for _, run := range []struct{ rate, batch int }{{0, 0}, {500, 25}, {2_000, 100}, {10_000, 500}} {
		for _, instances := range []int{1, 2, 4} {
			if err := b.scale(ctx, t, run.rate, run.batch, instances); err != nil {
				return fmt.Errorf("%d events/s, %d instances: %w", run.rate, instances, err)
			}
		}
	}
	t.print(b.out)
	return nil
}

func (b *bench) scale(ctx context.Context, t *table, rate, batch, instances int) error {
	r, err := b.newRig(ctx)
	if err != nil {
		return err
	}
	defer r.close(ctx)
	servers := []*process{r.server}
	for range instances - 1 {
		s, err := b.startServer(ctx, b.stream, r.dsn)
		if err != nil {
			return err
		}
		defer s.stop()
		servers = append(servers, s)
	}
	for i, s := range servers {
		o := r.each(scalingSessions)
		o.Group, o.Address, o.Consumer = i, s.address, fmt.Sprintf("i%d-", i)
		if _, err := r.generator.open(o); err != nil {
			return err
		}
	}
	// The sessions' arrival is not what is measured.
	if err := sleep(ctx, time.Second/2); err != nil {
		return err
	}
	length := 5 * time.Second
	if b.short {
		length = 2 * time.Second
	}
	before, err := b.backends(ctx, r.dsn)
	if err != nil {
		return err
	}
	own, start := treesCPU(servers), r.used()
	events, err := r.offerEvenly(ctx, rate, batch, instances, length)
	if err != nil {
		return err
	}
	// Without events, and after the last insert, the time goes on.
	if err := sleep(ctx, time.Until(start.at.Add(length))); err != nil {
		return err
	}
	spent := r.used().since(start)
	itself := treesCPU(servers) - own
	after, err := b.backends(ctx, r.dsn)
	if err != nil {
		return err
	}
	var inDatabase time.Duration
	for pid, used := range after {
		inDatabase += used - before[pid] // one that is new began at zero
	}
	delivered, err := r.arrived(events, instances)
	if err != nil {
		return err
	}
	perSecond := func(used time.Duration) float64 { return float64(used.Milliseconds()) / spent.wall }
	n := float64(instances)
	t.row(rate, batch, instances, delivered, perSecond(inDatabase)/n, perSecond(inDatabase), perSecond(itself)/n,
		float64(len(after))/n, 1000*spent.postgresql/spent.wall, spent.others)
	return nil
}

// offerEvenly inserts events for the sessions of all instances in turn, and returns how many.
func (r *rig) offerEvenly(ctx context.Context, rate, batch, instances int, length time.Duration) (int, error) {
	if rate == 0 {
		return 0, nil
	}
	w, err := r.write(ctx, offer{
		Rate: float64(rate), For: length, Batch: batch, Writers: 2,
		Consumer: func(n int) string { return fmt.Sprintf("i%d-%d", n%instances, n/instances%scalingSessions) },
	})
	if err != nil {
		return 0, err
	}
	if w.late > caughtUp {
		r.bench.note("%d events/s, %d instances: the writers could not keep up and ended %s late", rate, instances, cell(w.late))
	}
	return w.events, nil
}

// arrived waits for the events of each instance, and counts them.
func (r *rig) arrived(events, instances int) (delivered int64, err error) {
	for i := range instances {
		wanted := int64((events + instances - 1 - i) / instances) // they are dealt in turn
		a, err := r.generator.await(i, wanted, 20*time.Second)
		if err != nil {
			return 0, err
		}
		if err := a.check(wanted); err != nil {
			return 0, fmt.Errorf("instance %d: %w", i, err)
		}
		delivered += a.TotalEvents
	}
	return delivered, nil
}

// backends returns the CPU time of each connection that the instances have to a database.
func (b *bench) backends(ctx context.Context, dsn string) (map[int]time.Duration, error) {
	u, err := url.Parse(dsn)
	if err != nil {
		return nil, err
	}
	rows, err := b.database.admin.Query(ctx, `select pid from pg_stat_activity
		where datname = $1 and application_name = 'event-piper stream'`, strings.Trim(u.Path, "/"))
	if err != nil {
		return nil, fmt.Errorf("list backends: %w", err)
	}
	pids, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		return nil, fmt.Errorf("list backends: %w", err)
	}
	used := map[int]time.Duration{}
	for _, pid := range pids {
		if s, err := readStat(pid); err == nil { // it may be gone by now
			used[pid] = s.own
		}
	}
	return used, nil
}

// treesCPU is the CPU time of the instances themselves.
func treesCPU(servers []*process) (sum time.Duration) {
	for _, s := range servers {
		sum += treeCPU(s.pid())
	}
	return sum
}

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/event-piper/event-piper/chaos/check"
	"github.com/event-piper/event-piper/postgresql/devdb"
)

const (
	failoverName  = "failover"
	failoverRound = 25 * time.Second
)

// newPair is a world with a streaming standby, and with everybody connecting to whichever of the two takes writes. An
// asynchronous standby is some way behind.
func newPair(ctx context.Context, bin, dir string, synchronous bool) (w *world, err error) {
	w = &world{dir: dir, links: newLinks()}
	defer func() {
		if err != nil {
			w.close()
			w = nil
		}
	}()
	if w.database, err = startDatabase(ctx, dir); err != nil {
		return w, err
	}
	link, err := w.links.to("standby-database", w.database.address())
	if err != nil {
		return w, err
	}
	if err := w.startStandby(ctx, link); err != nil {
		return w, fmt.Errorf("standby: %w", err)
	}
	if synchronous {
		err = errors.Join(w.database.exec(ctx, "alter system set synchronous_standby_names = '*'"), w.database.exec(ctx, "select pg_reload_conf()"))
	} else {
		err = link.poison("latency", []string{"downstream"}, map[string]any{"latency": 400})
	}
	if err != nil {
		return w, err
	}
	for _, name := range []string{"stream-1", "stream-2", "poll"} {
		if err := w.program(name, filepath.Join(bin, binaryOf(name)), w.database.addresses...); err != nil {
			return w, err
		}
	}
	return w, w.awaitUp(ctx)
}

// startStandby copies the database and has the copy follow it.
func (w *world) startStandby(ctx context.Context, link *link) error {
	tool, err := exec.LookPath("pg_basebackup")
	if err != nil {
		// Debian has it where the server is.
		found, _ := filepath.Glob(fmt.Sprintf("/usr/lib/postgresql/%d/bin/pg_basebackup", w.database.version/10000))
		if len(found) == 0 {
			return fmt.Errorf("pg_basebackup is not installed: %w", err)
		}
		tool = found[0]
	}
	info, err := os.Stat(w.database.data)
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return errors.New("the owner of the data is not known")
	}
	place := filepath.Join(w.dir, "disk", "standby")
	if err := errors.Join(os.Mkdir(place, 0o700), os.Chown(place, int(owner.Uid), int(owner.Gid))); err != nil {
		return err
	}
	backup := exec.CommandContext(ctx, tool, "-D", filepath.Join(place, "pgdata"), "-R", "-X", "stream", "-c", "fast", //nolint:gosec // found above
		"-d", w.database.dsn(link.address))
	backup.Dir = "/"
	if os.Geteuid() == 0 {
		backup.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}}
	}
	if output, err := backup.CombinedOutput(); err != nil {
		return fmt.Errorf("pg_basebackup: %w\n%s", err, output)
	}
	if w.standby, err = devdb.Start(ctx, devdb.Options{DataDir: place, Parameters: parameters}); err != nil {
		return err
	}
	standby, err := pgx.ParseConfig(w.standby.DSN())
	if err != nil {
		return err
	}
	w.database.addresses = append(w.database.addresses, fmt.Sprintf("127.0.0.1:%d", standby.Port))
	return w.database.awaitStandby(ctx)
}

func (d *database) awaitStandby(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 20*time.Second, errors.New("the standby does not stream"))
	defer cancel()
	for {
		var streaming bool
		err := d.query(ctx, func(ctx context.Context, c *pgx.Conn) error {
			return c.QueryRow(ctx, "select exists (select from pg_stat_replication where state = 'streaming')").Scan(&streaming)
		})
		if err == nil && streaming {
			return nil
		}
		if err := errors.Join(err, sleep(ctx, 50*time.Millisecond)); err != nil {
			return err
		}
	}
}

// failOver lets the primary crash under load and promotes the standby.
func (r *round) failOver(ctx context.Context) error {
	draw := random(r.seed, 1)
	if err := sleep(ctx, between(draw, 4*time.Second, 8*time.Second)); err != nil {
		return err
	}
	was := fallen{name: failoverName, on: r.failover, from: time.Now()}
	// What is on its way to the standby goes with the machine.
	r.world.links.all["standby-database"].cut()
	if err := r.world.database.server.Halt(true); err != nil {
		return err
	}
	halted := time.Now()
	if err := sleep(ctx, between(draw, time.Millisecond, 3*time.Second)); err != nil {
		return err
	}
	standby, err := pgx.Connect(ctx, r.world.standby.DSN())
	if err != nil {
		return fmt.Errorf("standby: %w", err)
	}
	defer func() { _ = standby.Close(ctx) }()
	if _, err := standby.Exec(ctx, "select pg_promote()"); err != nil {
		return fmt.Errorf("promote: %w", err)
	}
	was.to = time.Now()
	r.report.failovers++
	r.record.rewinds = append(r.record.rewinds, check.Rewind{At: halted})
	recovering, over := context.WithTimeoutCause(ctx, recoveryLimit, fmt.Errorf("not within %v", recoveryLimit))
	defer over()
	was.recovery, was.err = r.probe.awaitFresh(recovering, was.to)
	r.report.fallen = append(r.report.fallen, was)
	r.tell(fmt.Sprintf("%s  failover, %s: %5.1f s, then %s", clock(was.from), was.on, was.to.Sub(was.from).Seconds(), was.outcome()))
	if was.err != nil {
		return was.err
	}
	return sleep(ctx, between(draw, 4*time.Second, 6*time.Second))
}

// historyOfBoth compares what the new primary has with what the old one had: the difference is what the failover lost.
func (r *round) historyOfBoth(ctx context.Context, d *database) (*check.History, error) {
	h, err := r.record.history(ctx, d)
	if err != nil {
		return nil, err
	}
	for _, p := range r.world.programs {
		p.stop()
	}
	if err := d.server.Resume(); err != nil {
		return nil, fmt.Errorf("start the old primary: %w", err)
	}
	old, err := pgx.Connect(ctx, d.server.DSN())
	if err != nil {
		return nil, fmt.Errorf("old primary: %w", err)
	}
	defer func() { _ = old.Close(ctx) }()
	// Transactions that were prepared there, and not here, are nobody's any more.
	before, err := readRows(ctx, old, "select id, type, subscriber, payload::text, null::timestamptz from events")
	if err != nil {
		return nil, fmt.Errorf("old primary: %w", err)
	}
	compare(h, before)
	return h, nil
}

// compare marks what the failover lost, and what came after it. The rewind is as far back as what both have.
func compare(h *check.History, before []check.Row) {
	rewind := &h.Rewinds[0]
	had := map[string]bool{}
	for _, row := range before {
		had[row.Token] = true
	}
	has := map[string]bool{}
	for i := range h.Rows {
		row := &h.Rows[i]
		has[row.Token] = true
		if had[row.Token] {
			rewind.Newest = max(rewind.Newest, row.ID)
		} else {
			row.Since = rewind.At
		}
	}
	for _, row := range before {
		if !has[row.Token] {
			row.Lost = rewind.At
			h.Rows = append(h.Rows, row)
		}
	}
}

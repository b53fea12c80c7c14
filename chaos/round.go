package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/event-piper/event-piper/chaos/check"
)

// consumers are those that readers are. Writers address them, and topics.
var consumers = []string{"alpha", "beta", "gamma", "delta", "epsilon", "zeta"}

// runRound makes a world, lets everybody loose in it, and checks what happened. An error is one that keeps the round
// from being checked.
func runRound(ctx context.Context, bin, dir string, o options) (*report, error) {
	result := &report{rounds: 1}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // PostgreSQL's user has to pass
		return result, err
	}
	var w *world
	var err error
	if o.failover != "" {
		w, err = newPair(ctx, bin, dir, o.failover == "sync")
	} else {
		w, err = newWorld(ctx, bin, dir)
	}
	if err != nil {
		return result, err
	}
	defer w.close()
	if w.said, err = os.Create(filepath.Join(dir, "clients.log")); err != nil { //nolint:gosec // our own
		return result, err
	}
	r := &round{options: o, world: w, record: &record{}, report: result}
	r.probe = newProbe(w.database, r.record, w.targets)
	result.version = w.database.version
	fmt.Printf("round with seed %d: %v, PostgreSQL %d, %d writers, %d readers\n", o.seed, o.length, w.database.version/10000, o.writers, o.readers)
	if o.failover != "" {
		return result, r.run(ctx, r.failOver, r.historyOfBoth)
	}
	return result, r.run(ctx, r.plague, r.record.history)
}

// round is one under way.
type round struct {
	options
	world  *world
	record *record
	probe  *probe
	report *report
	ends   ends // of the readers
}

// run disturbs what everybody does, and judges the history that comes of it.
func (r *round) run(ctx context.Context, disturb func(context.Context) error,
	history func(context.Context, *database) (*check.History, error)) error {
	began := time.Now()
	var writing, reading, watching sync.WaitGroup
	background := context.WithoutCancel(ctx)
	writers, stopWriters := context.WithCancel(background)
	readers, stopReaders := context.WithCancel(background)
	watch, stopWatch := context.WithCancel(background)
	defer watching.Wait()
	defer stopWatch()
	defer reading.Wait()
	defer stopReaders()
	defer writing.Wait()
	defer stopWriters()

	r.startReaders(readers, &reading)
	if err := r.startBeside(readers, &reading); err != nil {
		return err
	}
	r.startWriters(writers, &writing)
	writing.Go(func() { r.probe.write(writers) })
	watching.Go(func() { r.probe.watch(watch) })
	watching.Go(func() { endOften(watch, r.world.database) })

	err := disturb(ctx)
	r.report.spent = time.Since(began)
	if err != nil {
		// What was committed must arrive all the same, and what is wrong may show.
		r.report.found = append(r.report.found, err.Error())
	}
	return errors.Join(r.settle(background, stopWriters, stopReaders, &writing, &reading), r.judge(background, history))
}

// plague makes faults for as long as the round is.
func (r *round) plague(ctx context.Context) error {
	ctx, over := context.WithTimeout(ctx, r.length)
	defer over()
	list, without := wanted(r.world, r.faults)
	if len(list) == 0 {
		return fmt.Errorf("no fault is called %q", r.faults)
	}
	r.report.without = without
	var err error
	r.report.fallen, err = plague(ctx, r.world, r.probe, list, r.together, random(r.seed, 1), r.tell)
	return err
}

func (r *round) tell(line string) {
	if !r.quiet {
		fmt.Println("  " + line)
	}
}

func (r *round) startWriters(ctx context.Context, running *sync.WaitGroup) {
	d := r.world.database
	direct := d.dsn(d.addresses...)
	if link := r.world.links.all["writers-database"]; link != nil {
		direct = d.dsn(link.address)
	}
	for i := range r.writers {
		w := &writer{
			name: fmt.Sprint("writer-", i), dsn: direct, database: d, record: r.record,
			addresses: written, hurried: &r.world.hurried, pause: r.pause, random: random(r.seed, uint64(100+i)),
		}
		if r.world.bouncer != nil && i%3 == 2 {
			w.pooled = true
			w.dsn = d.dsn(r.world.links.all["writers-pgbouncer"].address)
		}
		running.Go(func() { w.run(ctx) })
	}
}

func (r *round) startReaders(ctx context.Context, running *sync.WaitGroup) {
	for i := range r.readers {
		name := fmt.Sprint("reader-", i)
		reader := newReader(r.record.reader(name), consumers[i%len(consumers)], random(r.seed, uint64(1000+i)), &r.ends, r.world.targets...)
		reader.naps, reader.joins = i%4 == 3, i%2 == 1
		running.Go(func() { reader.run(ctx) })
	}
	said := log.New(r.world.said, "", log.Ltime|log.Lmicroseconds)
	for i, t := range r.world.targets {
		reader := newReader(r.record.reader("probe of "+t.name), probeAddress, random(r.seed, uint64(2000+i)), &r.ends, t)
		reader.settled, reader.received, reader.tell = true, r.probe.received(t.name), said.Printf
		running.Go(func() { reader.run(ctx) })
	}
}

// endOften sees to prepared transactions whose writers cannot.
func endOften(ctx context.Context, d *database) {
	for ctx.Err() == nil {
		_ = endPrepared(ctx, d, time.Second) // again in a moment
		_ = sleep(ctx, 500*time.Millisecond)
	}
}

// settleLimit is how long readers may take to get what was written, once nothing disturbs them any more.
const settleLimit = time.Minute

// settle ends the writers, tells the readers where the end is, and waits for them.
func (r *round) settle(ctx context.Context, stopWriters, stopReaders func(), writing, reading *sync.WaitGroup) error {
	if err := r.world.mend(ctx); err != nil {
		return fmt.Errorf("mend what faults have left: %w", err)
	}
	stopWriters()
	writing.Wait()
	ctx, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	if err := r.world.database.awaitUp(ctx); err != nil {
		return err
	}
	if err := endPrepared(ctx, r.world.database, 0); err != nil {
		return fmt.Errorf("end prepared transactions: %w", err)
	}
	last := map[string]int64{}
	err := r.world.database.query(ctx, func(ctx context.Context, c *pgx.Conn) error {
		for _, address := range append([]string{probeAddress}, written...) {
			token := lastToken(address)
			var id int64
			if err := c.QueryRow(ctx, `insert into events (type, subscriber, payload) values ('last', $1, $2::text::json) returning id`,
				address, `{"token":"`+token+`"}`).Scan(&id); err != nil {
				return err
			}
			r.record.wrote(check.Committed, token)
			last[address] = id
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("write the last events: %w", err)
	}
	r.ends.Store(&last)
	done := make(chan struct{})
	go func() { reading.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
		r.report.found = append(r.report.found, "readers do not come to the end within "+settleLimit.String())
		stopReaders()
		<-done
	}
	return nil
}

// lastToken is that of the last event that an address gets.
func lastToken(address string) string { return "last." + address }

// judge checks the history and everything else that was seen.
func (r *round) judge(ctx context.Context, history func(context.Context, *database) (*check.History, error)) error {
	h, err := history(ctx, r.world.database)
	if err != nil {
		return fmt.Errorf("read the table: %w", err)
	}
	if r.report.beside, err = r.besideVerdict(ctx, h); err != nil {
		return err
	}
	verdict := check.Verify(h)
	r.report.verdict = verdict
	for _, v := range verdict.Violations {
		r.report.found = append(r.report.found, v.String())
	}
	for _, p := range r.world.programs {
		r.report.found = append(r.report.found, p.ended(r.together > 1)...)
	}
	r.report.found = append(r.report.found, r.probe.lies(r.away)...)
	if len(verdict.Violations) > 0 {
		return r.keepHistory(h)
	}
	return nil
}

// keepHistory writes down all that the readers got, because a seed alone does not bring a violation back.
func (r *round) keepHistory(h *check.History) error {
	file, err := os.Create(filepath.Join(r.world.dir, "history.log"))
	if err != nil {
		return err
	}
	out := bufio.NewWriter(file)
	for _, rewind := range h.Rewinds {
		_, _ = fmt.Fprintf(out, "%s the database went back to %d\n", clock(rewind.At), rewind.Newest) // Flush tells
	}
	for _, reader := range h.Readers {
		for _, s := range reader.Sessions {
			_, _ = fmt.Fprintf(out, "%s %s of %q, %s after %d\n", clock(s.Opened), reader.Name, s.Addresses, s.Via, s.After)
			for _, m := range s.Messages {
				_, _ = fmt.Fprintf(out, "  %s %s %d %s%s\n", clock(m.At), [...]string{"event", "cursor", "reset"}[m.Kind], m.ID, m.Token, m.Reason)
			}
		}
	}
	return errors.Join(out.Flush(), file.Close())
}

// away says whether a fault of a link between clients and a server, or of the harness's own making, was there.
func (r *round) away(target string, from, to time.Time) bool {
	for _, f := range r.report.fallen {
		if f.from.Before(to) && f.to.Add(patience).After(from) && strings.Contains(f.on, "clients-"+target+" ") {
			return true
		}
	}
	return false
}

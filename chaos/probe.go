package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/event-piper/event-piper/chaos/check"
)

// probe measures how long the way of an event is: it commits one ten times a second, past all links, and notes when
// each server's own client has got it.
type probe struct {
	// set at construction
	database *database
	record   *record
	targets  []*target

	mu      sync.Mutex
	events  []*probed           // guarded by mu, and what they point to
	byToken map[string]*probed  // guarded by mu
	states  map[string][]sample // guarded by mu: what health said, by target
}

// probed is one event of the probe.
type probed struct {
	id        int64
	began     time.Time
	committed time.Time
	// held is when a transaction was last seen to hold it back, and free when none was any more; zero times until then.
	held, free time.Time
	got        map[string]time.Time // by target
}

// owed returns since when an event was due that came at a moment.
func (e *probed) owed(got time.Time) time.Time {
	switch {
	case e.free.Before(got):
		return e.free
	case e.held.After(e.committed) && e.held.Before(got):
		return e.held
	}
	return e.committed // it came before the look at its writers
}

// sample is what health said at a moment.
type sample struct {
	at    time.Time
	state state
}

const probeAddress = "probe"

func newProbe(d *database, r *record, targets []*target) *probe {
	return &probe{database: d, record: r, targets: targets, byToken: map[string]*probed{}, states: map[string][]sample{}}
}

const probeInterval = 100 * time.Millisecond

// write commits the events until ctx ends.
func (p *probe) write(ctx context.Context) {
	var conn *pgx.Conn
	defer func() {
		if conn != nil {
			_ = conn.Close(context.Background())
		}
	}()
	for n := 0; ctx.Err() == nil; n++ {
		err := p.commit(ctx, &conn, fmt.Sprint("probe.", n))
		if err != nil && conn != nil {
			_ = conn.Close(ctx)
			conn = nil
		}
		_ = sleep(ctx, probeInterval)
	}
}

func (p *probe) commit(ctx context.Context, conn **pgx.Conn, token string) (err error) {
	timed, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if *conn == nil {
		*conn, err = p.database.connect(timed, "probe")
		if err != nil {
			*conn = nil
			return err
		}
	}
	e := &probed{began: time.Now(), got: map[string]time.Time{}}
	p.mu.Lock()
	p.byToken[token] = e
	p.mu.Unlock()
	err = (*conn).QueryRow(timed, `insert into events (type, subscriber, payload) values ('probe', $1, $2::text::json) returning id`,
		probeAddress, `{"token":"`+token+`"}`).Scan(&e.id)
	p.record.wrote(outcomeOf(err), token)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	e.committed = time.Now()
	p.events = append(p.events, e)
	return nil
}

// received returns what a target's client tells of its deliveries.
func (p *probe) received(target string) func(*check.Message) {
	return func(m *check.Message) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if e := p.byToken[m.Token]; e != nil && e.got[target].IsZero() {
			e.got[target] = m.At
		}
	}
}

// watch asks the database which transactions hold events back, and each server how it is, until ctx ends.
func (p *probe) watch(ctx context.Context) {
	var watching sync.WaitGroup
	for _, t := range p.targets {
		if t.only {
			continue // it has no health
		}
		watching.Go(func() {
			for ctx.Err() == nil {
				state := askHealth(ctx, t.direct)
				p.mu.Lock()
				p.states[t.name] = append(p.states[t.name], sample{time.Now(), state})
				p.mu.Unlock()
				_ = sleep(ctx, probeInterval)
			}
		})
	}
	for ctx.Err() == nil {
		p.lookAtWriters(ctx)
		_ = sleep(ctx, probeInterval)
	}
	watching.Wait()
}

func (p *probe) lookAtWriters(ctx context.Context) {
	p.mu.Lock()
	var waiting []*probed
	for _, e := range slices.Backward(p.events) {
		if !e.free.IsZero() {
			break
		}
		waiting = append(waiting, e)
	}
	p.mu.Unlock()
	var before *int64
	asked := time.Now()
	err := p.database.query(ctx, func(ctx context.Context, c *pgx.Conn) error {
		return c.QueryRow(ctx, "select min(before) from events_writers").Scan(&before)
	})
	if err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range waiting {
		if before == nil || *before >= e.id {
			e.free = time.Now()
		} else {
			e.held = asked
		}
	}
}

// recovery says how long it took, after a moment, until the database took a commit, and from then, or from when no
// transaction held it back, until each server's client had it, and all that was committed before.
type recovery struct {
	database time.Duration
	targets  map[string]time.Duration
}

// awaitFresh waits until an event that was begun after a moment has come to every server's client.
func (p *probe) awaitFresh(ctx context.Context, since time.Time) (recovery, error) {
	for {
		if r, ok := p.fresh(since); ok {
			return r, nil
		}
		if err := sleep(ctx, 10*time.Millisecond); err != nil {
			return recovery{}, fmt.Errorf("delivery does not resume: %s: %w", p.missing(since), err)
		}
	}
}

func (p *probe) fresh(since time.Time) (recovery, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.events {
		if e.began.Before(since) {
			continue
		}
		if len(e.got) < len(p.targets) || e.free.IsZero() {
			continue // on its way, or overtaken by a failover; if it is lost, the checker will say so
		}
		r := recovery{database: e.committed.Sub(since), targets: map[string]time.Duration{}}
		for target, at := range e.got {
			r.targets[target] = max(at.Sub(e.owed(at)), 0)
		}
		return r, true
	}
	return recovery{}, false
}

// missing names the servers whose clients wait.
func (p *probe) missing(since time.Time) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.events {
		if e.began.Before(since) {
			continue
		}
		var names []string
		for _, t := range p.targets {
			if e.got[t.name].IsZero() {
				names = append(names, t.name)
			}
		}
		return fmt.Sprintf("event %d, committed %v ago, has not come from %v (came from %v, held back: %v)", e.id,
			time.Since(e.committed).Round(time.Millisecond), names, slices.Sorted(maps.Keys(e.got)), e.free.IsZero())
	}
	return "the database takes no commit"
}

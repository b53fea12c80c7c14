package core

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Connection is what Direct needs of the table of events: one connection that reads and waits in turn. An
// implementation must pass coretest.TestPoller. One goroutine uses it at a time; after an error other than
// ErrUnreadable only Close may be called.
//
// It promises the order that Store promises.
type Connection interface {
	// Horizon looks up to where history can be read now.
	Horizon(ctx context.Context) (Horizon, error)

	// Page reads history up to a horizon that this connection has seen.
	Page(ctx context.Context, q PageQuery, through Horizon) (Page, error)

	// Arm prepares for waiting: a commit that the next Horizon does not see will end a Wait.
	Arm(ctx context.Context) error

	// Wait returns when another look may find something, at the given time at the latest. Seen is what the
	// last look saw. It is called between Arm and Disarm.
	Wait(ctx context.Context, seen Horizon, until time.Time) error

	// Disarm takes Arm back. Afterwards nothing is sent to this connection unasked. It takes no context, since
	// it must happen whatever became of the request, and bounds its own time.
	Disarm() error

	Close()
}

// Horizon is where history ends at the time of a look.
type Horizon struct {
	// Watermark is the highest id at or below which nothing can appear any more, Newest the newest position
	// there.
	Watermark, Newest int64
	// Writers counts the transactions in flight that have inserted events.
	Writers int
}

const (
	// staleTimeout bounds the first look over a connection that may have died while nobody looked.
	staleTimeout = 2 * time.Second
	// answerTime is what is left of a request's time for answering it.
	answerTime = 500 * time.Millisecond
)

// Direct implements Poller without a hub, for a process that serves few requests at a time and may be frozen
// between two: a Lambda. A poll has a connection to itself, so polls do not wait for one another, and waits only
// until it is answered: before that the connection is disarmed or, if that fails, closed.
type Direct struct {
	connect func(context.Context) (Connection, error)
	log     *slog.Logger

	mu     sync.Mutex
	idle   []Connection // guarded by mu; the one used last is taken first
	closed bool         // guarded by mu
	// replaced counts the connections that no longer worked; guarded by mu.
	replaced int
}

// NewDirect returns a poller that connects at its first poll, when all connections are in use, and when one is
// lost.
func NewDirect(connect func(context.Context) (Connection, error), log *slog.Logger) *Direct {
	return &Direct{connect: connect, log: log}
}

// Close closes the connections, those in use after their polls.
func (d *Direct) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	for _, conn := range d.idle {
		conn.Close()
	}
	d.idle = nil
}

// take returns an idle connection, nil if there is none.
func (d *Direct) take() Connection {
	d.mu.Lock()
	defer d.mu.Unlock()
	last := len(d.idle) - 1
	if last < 0 {
		return nil
	}
	conn := d.idle[last]
	d.idle = d.idle[:last]
	return conn
}

// giveBack keeps a connection for the next poll.
func (d *Direct) giveBack(conn Connection) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		conn.Close()
		return
	}
	d.idle = append(d.idle, conn)
}

// TakeReplaced returns how many connections did not work any more and were replaced since it was last asked.
func (d *Direct) TakeReplaced() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.replaced
	d.replaced = 0
	return n
}

// look looks for the first time in a request: over a new connection if none is idle, or if the idle ones do not
// answer. The caller closes the connection or gives it back.
func (d *Direct) look(ctx context.Context) (Connection, Horizon, error) {
	for conn := d.take(); conn != nil; conn = d.take() {
		short, cancel := context.WithTimeout(ctx, staleTimeout)
		seen, err := conn.Horizon(short)
		cancel()
		if err == nil {
			return conn, seen, nil
		}
		conn.Close()
		if ctx.Err() != nil {
			return nil, seen, err
		}
		d.mu.Lock()
		d.replaced++
		d.mu.Unlock()
		d.log.Info("replacing a connection that no longer works", "error", err)
	}
	conn, err := d.connect(ctx)
	if err != nil {
		return nil, Horizon{}, err
	}
	seen, err := conn.Horizon(ctx)
	if err != nil {
		conn.Close()
	}
	return conn, seen, err
}

// Ping reports whether events can be read.
func (d *Direct) Ping(ctx context.Context) error {
	asking, cancel, _ := beforeDeadline(ctx)
	defer cancel()
	conn, _, err := d.look(asking)
	if err == nil {
		d.giveBack(conn)
	}
	return err
}

// Poll implements Poller. It returns early enough before ctx's deadline for an answer.
func (d *Direct) Poll(ctx context.Context, p Poll) (Batch, error) {
	asking, cancel, end := beforeDeadline(ctx)
	defer cancel()
	until := time.Now().Add(p.Wait)
	if !end.IsZero() && end.Before(until) {
		until = end
	}
	batch, err := d.poll(asking, p, until)
	if _, reset := errors.AsType[*ResetError](err); err == nil || reset {
		return batch, err
	}
	if err := ctx.Err(); err != nil {
		return Batch{}, err
	}
	return Batch{}, unavailable(err)
}

// poll is a turn of the reading loop: read, and wait only when a read came back empty.
func (d *Direct) poll(ctx context.Context, p Poll, until time.Time) (Batch, error) {
	conn, seen, err := d.look(ctx)
	if err != nil {
		return Batch{}, err
	}
	usable := false // not even after a panic
	defer func() {
		if usable {
			d.giveBack(conn)
		} else {
			conn.Close()
		}
	}()
	r := &reader{
		place: place{cursor: p.After, types: p.Types}, conn: conn, limit: p.Limit,
		query: PageQuery{Addresses: append([]string{p.Consumer}, p.Topics...), Types: p.Types, Current: p.Current, Limit: p.Limit},
	}
	if p.After == FromNow {
		r.cursor = seen.Newest
	}
	batch, err := r.read(ctx, seen, until)
	var disarmed error
	if err == nil && len(batch.Events) == 0 && !over(until) {
		batch, err = r.wait(ctx, until)
		disarmed = conn.Disarm()
	}
	_, reset := errors.AsType[*ResetError](err)
	usable = disarmed == nil && (err == nil || reset || errors.Is(err, ErrUnreadable))
	return batch, err
}

// beforeDeadline returns a context for queries that ends early enough before ctx does to answer all the same,
// and when waiting must end so that there is time for a last query, which is zero if ctx has no deadline.
func beforeDeadline(ctx context.Context) (asking context.Context, cancel context.CancelFunc, waiting time.Time) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return ctx, func() {}, time.Time{}
	}
	asking, cancel = context.WithDeadline(ctx, deadline.Add(-answerTime))
	return asking, cancel, deadline.Add(-2 * answerTime)
}

func over(until time.Time) bool { return !time.Now().Before(until) }

// reader is a cursor over a connection: what a Session is for a hub.
type reader struct {
	place
	conn  Connection
	query PageQuery
	limit int // of a batch; that of the query shrinks for pages that cannot be read
}

// read reads pages up to what was seen, until one has an event that is wanted or there are no more.
func (r *reader) read(ctx context.Context, seen Horizon, until time.Time) (Batch, error) {
	for {
		page, err := r.page(ctx, seen)
		if err != nil {
			return Batch{}, err
		}
		if reset := page.Reset(r.query); reset != nil {
			return Batch{}, reset
		}
		events, n := r.take(nil, page.Events, r.limit, maxBatchBytes)
		more := n < len(page.Events)
		if !more {
			r.cursor, more = page.Next, page.More
		}
		if len(events) > 0 || !more || over(until) {
			return Batch{Events: events, Cursor: r.cursor, More: more}, nil
		}
	}
}

// wait arms the connection and reads on until there is an event. The caller disarms it, whatever comes of it.
func (r *reader) wait(ctx context.Context, until time.Time) (Batch, error) {
	if err := r.conn.Arm(ctx); err != nil {
		return Batch{}, fmt.Errorf("prepare for waiting: %w", err)
	}
	for {
		seen, err := r.conn.Horizon(ctx) // what came before the arming has not rung
		if err != nil {
			return Batch{}, err
		}
		batch, err := r.read(ctx, seen, until)
		if err != nil || len(batch.Events) > 0 || over(until) {
			return batch, err
		}
		if err := r.conn.Wait(ctx, seen, until); err != nil {
			return Batch{}, fmt.Errorf("wait for events: %w", err)
		}
	}
}

// page reads the page after the cursor. A page that cannot be read because of what is in it may be readable up
// to there: it is tried with half as many events, and at last with one.
func (r *reader) page(ctx context.Context, seen Horizon) (Page, error) {
	r.query.After = r.cursor
	for {
		page, err := r.conn.Page(ctx, r.query, seen)
		if !errors.Is(err, ErrUnreadable) || r.query.Limit == 1 {
			return page, err
		}
		r.query.Limit /= 2
	}
}

package postgresql

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/event-piper/event-piper/core"
)

const (
	// soloIdle ends a connection whose process was frozen or forgotten. PostgreSQL enforces it, so it
	// also ends one that is still listening, which would keep the cluster's notification queue from being
	// emptied.
	soloIdle = "60s"
	// staleTimeout bounds the first query over a connection that may have died while nobody looked.
	staleTimeout = 2 * time.Second
	// soloConnectTimeout bounds connecting, so that a client learns soon that there is no database.
	soloConnectTimeout = 4 * time.Second
	// deadlineMargin is what is left of a request's time for answering it.
	deadlineMargin = 500 * time.Millisecond
	// Without LISTEN, a waiting poll reads on an interval that grows.
	minInterval, maxInterval = 100 * time.Millisecond, time.Second
)

// Solo implements core.Poller over a single connection, for a process that serves one request at a time and
// may be frozen between two: a Lambda. It listens only while a poll waits.
type Solo struct {
	target   *target
	interval bool
	log      *slog.Logger

	mu   sync.Mutex // held for the length of a poll
	conn *listener  // guarded by mu; nil if there is none
}

// OpenSolo prepares a Solo; it connects at the first poll. With interval it never listens: for a pooler in
// transaction mode, which has no LISTEN, or one that sets a connection apart for it.
func OpenSolo(dsn, name string, interval bool, log *slog.Logger) (*Solo, error) {
	t, err := parseDSN("DATABASE_URL", dsn, name)
	if err != nil {
		return nil, err
	}
	if interval {
		// A pooler hands a prepared statement's next use to a server that never saw it. What a query is made of may be
		// remembered, though, and without it pgx could not ask for the binary format that readPages decodes.
		t.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	}
	return &Solo{target: t, interval: interval, log: log}, nil
}

// SignIn makes a login give the user and the password of connections from now on, whatever the DSN says.
func (s *Solo) SignIn(login Login) { s.target.login = login }

// Close closes the connection.
func (s *Solo) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop()
}

func (s *Solo) drop() {
	if s.conn != nil {
		s.conn.close()
		s.conn = nil
	}
}

// Ping reports whether events can be read.
func (s *Solo) Ping(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx, cancel, _ := margin(ctx)
	defer cancel()
	_, err := s.first(ctx)
	return err
}

// Poll implements core.Poller. It returns early enough before ctx's deadline for an answer.
func (s *Solo) Poll(ctx context.Context, p core.Poll) (core.Batch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	asking, cancel, end := margin(ctx)
	defer cancel()
	deadline := time.Now().Add(p.Wait)
	if !end.IsZero() && end.Before(deadline) {
		deadline = end
	}
	batch, err := s.poll(asking, p, deadline)
	var reset *core.ResetError
	if err != nil && !errors.As(err, &reset) && ctx.Err() == nil {
		s.drop()
		err = errors.Join(core.ErrUnavailable, err)
	}
	return batch, err
}

// margin returns a context for queries that ends early enough before ctx does to answer all the same, and when
// waiting must end so that there is time for a last query, which is never if ctx has no deadline.
func margin(ctx context.Context) (asking context.Context, cancel context.CancelFunc, waiting time.Time) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return ctx, func() {}, time.Time{}
	}
	asking, cancel = context.WithDeadline(ctx, deadline.Add(-deadlineMargin))
	return asking, cancel, deadline.Add(-2 * deadlineMargin)
}

func (s *Solo) poll(ctx context.Context, p core.Poll, deadline time.Time) (core.Batch, error) {
	now, err := s.first(ctx)
	if err != nil {
		return core.Batch{}, err
	}
	cursor := p.After
	if cursor == core.FromNow {
		cursor = now.newest
	}
	batch, err := s.read(ctx, p, cursor, now, deadline)
	if err != nil || len(batch.Events) > 0 || !time.Now().Before(deadline) {
		return batch, err
	}
	w, err := s.waiter(ctx)
	if err != nil {
		return core.Batch{}, err
	}
	defer w.end()
	for {
		if now, err = s.present(ctx); err != nil {
			return core.Batch{}, err
		}
		batch, err = s.read(ctx, p, batch.Cursor, now, deadline)
		if err != nil || len(batch.Events) > 0 || !time.Now().Before(deadline) {
			return batch, err
		}
		if err := w.wait(ctx, now.writers, deadline); err != nil {
			return core.Batch{}, err
		}
	}
}

// first runs the first query of a request, over a new connection if there is none or the old one does not
// answer.
func (s *Solo) first(ctx context.Context) (present, error) {
	if s.conn != nil {
		short, cancel := context.WithTimeout(ctx, staleTimeout)
		defer cancel()
		now, err := readPresent(short, s.conn.Conn)
		if err == nil || ctx.Err() != nil {
			return now, err
		}
		s.log.Info("replacing a connection that no longer works", "error", err)
		s.drop()
	}
	if err := s.connect(ctx); err != nil {
		return present{}, err
	}
	return s.present(ctx)
}

func (s *Solo) present(ctx context.Context) (now present, err error) {
	err = attend(ctx, heard(s.conn.Conn), liveSilence, func(ctx context.Context) error {
		now, err = readPresent(ctx, s.conn.Conn)
		return err
	})
	return now, err
}

func (s *Solo) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, soloConnectTimeout)
	defer cancel()
	var more []parameter
	if !s.interval {
		more = []parameter{{"idle_session_timeout", soloIdle}}
	}
	l, err := dial(ctx, s.target, !s.interval, more...)
	if err == nil {
		s.conn = l
	}
	return err
}

// read reads pages up to the present until one has an event that is wanted or there are no more.
func (s *Solo) read(ctx context.Context, p core.Poll, cursor int64, now present, deadline time.Time) (core.Batch, error) {
	for {
		query := core.PageQuery{Addresses: append([]string{p.Consumer}, p.Topics...), After: cursor, Types: p.Types, Current: p.Current, Limit: p.Limit}
		var pages []core.Page
		err := attend(ctx, heard(s.conn.Conn), liveSilence, func(ctx context.Context) (err error) {
			pages, err = readPages(ctx, s.conn.Conn, []core.PageQuery{query}, now, defaultMaxPayload)
			return err
		})
		if err != nil {
			return core.Batch{}, err
		}
		page := &pages[0]
		if reset := page.Reset(query); reset != nil {
			return core.Batch{}, reset
		}
		batch := core.Batch{Cursor: page.Next, More: page.More}
		bytes := 0
		for i, e := range page.Events {
			if !p.Types.Want(e.Type) {
				continue
			}
			bytes += len(e.Payload)
			if len(batch.Events) > 0 && bytes > maxReadBytes { // Lambda's answers are bounded
				batch.Cursor, batch.More = page.Events[i-1].ID, true
				break
			}
			batch.Events = append(batch.Events, e)
		}
		if len(batch.Events) > 0 || !page.More || !time.Now().Before(deadline) {
			return batch, nil
		}
		cursor = page.Next
	}
}

// waiter is how a poll waits behind a read that found nothing. Writers is how many were in flight when the read began.
// A commit that the read did not see ends the wait; end must be called before the request is answered.
type waiter interface {
	wait(ctx context.Context, writers int, deadline time.Time) error
	end()
}

func (s *Solo) waiter(ctx context.Context) (waiter, error) {
	if s.interval {
		return &intervalWaiter{pause: minInterval}, nil
	}
	w := &ringWaiter{solo: s, doorbell: doorbell{started: true, armed: true, unsettled: true}}
	armed, err := w.exec(ctx, "listen new_events; select pg_try_advisory_lock_shared(%d)")
	if err != nil {
		w.end()
		return nil, fmt.Errorf("listen: %w", err)
	}
	if !armed {
		w.doorbell.refused()
	}
	return w, nil
}

// ringWaiter waits for the doorbell, which it has armed.
type ringWaiter struct {
	solo     *Solo
	doorbell doorbell
}

// exec runs two statements, and reports whether the second, about the doorbell's lock, has done what it says.
func (w *ringWaiter) exec(ctx context.Context, format string) (done bool, err error) {
	results, err := w.solo.conn.PgConn().Exec(ctx, fmt.Sprintf(format, int64(doorbellKey))).ReadAll()
	if err != nil {
		return false, err
	}
	return string(results[1].Rows[0][0]) == "t", nil
}

func (w *ringWaiter) wait(ctx context.Context, writers int, deadline time.Time) error {
	w.doorbell.observe(false, writers, 0)
	rings, err := w.solo.conn.await(ctx, min(w.doorbell.pause(), time.Until(deadline)))
	w.doorbell.rang(rings)
	return err
}

// end does not depend on the request's context: a process that may be frozen must not listen, whatever
// became of the request.
func (w *ringWaiter) end() {
	ctx, cancel := context.WithTimeout(context.Background(), deadlineMargin/2)
	defer cancel()
	if _, err := w.exec(ctx, "unlisten *; select pg_advisory_unlock_shared(%d)"); err != nil {
		w.solo.drop()
		return
	}
	w.solo.conn.rings = 0 // of no interest to the next poll
}

// intervalWaiter reads again after a while.
type intervalWaiter struct{ pause time.Duration }

func (w *intervalWaiter) wait(ctx context.Context, _ int, deadline time.Time) error {
	timer := time.NewTimer(min(w.pause, time.Until(deadline)))
	defer timer.Stop()
	w.pause = min(w.pause*3/2, maxInterval)
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (*intervalWaiter) end() {}

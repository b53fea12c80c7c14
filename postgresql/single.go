package postgresql

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/event-piper/event-piper/core"
)

const (
	// singleIdle ends a connection whose process was frozen or forgotten. PostgreSQL enforces it, so it
	// also ends one that is still listening, which would keep the cluster's notification queue from being
	// emptied.
	singleIdle = "60s"
	// singleConnectTimeout bounds connecting, so that a client learns soon that there is no database.
	singleConnectTimeout = 4 * time.Second
	// disarmTimeout bounds the end of waiting, which a client's answer waits for.
	disarmTimeout = 250 * time.Millisecond
	// Without LISTEN, a waiting poll reads on an interval that grows.
	minInterval, maxInterval = 100 * time.Millisecond, time.Second
)

// Single returns what connects a core.Direct. With interval it never listens: for a pooler in transaction mode,
// which has no LISTEN, or one that sets a connection apart for it.
func Single(c Config, interval bool) (connect func(context.Context) (core.Connection, error), err error) {
	t, err := parseDSN("DATABASE_URL", c.URL, c.Name)
	if err != nil {
		return nil, err
	}
	t.login = c.Login
	if interval {
		// A pooler hands a prepared statement's next use to a server that never saw it. What a query is made of may be
		// remembered, though, and without it pgx could not ask for the binary format that readPages decodes.
		t.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	}
	return func(ctx context.Context) (core.Connection, error) {
		ctx, cancel := context.WithTimeout(ctx, singleConnectTimeout)
		defer cancel()
		var more []parameter
		if !interval {
			more = []parameter{{"idle_session_timeout", singleIdle}}
		}
		l, err := dial(ctx, t, !interval, more...)
		if err != nil {
			return nil, err
		}
		s := single{listener: l, maxPayload: c.largest()}
		if interval {
			return &pausing{single: s}, nil
		}
		return &ringing{single: s}, nil
	}, nil
}

// single reads over its one connection, for a core.Direct.
type single struct {
	*listener
	maxPayload int
}

// Horizon implements core.Connection.
func (s *single) Horizon(ctx context.Context) (h core.Horizon, err error) {
	err = s.attend(ctx, func(ctx context.Context) error {
		h, err = readHorizon(ctx, s.Conn)
		return err
	})
	return h, err
}

// Page implements core.Connection.
func (s *single) Page(ctx context.Context, q core.PageQuery, through core.Horizon) (core.Page, error) {
	var pages []core.Page
	err := s.attend(ctx, func(ctx context.Context) (err error) {
		pages, err = readPages(ctx, s.Conn, []core.PageQuery{q}, through, core.Mark{}, s.maxPayload)
		return err
	})
	switch {
	case err == nil:
		return pages[0], nil
	case errors.Is(err, core.ErrUnreadable) && s.PgConn().TxStatus() != 'I':
		// Over a shared connection a read is a transaction, which the error has not ended.
		if _, rollback := s.Exec(ctx, "rollback", pgx.QueryExecModeSimpleProtocol); rollback != nil {
			return core.Page{}, fmt.Errorf("end a failed read: %w", rollback)
		}
	}
	return core.Page{}, err
}

// Close implements core.Connection.
func (s *single) Close() { s.close() }

// ringing waits for the doorbell.
type ringing struct {
	single
	doorbell doorbell
}

// Arm implements core.Connection.
func (r *ringing) Arm(ctx context.Context) error {
	r.doorbell = doorbell{started: true, armed: true, unsettled: true}
	if r.deaf.lasts() {
		r.doorbell.refused()
		return nil
	}
	armed, err := r.exec(ctx, "listen new_events; select pg_try_advisory_lock_shared(%d)")
	if err == nil && !armed {
		r.doorbell.refused()
	}
	return err
}

// exec runs two statements, and reports whether the second, about the doorbell's lock, has done what it says.
func (r *ringing) exec(ctx context.Context, format string) (done bool, err error) {
	var results []*pgconn.Result
	err = r.unflooded(func() error {
		results, err = r.PgConn().Exec(ctx, fmt.Sprintf(format, int64(doorbellKey))).ReadAll()
		return err
	})
	if err != nil {
		return false, err
	}
	return string(results[1].Rows[0][0]) == "t", nil
}

// Wait implements core.Connection.
func (r *ringing) Wait(ctx context.Context, seen core.Horizon, until time.Time) error {
	r.doorbell.observe(false, seen.Writers, 0)
	rings, err := r.await(ctx, ctx, min(r.doorbell.pause(), time.Until(until)))
	r.doorbell.rang(rings)
	return err
}

// Disarm implements core.Connection.
func (r *ringing) Disarm() error {
	ctx, cancel := context.WithTimeout(context.Background(), disarmTimeout)
	defer cancel()
	_, err := r.exec(ctx, "unlisten *; select pg_advisory_unlock_shared(%d)")
	r.rings = 0 // of no interest to the next poll
	return err
}

// pausing reads again after a while.
type pausing struct {
	single
	pause time.Duration
}

// Arm implements core.Connection.
func (p *pausing) Arm(context.Context) error {
	p.pause = minInterval
	return nil
}

// Wait implements core.Connection.
func (p *pausing) Wait(ctx context.Context, _ core.Horizon, until time.Time) error {
	timer := time.NewTimer(min(p.pause, time.Until(until)))
	defer timer.Stop()
	p.pause = min(p.pause*3/2, maxInterval)
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Disarm implements core.Connection.
func (*pausing) Disarm() error { return nil }

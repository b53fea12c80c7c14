package postgresql

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// listener is a connection that counts the rings of the doorbell. One goroutine uses it.
type listener struct {
	*pgx.Conn
	server
	rings int // since await last returned

	deaf       *deafness
	asked      time.Time // when what has not been answered yet was asked, zero if nothing is
	unanswered int       // notifications since
	flooded    bool      // the connection was ended for too many of them
}

// dial connects to a database that can keep the promise of order and has our schema.
func dial(ctx context.Context, t *target, session bool, more ...parameter) (*listener, error) {
	l, err := reach(ctx, t, session, more...)
	if err != nil {
		return nil, err
	}
	for _, check := range []func(context.Context) error{
		func(ctx context.Context) error { return checkSchema(ctx, l.Conn, t.newer) },
		func(ctx context.Context) error { return checkVisible(ctx, l.Conn) },
		l.checkSequence,
	} {
		if err := check(ctx); err != nil {
			l.close()
			return nil, err
		}
	}
	return l, nil
}

// reach connects. To listen, or to lock, takes a session of its own.
func reach(ctx context.Context, t *target, session bool, more ...parameter) (*listener, error) {
	l := &listener{deaf: t.deaf}
	counting := *t
	counting.ConnConfig = t.Copy()
	// pgx would keep every notification for whoever asks; all that matters is that there was one.
	counting.OnNotification = func(*pgconn.PgConn, *pgconn.Notification) { l.rang() }
	var err error
	if l.Conn, l.server, err = counting.connect(ctx); err != nil {
		return nil, err
	}
	if l.shared && session {
		err = l.checkSession(ctx, t)
	}
	if l.shared && !session {
		share(l.Conn, t)
	} else if err == nil {
		err = t.setUp(ctx, l.Conn, l.server, more...)
	}
	if err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

var errNoSession = errors.New("a pooler that lends a connection for a transaction at a time is in between, which has no LISTEN: " +
	"name the database itself, or a pooler in session mode, in DATABASE_LISTEN_URL; the function can do without by POLL_WAIT=interval")

// probeTimeout bounds the wait for a first notification.
const probeTimeout = 2 * time.Second

// checkSession tells whether a pooler lends its connection for as long as the session lasts. One that does so for a
// transaction accepts LISTEN and swallows what comes of it while nothing is asked. So somebody else must ring: what is rung
// over the connection itself comes along with its answer.
func (l *listener) checkSession(ctx context.Context, t *target) error {
	if _, err := l.Exec(ctx, "listen new_events", pgx.QueryExecModeSimpleProtocol); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	short, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	other, err := open(short, t.ConnConfig, t.login)
	if err != nil {
		return fmt.Errorf("connect to PostgreSQL once more, to ring: %w", discreet(err))
	}
	defer closeConn(other)
	l.rings = 0
	if _, err := other.Exec(short, "select pg_catalog.pg_notify('new_events', '')", pgx.QueryExecModeSimpleProtocol); err != nil {
		return fmt.Errorf("ring: %w", err)
	}
	rings, err := l.await(ctx, ctx, probeTimeout)
	if err != nil {
		return fmt.Errorf("wait for the first notification: %w", err)
	}
	if rings == 0 {
		return errNoSession
	}
	return nil
}

// close leaves nothing behind for the next client of a pooler.
func (l *listener) close() {
	if l.shared && !l.IsClosed() {
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		const leave = "unlisten *; select pg_catalog.pg_advisory_unlock_all(); reset all"
		_, _ = l.Exec(ctx, leave, pgx.QueryExecModeSimpleProtocol) // one that fails loses the session, and with it all of that
	}
	closeConn(l.Conn)
}

// await waits until it has rung, for pause at most and until hurried ends, which is with ctx if not before, and returns how
// often it has.
func (l *listener) await(ctx, hurried context.Context, pause time.Duration) (rings int, err error) {
	timeout, cancel := context.WithTimeout(hurried, pause)
	defer cancel()
	for l.rings == 0 {
		if err := l.PgConn().WaitForNotification(timeout); err == nil {
			continue
		} else if ctx.Err() != nil || timeout.Err() == nil || l.IsClosed() {
			return 0, err
		}
		break
	}
	rings, l.rings = l.rings, 0
	return rings, nil
}

// checkSequence refuses a sequence of ids from which sessions draw ids ahead: the watermark would not
// know of them.
func (l *listener) checkSequence(ctx context.Context) error {
	var cache int64
	var readable bool
	var batch pgx.Batch
	batch.Queue(`select seqcache, has_sequence_privilege(seqrelid, 'select')
		from pg_sequence where seqrelid = pg_get_serial_sequence('events', 'id')::regclass::oid`).QueryRow(func(row pgx.Row) error {
		return row.Scan(&cache, &readable)
	})
	switch err := sendRead(ctx, l.Conn, &batch); {
	case err != nil:
		return fmt.Errorf("look at the sequence of events.id: %w", err)
	case !readable:
		return errors.New("permission denied for the sequence of events.id: grant select on it")
	case cache != 1:
		return fmt.Errorf("the sequence of events.id caches %d ids, which breaks their order: alter table events alter id set cache 1", cache)
	}
	return nil
}

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
	rings    int    // since await last returned
	sequence uint32 // that ids are drawn from
}

// dial connects to a database that can keep the promise of order.
func dial(ctx context.Context, c *pgx.ConnConfig) (*listener, error) {
	l := new(listener)
	// pgx would keep every notification for whoever asks; all that matters is that there was one.
	c.OnNotification = func(*pgconn.PgConn, *pgconn.Notification) { l.rings++ }
	conn, err := pgx.ConnectConfig(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	l.Conn = conn
	for _, check := range []func(context.Context, *pgx.Conn) error{checkServer, checkSchema, l.checkSequence} {
		if err := check(ctx, conn); err != nil {
			closeConn(conn)
			return nil, err
		}
	}
	return l, nil
}

// await waits until it has rung, for pause at most, and returns how often it has.
func (l *listener) await(ctx context.Context, pause time.Duration) (rings int, err error) {
	timeout, cancel := context.WithTimeout(ctx, pause)
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

// minServerVersion is what idle_session_timeout came with.
const minServerVersion = 140000

var errStandby = errors.New(
	"the server is a hot standby, which has no LISTEN, lags behind, and does not see the writers' locks: connect to the primary")

// checkServer refuses a server on which LISTEN cannot work.
func checkServer(ctx context.Context, conn *pgx.Conn) error {
	var version int
	var standby bool
	err := conn.QueryRow(ctx, "select current_setting('server_version_num')::int, pg_is_in_recovery()").Scan(&version, &standby)
	switch {
	case err != nil:
		return fmt.Errorf("ask what the server is: %w", err)
	case version < minServerVersion:
		return fmt.Errorf("the server is PostgreSQL %d, which is older than %d", version/10000, minServerVersion/10000)
	case standby:
		return errStandby
	}
	return nil
}

// checkSequence finds the sequence of ids, and refuses one from which sessions draw ids ahead: the watermark would not
// know of them.
func (l *listener) checkSequence(ctx context.Context, conn *pgx.Conn) error {
	var cache int64
	var readable bool
	err := conn.QueryRow(ctx, `select seqrelid, seqcache, has_sequence_privilege(seqrelid, 'select')
		from pg_sequence where seqrelid = pg_get_serial_sequence('events', 'id')::regclass::oid`).Scan(&l.sequence, &cache, &readable)
	switch {
	case err != nil:
		return fmt.Errorf("look at the sequence of events.id: %w", err)
	case !readable:
		return errors.New("permission denied for the sequence of events.id: grant select on it")
	case cache != 1:
		return fmt.Errorf("the sequence of events.id caches %d ids, which breaks their order: alter table events alter id set cache 1", cache)
	}
	return nil
}

package postgresql

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// liveSilence is how long a read of the live end may go without a byte before its connection is given up, and
	// pageSilence the same for history, whose rows may have to come from a slow disk. How long a transfer takes is of no
	// interest while bytes come: begun again, it would take as long again.
	liveSilence = 5 * time.Second
	pageSilence = 10 * time.Second
)

// line is a network connection that knows when something has come over it.
type line struct {
	net.Conn
	heard atomic.Int64 // in nanoseconds since the epoch
}

func (l *line) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	if n > 0 {
		l.heard.Store(time.Now().UnixNano())
	}
	return n, err
}

// heard returns what tells when something has come over a connection.
func heard(conn *pgx.Conn) func() time.Time {
	c := conn.PgConn().Conn()
	if encrypted, ok := c.(*tls.Conn); ok {
		c = encrypted.NetConn()
	}
	l, ok := c.(*line)
	if !ok {
		return func() time.Time { return time.Time{} }
	}
	return func() time.Time { return time.Unix(0, l.heard.Load()) }
}

var errSilent = errors.New("nothing has come from the database")

// attend asks something over a connection, and gives the answer up, and with it the connection, once nothing has come for
// the length of a silence.
func attend(ctx context.Context, heard func() time.Time, silence time.Duration, ask func(context.Context) error) error {
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	began := time.Now()
	var look func()
	look = func() {
		since := began
		if last := heard(); last.After(since) {
			since = last
		}
		if rest := silence - time.Since(since); rest > 0 && ctx.Err() == nil {
			time.AfterFunc(rest, look) // which finds the context at its end if the answer comes before
			return
		}
		giveUp(errSilent)
	}
	timer := time.AfterFunc(silence, look)
	defer timer.Stop()
	err := ask(ctx)
	if err != nil && errors.Is(context.Cause(ctx), errSilent) {
		return fmt.Errorf("%w for %v: %w", errSilent, silence, err)
	}
	return err
}

package postgresql

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Login gives connections a user and a password that change while the process runs: a secret that is rotated, a token
// that lives for minutes. Its methods are called concurrently.
type Login interface {
	// Give sets the user and the password of a connection that is about to be opened.
	Give(ctx context.Context, c *pgx.ConnConfig) error
	// Renew is called when the server has refused what was given, and reports whether something else is worth a try.
	Renew(ctx context.Context) (another bool, err error)
}

// logins bounds how often one connection tries: with what is known, with what a renewal found, and once more for a
// rotation that ended in between.
const logins = 3

// open connects with a login, if there is one.
func open(ctx context.Context, c *pgx.ConnConfig, login Login) (conn *pgx.Conn, err error) {
	if login == nil {
		return pgx.ConnectConfig(ctx, c)
	}
	err = renewing(ctx, login, func() error {
		c := c.Copy()
		if err := login.Give(ctx, c); err != nil {
			return err
		}
		conn, err = pgx.ConnectConfig(ctx, c)
		return err
	})
	return conn, err
}

// renewing connects, and again while the server refuses what the login gave and there is something else.
func renewing(ctx context.Context, login Login, connect func() error) error {
	for try := 1; ; try++ {
		err := connect()
		if login == nil || err == nil || try == logins || !refused(err) {
			return err
		}
		another, failed := login.Renew(ctx)
		if failed != nil {
			return fmt.Errorf("%w, and %w", err, failed)
		}
		if !another {
			return err
		}
	}
}

// refused reports whether the server did not take the user and password: 28P01 invalid_password, or 28000
// invalid_authorization_specification.
func refused(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && (e.Code == "28P01" || e.Code == "28000")
}

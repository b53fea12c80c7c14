package postgresql

import (
	"errors"
	"net"
	"regexp"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// name is what the names of hosts, databases and users look like, and seldom a password.
var name = regexp.MustCompile(`^[A-Za-z0-9_/][A-Za-z0-9_./-]*$|^[0-9a-fA-F.:]+$`)

const hidden = "…"

// suspects are the parts of a connection's configuration that may be a misread password: what does not look like a name,
// and a user without a password, as in postgres://password@host.
func suspects(c *pgconn.Config) (parts []string) {
	for _, part := range []string{c.Host, c.Database, c.User} {
		if part != "" && (!name.MatchString(part) || part == c.User && c.Password == "") {
			parts = append(parts, part)
		}
	}
	for _, f := range c.Fallbacks {
		if f.Host != c.Host && !name.MatchString(f.Host) {
			parts = append(parts, f.Host)
		}
	}
	return parts
}

// discreet keeps from the text of an error of connecting what may be a misread password. What the error is stays known.
func discreet(err error) error {
	connecting, ok := errors.AsType[*pgconn.ConnectError](err)
	if !ok {
		return err
	}
	text := err.Error()
	for _, part := range suspects(connecting.Config) {
		text = strings.ReplaceAll(text, part, hidden)
	}
	return &discreetError{text, err}
}

type discreetError struct {
	text  string
	cause error
}

func (e *discreetError) Error() string { return e.text }
func (e *discreetError) Unwrap() error { return e.cause }

// Place says where a database is, for people: its host and its name, never a password.
func Place(dsn string) string {
	c, err := pgx.ParseConfig(dsn)
	if err != nil {
		return ""
	}
	place := net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port))) + "/" + c.Database
	for _, part := range suspects(&c.Config) {
		place = strings.ReplaceAll(place, part, hidden)
	}
	return place
}

package postgresql

import (
	"errors"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

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
		text = hide(text, part)
	}
	return &discreetError{text, err}
}

// hide replaces a part wherever it stands for itself. Within other words it is no part of a connection string: all letters
// t of a message would be gone for a user t.
func hide(text, part string) string {
	var shown strings.Builder
	for rest := text; ; {
		i := strings.Index(rest, part)
		if i < 0 {
			shown.WriteString(rest)
			return shown.String()
		}
		before, _ := utf8.DecodeLastRuneInString(text[:len(text)-len(rest)+i])
		after, _ := utf8.DecodeRuneInString(rest[i+len(part):])
		first, _ := utf8.DecodeRuneInString(part)
		last, _ := utf8.DecodeLastRuneInString(part)
		if inWord(before) && inWord(first) || inWord(last) && inWord(after) {
			_, width := utf8.DecodeRuneInString(rest[i:])
			shown.WriteString(rest[:i+width])
			rest = rest[i+width:]
			continue
		}
		shown.WriteString(rest[:i] + hidden)
		rest = rest[i+len(part):]
	}
}

func inWord(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }

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
	parts := suspects(&c.Config)
	shown := func(part string) string {
		if slices.Contains(parts, part) {
			return hidden
		}
		return part
	}
	return net.JoinHostPort(shown(c.Host), strconv.Itoa(int(c.Port))) + "/" + shown(c.Database)
}

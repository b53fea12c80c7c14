package postgresql

import (
	"net"
	"strconv"

	"github.com/jackc/pgx/v5"
)

// Place says where a database is, for people: its host and its name, never a password.
func Place(dsn string) string {
	c, err := pgx.ParseConfig(dsn)
	if err != nil {
		return ""
	}
	return net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port))) + "/" + c.Database
}

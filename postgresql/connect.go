package postgresql

import (
	"context"
	"fmt"
	"os"

	"github.com/jackc/pgx/v5"
)

// Named reports whether a DSN or, without one, libpq's variables say which database to use.
func Named(dsn string) bool {
	return dsn != "" || os.Getenv("PGHOST") != "" || os.Getenv("PGSERVICE") != ""
}

// connConfig reads a DSN (or, for what it leaves out, libpq's PG* variables) and adds what our reads rely on.
func connConfig(dsn, application string) (*pgx.ConnConfig, error) {
	c, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("DATABASE_URL: %w", err)
	}
	for name, value := range map[string]string{
		"application_name": application,
		// Each statement of a read must see what committed before it: at any other level the watermark
		// would be computed beside a snapshot that is older than it.
		"default_transaction_isolation": "read committed",
		// Payloads are JSON text, which is defined in UTF-8.
		"client_encoding": "UTF8",
	} {
		c.RuntimeParams[name] = value
	}
	c.DefaultQueryExecMode = pgx.QueryExecModeCacheStatement // whose binary results are decoded here
	return c, nil
}

func connect(ctx context.Context, dsn, application string) (*pgx.Conn, error) {
	c, err := connConfig(dsn, application)
	if err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	return conn, nil
}

func closeConn(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = conn.Close(ctx) // there is nothing left to do with a connection that cannot say goodbye
}

package postgresql

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/event-piper/event-piper/core"
)

const (
	// closeTimeout bounds how long closing a connection may take.
	closeTimeout = time.Second
	// poolIdle is how long a connection for history is kept after its last page.
	poolIdle = 5 * time.Second

	undefinedTable = "42P01"
)

// Store implements core.Store: the live end over a connection of its own, history over a small pool that
// holds none while nobody replays.
type Store struct {
	dsn  string
	name string
	pool *pgxpool.Pool
}

// Open prepares a store. Name is what its connections call themselves in pg_stat_activity; history takes up to
// pagers connections more than the live end's one. It connects to nothing yet.
func Open(ctx context.Context, dsn, name string, pagers int) (*Store, error) {
	if _, err := connConfig(dsn, name); err != nil {
		return nil, err
	}
	c, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("DATABASE_URL: %w", err)
	}
	if c.ConnConfig, err = connConfig(dsn, name+" replay"); err != nil {
		return nil, err
	}
	c.MaxConns = int32(pagers) //nolint:gosec // bounded by its setting
	c.MinConns, c.MinIdleConns = 0, 0
	c.MaxConnIdleTime = poolIdle
	c.HealthCheckPeriod = poolIdle / 2
	pool, err := pgxpool.NewWithConfig(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("prepare the connections for replay: %w", err)
	}
	return &Store{dsn: dsn, name: name, pool: pool}, nil
}

// Close closes the connections for history.
func (s *Store) Close() { s.pool.Close() }

// Pages implements core.Store.
func (s *Store) Pages(ctx context.Context, queries []core.PageQuery, known int64) ([]core.Page, error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	defer conn.Release()
	through := present{watermark: known, newest: known}
	if known == 0 {
		if through, err = readPresent(ctx, conn.Conn()); err != nil {
			return nil, err
		}
	}
	return readPages(ctx, conn.Conn(), queries, through)
}

package postgresql

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/event-piper/event-piper/core"
)

const (
	// maxReadBytes bounds the payloads of one read; a larger event makes a read of its own.
	maxReadBytes = 512 << 10
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
	return readPages(ctx, conn.Conn(), queries, known)
}

// readPages runs events_read_pages, whose comment tells what it returns.
func readPages(ctx context.Context, conn *pgx.Conn, queries []core.PageQuery, known int64) ([]core.Page, error) {
	consumers := make([]string, len(queries))
	cursors := make([]int64, len(queries))
	limits := make([]int32, len(queries))
	for i, q := range queries {
		consumers[i], cursors[i], limits[i] = q.Consumer, q.After, int32(q.Limit) //nolint:gosec // bounded by the pager
	}
	rows, err := conn.Query(ctx,
		`select query, id, type, "timestamp", payload, next, more, newest, pruned, ahead from events_read_pages($1, $2, $3, $4, $5)`,
		binaryFormat, consumers, cursors, limits, int64(maxReadBytes), known)
	if err != nil {
		return nil, fmt.Errorf("read pages: %w", err)
	}
	defer rows.Close()
	pages := make([]core.Page, 0, len(queries))
	var events []*core.Event
	var decoder decoder
	for rows.Next() {
		v := rows.RawValues()
		if v[1] != nil {
			e, err := decoder.event(v[1], v[2], v[3], v[4])
			if err != nil {
				return nil, err
			}
			e.Consumer = queries[len(pages)].Consumer
			events = append(events, e)
			continue
		}
		pages = append(pages, core.Page{
			Events: events, Next: bigint(v[5]), More: boolean(v[6]), Newest: bigint(v[7]), Pruned: bigint(v[8]), Ahead: boolean(v[9]),
		})
		events = nil
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read pages: %w", err)
	}
	return pages, nil
}

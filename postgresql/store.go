package postgresql

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/event-piper/event-piper/core"
)

const (
	// closeTimeout bounds how long closing a connection may take.
	closeTimeout = time.Second
	// pageConnectTimeout bounds connecting for history: a connection that is being made cannot be used by the next page.
	pageConnectTimeout = 3 * time.Second
	// poolIdle is how long a connection for history is kept after its last page.
	poolIdle = 5 * time.Second

	undefinedTable = "42P01"
)

// Config says what database to read.
type Config struct {
	// URL is a libpq connection string; what it leaves out comes from libpq's PG* variables.
	URL string
	// ListenURL, if not empty, leads to the same database for the one connection that needs a session of its own. URL
	// may then lead to a pooler that lends connections for a transaction at a time.
	ListenURL string
	// Name is what connections call themselves in pg_stat_activity.
	Name string
	// Pagers is how many connections, besides the live end's, history takes at most.
	Pagers int
	// MaxPayload bounds the bytes of a payload: a larger one is not read, and its readers are told. 0 stands for 16 MB.
	MaxPayload int
	// Login, if not nil, gives the user and the password, whatever the URLs say.
	Login Login
	Log   *slog.Logger // nil is silence
}

// Store implements core.Store: the live end over a connection of its own, history over a small pool that
// holds none while nobody replays.
type Store struct {
	// Set at construction.
	log        *slog.Logger
	pages      *target // of the connections for history
	live       *target // of the live end
	apart      bool    // the two lead through different doors
	pool       *pgxpool.Pool
	maxPayload int

	shared   atomic.Bool // a pooler is in between
	followed atomic.Bool // the live end has been reached once

	mu sync.Mutex
	// Guarded by mu: what reads of history that began before the live end was reached again are given up by.
	era    context.Context
	endEra context.CancelFunc
}

// errPooled ends a connection that was made before it was known that a pooler is in between.
var errPooled = errors.New("there is a pooler in between now")

// defaultMaxPayload is Config.MaxPayload unless it is set.
const defaultMaxPayload = 16 << 20

func (c *Config) largest() int { return cmp.Or(c.MaxPayload, defaultMaxPayload) }

// Open prepares a store. It connects to nothing yet.
func Open(ctx context.Context, c Config) (*Store, error) {
	s := &Store{log: c.Log, apart: c.ListenURL != "", maxPayload: c.largest()}
	s.era, s.endEra = context.WithCancel(context.Background())
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if s.pages, err = parseDSN("DATABASE_URL", c.URL, c.Name+" replay"); err != nil {
		return nil, err
	}
	setting, url := "DATABASE_URL", c.URL
	if s.apart {
		setting, url = "DATABASE_LISTEN_URL", c.ListenURL
	}
	if s.live, err = parseDSN(setting, url, c.Name); err != nil {
		return nil, err
	}
	s.live.login, s.pages.login = c.Login, c.Login
	p, err := pgxpool.ParseConfig("")
	if err != nil {
		return nil, fmt.Errorf("libpq's variables: %w", withoutSecrets(err))
	}
	p.ConnConfig = s.pages.ConnConfig
	p.ConnConfig.ConnectTimeout = min(p.ConnConfig.ConnectTimeout, pageConnectTimeout)
	p.MaxConns = int32(c.Pagers) //nolint:gosec // bounded by its setting
	p.MinConns, p.MinIdleConns = 0, 0
	p.MaxConnIdleTime = poolIdle
	p.HealthCheckPeriod = poolIdle / 2
	p.BeforeConnect = func(ctx context.Context, c *pgx.ConnConfig) error {
		if s.shared.Load() {
			// What a statement is made of may be remembered, but not the statement, which another of the pooler's connections
			// never saw. Without either pgx could not ask for the binary format that is decoded here.
			c.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
		}
		if s.pages.login != nil {
			return s.pages.login.Give(ctx, c)
		}
		return nil
	}
	p.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		found, err := identify(ctx, conn)
		switch {
		case err != nil:
			return err
		case !found.shared:
			return s.pages.setUp(ctx, conn, found)
		case conn.Config().DefaultQueryExecMode != pgx.QueryExecModeCacheDescribe:
			s.shared.Store(true)
			return errPooled
		}
		share(conn, s.pages)
		return nil
	}
	if s.pool, err = pgxpool.NewWithConfig(ctx, p); err != nil {
		return nil, fmt.Errorf("prepare the connections for replay: %w", err)
	}
	return s, nil
}

// follow connects the live end. The first time, it looks whether history can be read, too.
func (s *Store) follow(ctx context.Context) (*listener, error) {
	t := *s.live
	first := !s.followed.Load()
	if !first {
		t.newer = func(e *SchemaError) { s.log.Warn("reading on", "error", e) }
	}
	l, err := redial(ctx, func(ctx context.Context) (*listener, error) { return dial(ctx, &t, true, planned...) })
	if err != nil {
		return nil, err
	}
	if !first {
		s.renew()
	}
	switch {
	case !s.apart:
		s.shared.Store(l.shared)
	case first:
		if err := s.checkPages(ctx, l.database); err != nil {
			l.close()
			return nil, err
		}
	}
	s.followed.Store(true)
	return l, nil
}

// checkPages looks whether history can be read through a door of its own, which must lead to the same database.
func (s *Store) checkPages(ctx context.Context, database string) error {
	t := *s.pages
	t.ConnConfig = t.Copy()
	t.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	l, err := dial(ctx, &t, false)
	if err != nil {
		return fmt.Errorf("DATABASE_URL, beside DATABASE_LISTEN_URL: %w", err)
	}
	defer l.close()
	if l.database != database {
		return errors.New("DATABASE_URL and DATABASE_LISTEN_URL lead to different databases, of which only one would be read in full")
	}
	s.shared.Store(l.shared)
	return nil
}

// renew gives up the connections for history, because those of before a fault may never answer.
func (s *Store) renew() {
	s.pool.Reset()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endEra()
	s.era, s.endEra = context.WithCancel(context.Background())
}

// Close closes the connections for history.
func (s *Store) Close() {
	s.mu.Lock()
	s.endEra()
	s.mu.Unlock()
	s.pool.Close()
}

// Pages implements core.Store. A read that a fault may have left without an answer is tried once more as soon as the live
// end is reached again.
func (s *Store) Pages(ctx context.Context, queries []core.PageQuery, known core.Mark) ([]core.Page, error) {
	s.mu.Lock()
	era := s.era
	s.mu.Unlock()
	first, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(era, cancel)()
	pages, err := s.readPages(first, queries, known)
	if err != nil && era.Err() != nil && ctx.Err() == nil {
		return s.readPages(ctx, queries, known)
	}
	return pages, err
}

func (s *Store) readPages(ctx context.Context, queries []core.PageQuery, known core.Mark) (pages []core.Page, err error) {
	connecting, cancel := context.WithTimeout(ctx, pageSilence)
	defer cancel()
	var conn *pgxpool.Conn
	err = renewing(connecting, s.pages.login, func() (err error) {
		conn, err = s.pool.Acquire(connecting)
		if errors.Is(err, errPooled) {
			conn, err = s.pool.Acquire(connecting)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("connect to PostgreSQL: %w", discreet(err))
	}
	defer conn.Release()
	err = attend(ctx, heard(conn.Conn()), pageSilence, func(ctx context.Context) error {
		through := core.Horizon{Watermark: known.ID, Newest: known.ID}
		if known.ID == 0 {
			if through, err = readHorizon(ctx, conn.Conn()); err != nil {
				return err
			}
		}
		pages, err = readPages(ctx, conn.Conn(), queries, through, known, s.maxPayload)
		return err
	})
	return pages, err
}

// unreadable marks the errors of a read that come from what it was to return: from damaged rows, from values that have
// no form in UTF-8, from what is larger than a message can be. PostgreSQL's manual, appendix A, has the classes.
func unreadable(err error) error {
	var p *pgconn.PgError
	if errors.As(err, &p) && len(p.Code) == 5 {
		switch p.Code[:2] {
		case "22", "54", "XX":
			return fmt.Errorf("%w: %w", core.ErrUnreadable, err)
		}
	}
	return err
}

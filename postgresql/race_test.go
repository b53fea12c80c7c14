package postgresql_test

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/core/coretest"
	"github.com/event-piper/event-piper/postgresql/migrations"
	"github.com/event-piper/event-piper/postgresql/pgtest"
)

func race(t *testing.T) coretest.Race {
	return coretest.Race{
		Seed: coretest.Seed(t), Writers: 16, Transactions: 60, Consumers: 3, Readers: 3, TailBytes: 4 << 10,
	}
}

func TestRacingWritersLoseNothing(t *testing.T) {
	t.Parallel()
	if err := race(t).Run(t.Context(), harness(t, pgtest.New(t))); err != nil {
		t.Fatal(err)
	}
}

// naive reads what is after a position and visible, as if ids became visible in order.
type naive struct {
	core.Store
	pool *pgxpool.Pool
}

type naiveFollower struct {
	core.Follower
	naive
}

func (s naive) Follow(ctx context.Context) (core.Follower, error) {
	f, err := s.Store.Follow(ctx)
	return naiveFollower{f, s}, err
}

func (f naiveFollower) Read(ctx context.Context, after int64, _ []string) (core.Read, error) {
	if _, err := f.Follower.Read(ctx, after, nil); err != nil { // the doorbell wants to know
		return core.Read{}, err
	}
	events, err := f.after(ctx, "where id > $1 order by id", after)
	position := after
	if n := len(events); n > 0 {
		position = events[n-1].ID
	}
	return core.Read{Events: events, Position: position, Sequence: core.MaxID, Watermark: core.MaxID}, err
}

func (s naive) Pages(ctx context.Context, queries []core.PageQuery, _ core.Mark) ([]core.Page, error) {
	q := queries[0]
	events, err := s.after(ctx, "where id > $1 and subscriber = $2 order by id limit $3", q.After, q.Addresses[0], q.Limit)
	page := core.Page{Events: events, Next: q.After, More: len(events) == q.Limit}
	if len(events) > 0 {
		page.Next = events[len(events)-1].ID
	}
	return []core.Page{page}, err
}

func (s naive) after(ctx context.Context, where string, args ...any) (events []*core.Event, err error) {
	rows, err := s.pool.Query(ctx, "select id, type, subscriber, payload::text from events "+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		e := new(core.Event)
		if err := rows.Scan(&e.ID, &e.Type, &e.Consumer, &e.Payload); err != nil {
			return nil, err
		}
		e.Payload = core.AppendCompact(nil, e.Payload)
		events = append(events, e)
	}
	return events, rows.Err()
}

func TestTheRaceCatchesAReaderWithoutTheWatermark(t *testing.T) {
	t.Parallel()
	h := harness(t, pgtest.New(t))
	h.Store = naive{h.Store, h.Table.(table).pool}
	race := race(t)
	race.TailBytes = 64 << 20
	err := race.Run(t.Context(), h)
	var loss *coretest.LossError
	if !errors.As(err, &loss) {
		t.Fatalf("the run without the watermark ended with %v, want a loss", err)
	}
	t.Log(loss)
}

func TestTerminatedBackendsLoseNothing(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	conn := connect(t, dsn)
	race := race(t)
	race.Disturb = func(ctx context.Context, r *rand.Rand) {
		for ctx.Err() == nil {
			_, err := conn.Exec(ctx, `select pg_terminate_backend(pid) from pg_stat_activity
				where datname = current_database() and application_name like 'event-piper test%'`)
			if err != nil && ctx.Err() == nil {
				t.Errorf("terminate the readers' backends: %v", err)
				return
			}
			select {
			case <-time.After(time.Duration(r.IntN(100)) * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}
	if err := race.Run(t.Context(), harness(t, dsn)); err != nil {
		t.Fatal(err)
	}
}

func TestAServerThatCrashesLosesNothing(t *testing.T) {
	t.Parallel()
	// What a commit has answered is on disk, or at least with the system, even if the server crashes.
	server := pgtest.Server(t, nil)
	if _, _, err := migrations.Apply(t.Context(), server.DSN(), nil); err != nil {
		t.Fatal(err)
	}
	race := race(t)
	race.UnknownOutcomes = true
	race.Transactions = 150
	race.Disturb = func(_ context.Context, _ *rand.Rand) {
		for range 2 {
			if err := server.Restart(true); err != nil {
				t.Error(err)
			}
		}
	}
	if err := race.Run(t.Context(), harness(t, server.DSN())); err != nil {
		t.Fatal(err)
	}
}

// next polls until there is an event after a cursor.
func next(t *testing.T, hub *core.Hub, cursor int64) core.Batch {
	t.Helper()
	for {
		batch, err := hub.Poll(t.Context(), core.Poll{Consumer: "toto", After: cursor, Limit: 100, Wait: 30 * time.Second})
		batch.Release()
		if err == nil && len(batch.Events) > 0 {
			return batch
		}
		if err != nil && !errors.Is(err, core.ErrUnavailable) {
			t.Fatal(err)
		}
	}
}

// until waits for a state that nobody signals.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !is() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestHealthIsDownWithoutAServerAndUpAgain(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t, nil)
	if _, _, err := migrations.Apply(t.Context(), server.DSN(), nil); err != nil {
		t.Fatal(err)
	}
	hub := coretest.RunHub(t, open(t, server.DSN()))
	exec(t, connect(t, server.DSN()), insert)
	first := next(t, hub, 0)
	if reason := hub.Down(); reason != "" {
		t.Errorf("down although an event was delivered: %s", reason)
	}
	if err := server.Halt(true); err != nil {
		t.Fatal(err)
	}
	until(t, "the hub to be down", func() bool { return hub.Down() != "" })
	if err := server.Resume(); err != nil {
		t.Fatal(err)
	}
	exec(t, connect(t, server.DSN()), insert)
	second := next(t, hub, first.Cursor)
	if len(second.Events) != 1 || second.Events[0].ID <= first.Cursor {
		t.Errorf("after the crash got %d events, want the new one alone", len(second.Events))
	}
	until(t, "the hub to be up", func() bool { return hub.Down() == "" })
}

func TestOneConnectionWhileNobodyReplays(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	conn := connect(t, dsn)
	hub := coretest.RunHub(t, open(t, dsn))
	connections := func() string {
		return query[string](t, conn, `select coalesce(string_agg(application_name, ', ' order by application_name), '')
			from pg_stat_activity where datname = current_database() and application_name like 'event-piper%'`)
	}
	exec(t, conn, insert)
	if got, want := connections(), "event-piper test"; got != want {
		t.Errorf("an idle hub's connections are %q, want %q", got, want)
	}
	next(t, hub, 0)
	if got, want := connections(), "event-piper test"; !strings.HasPrefix(got, want) || strings.Count(got, "replay") > 2 {
		t.Errorf("connections while history is read are %q, want %q and up to two for replay", got, want)
	}
	until(t, "the connections for replay to be closed", func() bool { return connections() == "event-piper test" })
}

func TestEventsOfManyConsumersAreReadInASecondStep(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	conn := connect(t, dsn)
	hub := core.NewHub(open(t, dsn), core.Limits{Sessions: 1000, SessionsPerConsumer: 1, Pagers: 1, TailBytes: 1 << 20}, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := hub.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	defer running.Wait()
	defer cancel()
	<-hub.Started()
	names := make([]string, 400)
	got := make(chan string, len(names))
	var readers sync.WaitGroup
	for i := range names {
		names[i] = "consumer-" + string(rune('a'+i%20)) + string(rune('a'+i/20))
		readers.Go(func() {
			batch, err := hub.Poll(ctx, core.Poll{Consumer: names[i], After: core.FromStart, Limit: 2, Wait: 30 * time.Second})
			batch.Release()
			if err != nil || len(batch.Events) == 0 {
				t.Errorf("%s got nothing: %v", names[i], err)
				return
			}
			got <- strings.Trim(string(batch.Events[0].Payload), `"`)
		})
	}
	until(t, "all polls to wait", func() bool { return hub.Sessions() == len(names) })
	exec(t, conn, "insert into events (type, subscriber, payload) select 'insert', n, to_json(n) from unnest($1::text[]) n", names)
	readers.Wait()
	close(got)
	for payload := range got {
		if !slices.Contains(names, payload) {
			t.Errorf("got payload %q, want a consumer's name", payload)
		}
	}
}

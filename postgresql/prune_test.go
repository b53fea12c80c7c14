package postgresql_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/postgresql"
	"github.com/event-piper/event-piper/postgresql/pgtest"
)

const insertAged = `insert into events (type, subscriber, "timestamp", payload)
	select 'insert', $1, now() - $2::interval, '{}' from generate_series(1, $3::int)`

func prune(t *testing.T, dsn string, olderThan time.Duration) postgresql.Pruned {
	t.Helper()
	done, err := postgresql.Prune(t.Context(), dsn, nil, olderThan, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

func page(t *testing.T, dsn, consumer string, after int64) core.Page {
	t.Helper()
	pages, err := open(t, dsn).Pages(t.Context(), []core.PageQuery{{Addresses: []string{consumer}, After: after, Limit: 10}}, core.Mark{})
	if err != nil {
		t.Fatal(err)
	}
	return pages[0]
}

func TestPruneDeletesFromTheOldEndAndMarksWhoLost(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	conn := connect(t, dsn)
	exec(t, conn, insertAged, "toto", "3 days", 6000) // more than a batch
	exec(t, conn, insertAged, "titi", "1 hour", 2)
	exec(t, conn, insertAged, "toto", "3 days", 1) // behind a young one

	var steps []postgresql.Pruned
	done, err := postgresql.Prune(t.Context(), dsn, nil, 48*time.Hour, slog.New(slog.DiscardHandler), func(p postgresql.Pruned) { steps = append(steps, p) })
	if err != nil {
		t.Fatal(err)
	}
	if done.Events != 6000 || done.Through != 6000 || done.Bytes == 0 {
		t.Errorf("pruned %+v, want 6000 events through 6000", done)
	}
	if len(steps) != 2 || steps[1] != done {
		t.Errorf("progress was %+v, want two steps, the last one %+v", steps, done)
	}
	if n := query[int](t, conn, "select count(*) from events"); n != 3 {
		t.Errorf("%d events are left, want 3", n)
	}
	if p := page(t, dsn, "toto", 5999); p.Pruned != 6000 {
		t.Errorf("toto is told of %d, want 6000", p.Pruned)
	}
	if p := page(t, dsn, "titi", 0); p.Pruned != 0 || len(p.Events) != 2 {
		t.Errorf("titi, who lost nothing, has %d events and is told of %d", len(p.Events), p.Pruned)
	}
	if again := prune(t, dsn, 48*time.Hour); again != (postgresql.Pruned{}) {
		t.Errorf("a second run pruned %+v", again)
	}
}

func TestPruneOfAQuietTableDeletesAllThatIsOld(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	exec(t, connect(t, dsn), insertAged, "toto", "3 days", 5)
	if done := prune(t, dsn, time.Hour); done.Events != 5 {
		t.Errorf("pruned %+v, want 5 events", done)
	}
	if p := page(t, dsn, "toto", 0); p.Pruned != 5 || p.Newest != 5 {
		t.Errorf("pruned %d, newest %d, want 5 and 5", p.Pruned, p.Newest)
	}
}

func TestTheNextPruneCanBeginAtOnce(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	conn := connect(t, dsn)
	for range 50 {
		prune(t, dsn, time.Hour)
		if n := query[int](t, conn, "select count(*) from pg_locks where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())"); n > 0 {
			t.Fatal("the lock of a worker that has ended is still held")
		}
	}
}

func TestPruneIsNotMisledByTheFuture(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	conn := connect(t, dsn)
	exec(t, conn, insertAged, "toto", "-1 year", 1) // would end retention for a year
	exec(t, conn, insertAged, "toto", "3 days", 1)
	exec(t, conn, insertAged, "toto", "-1 year", 1) // no reason to go
	if done := prune(t, dsn, time.Hour); done.Events != 2 || done.Through != 2 {
		t.Errorf("pruned %+v, want the first two events", done)
	}
	if n := query[int](t, conn, "select count(*) from events where id = 3"); n != 1 {
		t.Error("the last event, which is from the future, is gone")
	}
}

func TestPruneStaysBelowTheWatermark(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	writer := connect(t, dsn)
	exec(t, writer, "begin")
	exec(t, writer, insertAged, "toto", "3 days", 1)
	exec(t, connect(t, dsn), insertAged, "toto", "3 days", 3)
	if done := prune(t, dsn, time.Hour); done.Events != 0 {
		t.Errorf("pruned %+v above the watermark", done)
	}
	exec(t, writer, "commit")
	if done := prune(t, dsn, time.Hour); done.Events != 4 {
		t.Errorf("pruned %+v, want 4", done)
	}
}

func TestPruneWaitsForALockAndGoesOn(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	conn := connect(t, dsn)
	exec(t, conn, insertAged, "toto", "3 days", 3)
	exec(t, conn, "begin; lock table events in share mode") // what creating an index takes
	log := slog.New(onLog(func(message string) {
		if strings.Contains(message, "cannot prune now") {
			exec(t, conn, "commit")
		}
	}))
	done, err := postgresql.Prune(t.Context(), dsn, nil, time.Hour, log, nil)
	if err != nil || done.Events != 3 {
		t.Errorf("pruned %+v, %v, want 3 events", done, err)
	}
}

func TestOneWorkerPrunesAtATime(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	exec(t, connect(t, dsn), insertAged, "toto", "3 days", 3)
	discard := slog.New(slog.DiscardHandler)
	_, err := postgresql.Prune(t.Context(), dsn, nil, time.Hour, discard, func(postgresql.Pruned) {
		if _, err := postgresql.Prune(t.Context(), dsn, nil, time.Hour, discard, nil); !errors.Is(err, postgresql.ErrPruning) {
			t.Errorf("a second worker got %v, want ErrPruning", err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// onLog is a slog.Handler that calls itself with each message.
type onLog func(message string)

func (onLog) Enabled(context.Context, slog.Level) bool { return true }
func (h onLog) Handle(_ context.Context, r slog.Record) error {
	h(r.Message)
	return nil
}
func (h onLog) WithAttrs([]slog.Attr) slog.Handler { return h }
func (h onLog) WithGroup(string) slog.Handler      { return h }

// Or the table would grow for ever where consumers come and go.
func TestTheOldestMarksOfConsumersThatAreGoneBecomeOne(t *testing.T) {
	t.Parallel()
	const kept = 100_000
	dsn := pgtest.New(t)
	conn := connect(t, dsn)
	exec(t, conn, insertAged, "toto", "3 days", 20)
	exec(t, conn, "delete from events where id <> 3") // toto has lost 20 and has an event
	exec(t, conn, "insert into events_pruned select 'gone ' || n, n from generate_series(1, 10) n")
	exec(t, conn, "insert into events_pruned select 'here ' || n, 15 from generate_series(1, $1::int - 1) n", kept) // with toto's as many as are kept
	marks := func() int { return query[int](t, conn, "select count(*) from events_pruned") }

	if prune(t, dsn, 240*time.Hour); marks() != kept+1 {
		t.Errorf("%d marks are left, want %d", marks(), kept+1)
	}
	for consumer, want := range map[string]int64{"toto": 20, "gone 3": 10, "gone 10": 10, "new": 10, "here 1": 15} {
		if p := page(t, dsn, consumer, 0); p.Pruned != want {
			t.Errorf("%s is told of %d, want %d", consumer, p.Pruned, want)
		}
	}
	if p := page(t, dsn, "new", 10); p.Pruned > 10 {
		t.Errorf("from the common mark on, new is told of %d", p.Pruned)
	}

	exec(t, conn, "update events_pruned set through = 40 where through = 15")
	exec(t, conn, "insert into events_pruned values ('above the watermark', 30), ('more', 12), ('also here', 40)")
	prune(t, dsn, 240*time.Hour)
	exec(t, conn, "insert into events_pruned values ('late', 11)") // below the common mark
	prune(t, dsn, 240*time.Hour)
	for consumer, want := range map[string]int64{"toto": 20, "gone 3": 12, "late": 12, "new": 12} {
		if p := page(t, dsn, consumer, 0); p.Pruned != want {
			t.Errorf("after another run %s is told of %d, want %d", consumer, p.Pruned, want)
		}
	}
}

// Whatever it is that others do, each transaction of a run is tried again.
func TestPruneTriesAgainWhatOthersBroke(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	conn := connect(t, dsn)
	exec(t, conn, insertAged, "toto", "3 days", 3)
	exec(t, conn, `
		create sequence tries; -- which a rollback does not take back
		create function broken() returns trigger language plpgsql as $$
		declare code text := (array['55P03', '40P01', '40001'])[nextval('tries')];
		begin
			if code is not null then raise 'broken' using errcode = code; end if;
			return null;
		end $$`)
	for _, table := range []string{"events", "events_pruned"} {
		exec(t, conn, "create trigger broken after delete on "+table+" for each statement execute function broken()")
		tried := 0
		log := slog.New(onLog(func(string) { tried++ }))
		if _, err := postgresql.Prune(t.Context(), dsn, nil, time.Hour, log, nil); err != nil || tried != 3 {
			t.Errorf("%s: %v after %d failures, want none after 3", table, err, tried)
		}
		exec(t, conn, "drop trigger broken on "+table+"; select setval('tries', 1, false)")
	}
}

// What a role may do to its statements is meant for others.
func TestPruneMindsItsOwnTimeouts(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	conn := connect(t, dsn)
	exec(t, conn, insertAged, "toto", "3 days", 3)
	exec(t, conn, `
		create function slow() returns trigger language plpgsql as $$ begin perform pg_sleep(1.5); return null; end $$;
		create trigger slow after delete on events for each statement execute function slow()`)
	for name, value := range map[string]string{"statement_timeout": "1s", "lock_timeout": "1h", "idle_session_timeout": "1s"} {
		exec(t, conn, "alter role current_user in database "+query[string](t, conn, "select current_database()")+" set "+name+" = '"+value+"'")
	}
	exec(t, conn, "begin; lock table events in share mode")
	log := slog.New(onLog(func(message string) {
		if strings.Contains(message, "cannot prune now") { // and has not kept writers waiting for an hour
			exec(t, conn, "commit")
		}
	}))
	done, err := postgresql.Prune(t.Context(), dsn, nil, time.Hour, log, nil)
	if err != nil || done.Events != 3 {
		t.Errorf("pruned %+v, %v, want 3 events", done, err)
	}
}

func TestAPruneThatIsKilledIsTakenUpByTheNext(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	conn := connect(t, dsn)
	exec(t, conn, insertAged, "toto", "3 days", 12_000) // three batches
	exec(t, conn, insertAged, "titi", "1 hour", 1)
	kill := func(postgresql.Pruned) {
		exec(t, conn, `select pg_terminate_backend(pid, 60000) from pg_stat_activity
			where application_name = 'event-piper prune' and datname = current_database()`)
	}
	done, err := postgresql.Prune(t.Context(), dsn, nil, 48*time.Hour, slog.New(slog.DiscardHandler), kill)
	if err == nil || done.Events != 5000 || done.Through != 5000 {
		t.Fatalf("killed after a batch it pruned %+v (%v), want 5000 events and an error", done, err)
	}
	if p := page(t, dsn, "toto", 0); p.Pruned != 5000 {
		t.Errorf("then toto is told of %d, want 5000", p.Pruned)
	}
	if done := prune(t, dsn, 48*time.Hour); done.Events != 7000 || done.Through != 12_000 {
		t.Errorf("the next pruned %+v, want the other 7000", done)
	}
	if p := page(t, dsn, "toto", 0); p.Pruned != 12_000 {
		t.Errorf("at last toto is told of %d, want 12000", p.Pruned)
	}
	if p := page(t, dsn, "titi", 0); p.Pruned != 0 || len(p.Events) != 1 {
		t.Errorf("titi, who lost nothing, has %d events and is told of %d", len(p.Events), p.Pruned)
	}
}

// Writers whose events are old when they arrive, in transactions that end in any order, race with runs of prune.
func TestWhatPruneTakesFromRacingWritersIsSaid(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	const writers, transactions = 4, 60
	committed := make([][]int64, writers)
	var writing sync.WaitGroup
	for n := range writers {
		conn := connect(t, dsn)
		writing.Go(func() {
			for i := range transactions {
				end, age := "commit", "3 days"
				if i%3 == 2 {
					end = "rollback"
				}
				if i >= transactions/2 {
					age = "1 second" // young: from the first of them on, a run may find nothing that is old
				}
				var ids []int64
				_, err := conn.Exec(t.Context(), "begin")
				for range 3 {
					var id int64
					err = errors.Join(err, conn.QueryRow(t.Context(), `insert into events (type, subscriber, "timestamp", payload)
						values ('insert', $1, now() - $2::text::interval, '{}') returning id`, fmt.Sprint("consumer-", n%2), age).Scan(&id))
					ids = append(ids, id)
				}
				_, errEnd := conn.Exec(t.Context(), end)
				if err = errors.Join(err, errEnd); err != nil {
					t.Error(err)
					return
				}
				if end == "commit" {
					committed[n] = append(committed[n], ids...)
				}
			}
		})
	}
	written := make(chan struct{})
	go func() { writing.Wait(); close(written) }()

	// A reader of each consumer goes along: it gets every event, but for those that it is told of.
	var got [2]map[int64]bool
	var told [2]int64
	var reading sync.WaitGroup
	for n := range got {
		got[n] = map[int64]bool{}
		poller := direct(t, dsn, false)
		reading.Go(func() {
			for cursor := int64(0); ; {
				over := isClosed(written)
				b, err := poller.Poll(t.Context(), core.Poll{Consumer: fmt.Sprint("consumer-", n), After: cursor, Limit: 10})
				if reset, ok := errors.AsType[*core.ResetError](err); ok {
					cursor = reset.Resume()
					told[n] = max(told[n], cursor)
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				for _, e := range b.Events {
					got[n][e.ID] = true
				}
				cursor = b.Cursor
				if over && !b.More {
					return
				}
			}
		})
	}
	var pruned int64
	for over := false; !over; {
		over = isClosed(written)
		pruned += prune(t, dsn, time.Hour).Events
	}
	reading.Wait()
	if t.Failed() {
		return
	}
	conn := connect(t, dsn)
	total := 0
	for n, ids := range committed {
		consumer := fmt.Sprint("consumer-", n%2)
		through := page(t, dsn, consumer, 0).Pruned
		total += len(ids)
		for _, id := range ids {
			if !got[n%2][id] && id > told[n%2] {
				t.Errorf("event %d of %s was neither delivered nor said to be pruned", id, consumer)
			}
			there := query[bool](t, conn, "select exists (select from events where id = $1)", id)
			if !there && id > through {
				t.Errorf("event %d of %s is gone, but only those through %d are said to be pruned", id, consumer, through)
			}
		}
	}
	left := query[int64](t, conn, "select count(*) from events")
	if pruned+left != int64(total) {
		t.Errorf("%d were pruned and %d are left of %d", pruned, left, total)
	}
	if young := query[int](t, conn, `select count(*) from events where "timestamp" > now() - interval '1 hour'`); young != writers*transactions/2*3*2/3 {
		t.Errorf("%d young events are left, want %d", young, writers*transactions/2*3*2/3)
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

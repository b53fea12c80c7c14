//go:build unix

package blackbox_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/event-piper/event-piper/functions/gateway/gatewaytest"
	"github.com/event-piper/event-piper/postgresql/pgtest"
)

// startLambda runs the Lambda's bootstrap behind an HTTP API until the test ends. What it prints is shown if
// the test fails.
func startLambda(t testing.TB, dsn string, c gatewaytest.Config) *gatewaytest.Front {
	t.Helper()
	output := newLines()
	c.Bootstrap, c.Output = binary(t, "bootstrap"), output
	c.Log = slog.New(slog.NewJSONHandler(output, nil))
	c.Env = append(c.Env, "DATABASE_URL="+dsn, "LOG_FORMAT=json")
	front, err := gatewaytest.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		front.Close()
		if t.Failed() {
			t.Logf("the Lambda printed last:\n%s", output.last())
		}
	})
	return front
}

// lambdaSession describes the one connection of a Lambda as PostgreSQL sees it.
func lambdaSession(t testing.TB, db database) (pid int, state, lastQuery string) {
	t.Helper()
	err := db.QueryRow(t.Context(), `select pid, state, query from pg_stat_activity
		where application_name = 'event-piper lambda' and datname = current_database()`).Scan(&pid, &state, &lastQuery)
	if err != nil {
		t.Fatalf("look for the Lambda's connection: %v", err)
	}
	return pid, state, lastQuery
}

// armed counts the sessions that ask writers to ring.
func armed(t testing.TB, db database) int {
	t.Helper()
	return query[int](t, db, `select count(*) from pg_locks where locktype = 'advisory' and objsubid = 1
		and classid::bigint >> 16 = x'4551'::bigint and database = (select oid from pg_database where datname = current_database())`)
}

// TestLambdaLeavesNothingBehind looks at PostgreSQL while a poll waits and after its answer: only in between
// does the Lambda listen, and do writers notify.
func TestLambdaLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	front := startLambda(t, dsn, gatewaytest.Config{Freeze: true})
	db, listener := connect(t, dsn), connect(t, dsn)
	listener.exec(t, "listen new_events")
	s := site{base: front.URL(), db: db}
	s.poll(t, "toto", "wait=0").batch(t)
	if got := armed(t, db); got != 0 {
		t.Errorf("after a poll that did not wait: want no doorbell armed, got %d", got)
	}

	for range 3 {
		before := query[int64](t, db, "select coalesce(max(id), 0) from events")
		answered := make(chan answer)
		go func() {
			answered <- s.waitingPoll(t, "toto", fmt.Sprint("wait=20&after=", before), make(chan struct{}))
		}()
		eventually(t, "the waiting Lambda to arm the doorbell", func() bool { return armed(t, db) == 1 })
		id := db.insert(t, "toto", "insert", `{}`)
		if b := (<-answered).batch(t); !slices.Equal(b.ids(), []int64{id}) {
			t.Errorf("want event %d, got %v", id, b.ids())
		}
		wantNotifications(t, listener, db, "") // the insert rang

		if got := armed(t, db); got != 0 {
			t.Errorf("after the answer: want no doorbell armed, got %d", got)
		}
		if _, state, last := lambdaSession(t, db); state != "idle" || !strings.Contains(last, "unlisten") && !strings.Contains(last, "pg_advisory_unlock_shared") {
			t.Errorf("after the answer: want an idle connection that has just stopped listening, got %s after %q", state, last)
		}
		db.insert(t, "toto", "insert", `{}`)
		wantNotifications(t, listener, db) // nobody waits: this one did not
	}
}

// wantNotifications checks which notifications were sent up to now, in this database.
func wantNotifications(t testing.TB, listener, sender database, payloads ...string) {
	t.Helper()
	sender.exec(t, "select pg_notify('new_events', 'end')")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	got := []string{}
	for {
		n, err := listener.WaitForNotification(ctx)
		if err != nil {
			t.Fatalf("wait for notifications: %v", err)
		}
		if n.Payload == "end" {
			break
		}
		got = append(got, n.Payload)
	}
	if !slices.Equal(got, payloads) {
		t.Errorf("want notifications %q, got %q", payloads, got)
	}
}

// TestFrozenLambda commits 10,000 notifications while the Lambda's process is stopped. It must not keep
// PostgreSQL's queue of notifications from being emptied, and must notice that its connection is gone.
func TestFrozenLambda(t *testing.T) {
	t.Parallel()
	const commits = 10_000
	server := pgtest.Server(t, nil) // the queue is the cluster's, and the test's own only here
	dsn := server.DSN()
	launch(t, "stream", []string{"migrate"}, "DATABASE_URL="+dsn).exit(t, 0)
	front := startLambda(t, dsn, gatewaytest.Config{Freeze: true})
	db, listener := connect(t, dsn), connect(t, dsn)
	s := site{base: front.URL(), db: db}
	usage := func() float64 { return query[float64](t, db, "select pg_notification_queue_usage()") }

	// A poll that has waited, in vain, and is frozen right after its answer.
	s.poll(t, "toto", "wait=1").batch(t)
	if envs := front.Environments(); len(envs) != 1 || !envs[0].Idle() {
		t.Fatalf("want one idle environment, got %v", envs)
	}

	// They are longer than a doorbell's, too long for the buffers between a session and a client that does not
	// read. A session that listens but is in a transaction does not take them at all: the measure moves.
	listener.exec(t, "listen new_events")
	listener.exec(t, "begin")
	db.exec(t, fmt.Sprintf(`do $$ begin
		for i in 1..%d loop perform pg_notify('new_events', rpad(i::text, 2000, '.')); commit; end loop; end $$`, commits))
	if got := usage(); got == 0 {
		t.Error("want the queue in use while a listener does not read, got 0")
	}
	listener.exec(t, "rollback")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for range commits {
		if _, err := listener.WaitForNotification(ctx); err != nil {
			t.Fatalf("read notifications: %v", err)
		}
	}
	listener.exec(t, "select") // answered only when its session is done with the queue
	if got := usage(); got != 0 {
		t.Errorf("want the queue empty once its only listener has read, got %v in use", got)
	}

	// Frozen all the while, it loses its connection; its next client does not notice.
	pid, _, _ := lambdaSession(t, db)
	environment := front.Environments()[0].PID()
	id := db.insert(t, "toto", "insert", `{}`)
	db.exec(t, "select pg_terminate_backend($1, 10000)", pid)
	if b := s.poll(t, "toto", "after=0").batch(t); !slices.Equal(b.ids(), []int64{id}) {
		t.Errorf("after its connection was ended: want event %d, got %v", id, b.ids())
	}

	// The same after a crash of PostgreSQL.
	if err := server.Restart(true); err != nil {
		t.Fatal(err)
	}
	if b := s.poll(t, "toto", "after=0").batch(t); !slices.Equal(b.ids(), []int64{id}) {
		t.Errorf("after a crash of PostgreSQL: want event %d, got %v", id, b.ids())
	}
	if envs := front.Environments(); len(envs) != 1 || envs[0].PID() != environment {
		t.Errorf("want the environment %d to have answered all, got %v", environment, envs)
	}
}

// TestLambdaWithoutDatabase answers 503 while PostgreSQL is away, and goes on when it is back.
func TestLambdaWithoutDatabase(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t, nil)
	launch(t, "stream", []string{"migrate"}, "DATABASE_URL="+server.DSN()).exit(t, 0)
	front := startLambda(t, server.DSN(), gatewaytest.Config{Freeze: true})
	s := site{base: front.URL()}
	s.poll(t, "toto", "wait=0").batch(t)
	if err := server.Halt(true); err != nil {
		t.Fatal(err)
	}
	a := s.poll(t, "toto", "wait=0")
	a.problem(t, http.StatusServiceUnavailable)
	if a.header.Get("Retry-After") == "" {
		t.Error("want a 503 with Retry-After, got none")
	}
	if a := ask(t, http.MethodGet, s.base+"/manage/health", ""); a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, `"DOWN"`) {
		t.Errorf("health: want 503 and DOWN, got %d %s", a.status, a.body)
	}
	if a := ask(t, http.MethodGet, s.base+"/manage/health/live", ""); a.status != http.StatusOK {
		t.Errorf("liveness: want 200, got %d %s", a.status, a.body)
	}
	if err := server.Resume(); err != nil {
		t.Fatal(err)
	}
	s.poll(t, "toto", "wait=0").batch(t)
	testHealth(t, s)
}

// TestLambdaDeadline has a function whose timeout is shorter than what its client would wait.
func TestLambdaDeadline(t *testing.T) {
	t.Parallel()
	front := startLambda(t, pgtest.New(t), gatewaytest.Config{Timeout: 3 * time.Second})
	s := site{base: front.URL()}
	before := s.newest(t)
	environment := front.Environments()[0].PID()
	if b := s.poll(t, "toto", fmt.Sprint("wait=30&after=", before)).batch(t); len(b.Events) != 0 || b.Cursor != before {
		t.Errorf("want an empty batch before the timeout, got %+v", b)
	}
	if envs := front.Environments(); len(envs) != 1 || envs[0].PID() != environment {
		t.Errorf("want environment %d to live on, got %v", environment, envs)
	}
}

//go:build unix

package blackbox_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/event-piper/event-piper/postgresql/pgtest"
)

// TestDatabaseLost takes the database away from live streams, in two ways, while inserts go on. The streams
// stay open, the health check tells, and nothing is lost or repeated.
func TestDatabaseLost(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t, nil)
	launch(t, "stream", []string{"migrate"}, "DATABASE_URL="+server.DSN()).exit(t, 0)
	p := start(t, "stream", "DATABASE_URL="+server.DSN(), "HEARTBEAT_INTERVAL=500ms")
	health := func(status int) func() bool {
		return func() bool {
			return ask(t, http.MethodGet, p.url("/manage/health"), "").status == status
		}
	}
	c := gather(t, p.addr, 200, 5)
	stop := trickle(server.DSN(), 5, 5*time.Millisecond)
	defer stop()

	for range 2 {
		if err := server.Halt(true); err != nil {
			t.Fatal(err)
		}
		eventually(t, "health to be DOWN without a database", health(http.StatusServiceUnavailable))
		ask(t, http.MethodGet, p.url("/events/poll?after=0&wait=0"), "toto").problem(t, http.StatusServiceUnavailable)
		if a := ask(t, http.MethodGet, p.url("/manage/health/live"), ""); a.status != http.StatusOK {
			t.Errorf("liveness: want 200 without a database, got %d", a.status)
		}
		if err := server.Resume(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "health to be UP with the database", health(http.StatusOK))
	}

	db := connect(t, server.DSN())
	for range 3 {
		follower := query[int](t, db, "select pid from pg_stat_activity where application_name = 'event-piper stream'")
		db.exec(t, "select pg_terminate_backend($1, 10000)", follower)
		eventually(t, "another connection to follow", func() bool {
			return query[int](t, db, "select count(*) from pg_stat_activity where application_name = 'event-piper stream'") == 1
		})
		eventually(t, "health to be UP", health(http.StatusOK))
	}
	stop()
	c.end(t, db)
	p.stop(t)
}

// TestOpenTransaction keeps a transaction open that has inserted an event: what is committed later waits for
// it, the log names it, and all arrive in order once it has ended.
func TestOpenTransaction(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"commit", "rollback"} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			dsn := pgtest.New(t)
			p := start(t, "stream", "DATABASE_URL="+dsn, "HEARTBEAT_INTERVAL=100ms")
			open, other := connect(t, dsn), connect(t, dsn)
			session := mustOpen(t, p.addr, "toto", fromNow)

			first := other.insert(t, "toto", "insert", `0`)
			open.exec(t, "begin")
			held := open.insert(t, "toto", "insert", `1`)
			later := []int64{other.insert(t, "toto", "insert", `2`), other.insert(t, "toto", "insert", `3`)}
			session.want(t, first)

			line := p.awaitLog(t, "an open transaction that inserted events holds back all later events")
			if pid := float64(open.PgConn().PID()); line["level"] != "WARN" || line["pid"] != pid {
				b, _ := json.Marshal(line)
				t.Errorf("want a warning that names pid %v, got %s", pid, b)
			}
			for range 3 {
				if f, err := session.next(); err != nil || f.event != "heartbeat" {
					t.Errorf("want nothing but heartbeats while the transaction is open, got %+v (%v)", f, err)
				}
			}
			before := ask(t, http.MethodGet, p.url("/events/poll?wait=0&after="+fmt.Sprint(first)), "toto").batch(t)
			if len(before.Events) != 0 || before.Cursor >= held {
				t.Errorf("a poll: want no event and a cursor below %d, got %+v", held, before)
			}
			open.exec(t, end)
			if end == "commit" {
				session.want(t, held)
			}
			session.want(t, later...)
		})
	}
}

// TestOneConnection counts what 500 streams cost the database.
func TestOneConnection(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	p := start(t, "stream", "DATABASE_URL="+dsn)
	db := connect(t, dsn)
	c := gather(t, p.addr, 500, 50)
	connections := func() int {
		return query[int](t, db, "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()")
	}
	if got := connections(); got != 1 {
		t.Errorf("with 500 streams: want one connection, got %d", got)
	}
	for n := range 500 {
		db.insert(t, consumerName(n%50), "insert", `{}`)
	}
	c.end(t, db)
	if got := connections(); got != 1 {
		t.Errorf("after 500 events for 500 streams: want one connection, got %d", got)
	}
	t.Logf("500 streams: one connection, %d MB", p.rss(t))
}

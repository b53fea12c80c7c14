//go:build unix

package blackbox_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"testing"

	"github.com/event-piper/event-piper/postgresql/pgtest"
)

// TestThroughAPooler runs both programs over a PgBouncer that lends a connection for a transaction at a time, while one
// connection leads to the database itself.
func TestThroughAPooler(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	pooled := pgtest.Pooler(t, dsn, "transaction", "ignore_startup_parameters = extra_float_digits", "default_pool_size = 2")
	db := connect(t, dsn)
	history := []int64{db.insert(t, "toto", "insert", `1`), db.insert(t, "toto", "insert", `2`)}

	for _, name := range []string{"stream", "poll"} {
		refused := launch(t, name, nil, "DATABASE_URL="+pooled)
		refused.exit(t, 1)
		wantOneLine(t, refused.stderr, name+": ", "DATABASE_LISTEN_URL")
	}
	env := []string{"DATABASE_URL=" + pooled, "DATABASE_LISTEN_URL=" + dsn}
	streams, polls := start(t, "stream", env...), start(t, "poll", env...)

	session := mustOpen(t, streams.addr, "toto", 0)
	session.want(t, history...)
	for _, p := range []*program{streams, polls} {
		s := site{base: p.url(""), db: db}
		s.settle(t)
		b := s.poll(t, "toto", "after=0&wait=0").batch(t)
		if !slices.Equal(b.ids(), history) {
			t.Errorf("%s: a poll of history got %v, want %v", p.name, b.ids(), history)
		}
		sent, answered := make(chan struct{}, 1), make(chan answer, 1)
		go func() { answered <- s.waitingPoll(t, "toto", fmt.Sprintf("wait=25&after=%d", b.Cursor), sent) }()
		<-sent
		id := db.insert(t, "toto", "insert", `3`)
		if got := (<-answered).batch(t).ids(); len(got) != 1 || got[0] != id {
			t.Errorf("%s: a waiting poll got %v, want %d", p.name, got, id)
		}
		session.want(t, id)
		history = append(history, id)
	}
	streams.stop(t)
	polls.stop(t)
}

// TestTooManyConnections takes the connections away that a role may have. What is refused is said, and events are delivered
// once there are enough again.
func TestTooManyConnections(t *testing.T) {
	t.Parallel()
	owner := pgtest.New(t)
	db := connect(t, owner)
	database := query[string](t, db, "select current_database()")
	// A refused connection counts until its end, so those that are refused at the start have a role of their own.
	dsn := map[string]string{"none": "", "reader": ""}
	for name := range dsn {
		role := name + "_of_" + database
		t.Cleanup(func() { db.exec(t, "drop owned by "+role+"; drop role "+role) })
		db.exec(t, "create role "+role+" login password 's3cret'")
		db.exec(t, "grant select on events, events_schema_version, events_pruned, events_id_seq to "+role)
		u, err := url.Parse(owner)
		if err != nil {
			t.Fatal(err)
		}
		u.User = url.UserPassword(role, "s3cret")
		dsn[name] = u.String()
	}
	limit := func(name string, n int) {
		db.exec(t, fmt.Sprintf("alter role %s_of_%s connection limit %d", name, database, n))
	}

	limit("none", 0)
	for _, name := range []string{"stream", "poll"} {
		p := launch(t, name, nil, "DATABASE_URL="+dsn["none"])
		p.exit(t, 1)
		wantOneLine(t, p.stderr, name+": ", "too many connections")
	}

	history := db.insert(t, "toto", "insert", `1`)
	p := start(t, "stream", "DATABASE_URL="+dsn["reader"])
	health := func(status int) func() bool {
		return func() bool { return ask(t, http.MethodGet, p.url("/manage/health"), "").status == status }
	}
	eventually(t, "health to be UP", health(http.StatusOK))
	live := mustOpen(t, p.addr, "toto", fromNow)

	// The one connection follows: there is none for history.
	limit("reader", 1)
	replay := mustOpen(t, p.addr, "toto", 0)
	ask(t, http.MethodGet, p.url("/events/poll?after=0&wait=0"), "toto").problem(t, http.StatusServiceUnavailable)
	first := db.insert(t, "toto", "insert", `2`)
	live.want(t, first)

	// And then not even that one.
	limit("reader", 0)
	db.exec(t, "select pg_terminate_backend(pid, 10000) from pg_stat_activity where usename = $1", "reader_of_"+database)
	eventually(t, "health to be DOWN without a connection", health(http.StatusServiceUnavailable))
	second := db.insert(t, "toto", "insert", `3`)

	limit("reader", 10)
	live.want(t, second)
	replay.want(t, history, first, second)
	eventually(t, "health to be UP again", health(http.StatusOK))
	p.stop(t)
}

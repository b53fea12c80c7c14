package postgresql_test

import (
	"net/url"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/event-piper/event-piper/postgresql/migrations"
	"github.com/event-piper/event-piper/postgresql/pgtest"
)

// Roles belong to the whole cluster, so this has one of its own.
func TestTheRolesAreSetUpByAnyOwner(t *testing.T) {
	t.Parallel()
	s := pgtest.Server(t, nil)
	admin := connect(t, s.DSN())
	as := func(role, database string) string {
		u, err := url.Parse(s.DSN())
		if err != nil {
			t.Fatal(err)
		}
		u.User, u.Path = url.UserPassword(role, "secret"), "/"+database
		return u.String()
	}
	for _, role := range []string{"plain", "app", "service", "nobody"} {
		exec(t, admin, "create role "+role+" login password 'secret'")
	}
	setUp := func(database string, again bool) {
		if _, _, err := migrations.Apply(t.Context(), as("plain", database), nil); err != nil {
			t.Fatal(err)
		}
		run(t, admin, "", "psql", "-X", "-q", "-f", "roles.sql", as("plain", database))
		if again {
			run(t, admin, "", "psql", "-X", "-q", "-f", "roles.sql", as("plain", database))
		}
	}
	for _, step := range []struct{ what, inAdmin, database, inDatabase string }{
		{"with CREATEROLE, in a schema of its own", "alter role plain createrole", "own", `create schema "an-other" authorization plain`},
		{"without, where the roles exist", "alter role plain nocreaterole", "later", `create schema "an-other" authorization plain`},
		{"in somebody else's schema public", "select 1", "public", "revoke create on schema public from public; grant create on schema public to plain"},
	} {
		exec(t, admin, step.inAdmin)
		exec(t, admin, "create database "+step.database+" template template0")
		if step.database != "public" {
			for _, role := range []string{"plain", "app", "service", "nobody"} {
				exec(t, admin, `alter role `+role+` in database `+step.database+` set search_path = "an-other"`)
			}
		}
		u, err := url.Parse(s.DSN())
		if err != nil {
			t.Fatal(err)
		}
		u.Path = "/" + step.database
		exec(t, connect(t, u.String()), step.inDatabase)
		setUp(step.database, true)
		exec(t, admin, "grant event_piper_writer to app")
		exec(t, admin, "grant event_piper_reader to service")

		app, service, nobody := connect(t, as("app", step.database)), connect(t, as("service", step.database)), connect(t, as("nobody", step.database))
		exec(t, app, insert)
		exec(t, app, `insert into events (type, "timestamp", subscriber, payload, amends, traceparent) values ('x', now(), 'toto', '{}', 1, null)`)
		refused(t, app, noPrivilege, "insert into events (id, type, subscriber, payload) overriding system value values (5, 'x', 'toto', '{}')")
		for _, conn := range []*pgx.Conn{app, service} {
			if got := query[int64](t, conn, "select events_position()"); got != 2 {
				t.Errorf("%s: the position is %d, want 2", step.what, got)
			}
			for _, sql := range []string{"delete from events", "update events set payload = '1'", "truncate events", "select events_redact(1)", "delete from events_pruned",
				"select setval('events_id_seq', 1)", "create table mine ()"} {
				refused(t, conn, noPrivilege, sql)
			}
		}
		refused(t, app, noPrivilege, "select payload from events")
		refused(t, service, noPrivilege, insert)
		if events := history(t, open(t, as("service", step.database)), "toto"); len(events) != 2 {
			t.Errorf("%s: the service reads %d events, want 2", step.what, len(events))
		}
		if f := follow(t, as("service", step.database)); f != nil {
			if r, err := f.Read(t.Context(), 0, []string{"toto"}); err != nil || len(r.Events) != 2 {
				t.Errorf("%s: the service follows %d events (%v), want 2", step.what, len(r.Events), err)
			}
		}
		if step.database != "public" { // in which everybody may name things
			if _, err := nobody.Exec(t.Context(), `prepare p as insert into "an-other".events (type, subscriber, payload) values ('x', 'toto', '{}')`); err == nil {
				t.Errorf("%s: nobody can prepare an insert", step.what)
			}
		}
	}
}

package postgresql_test

import (
	"net/url"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/event-piper/event-piper/postgresql/pgtest"
)

// in returns a DSN with another search path.
func in(t *testing.T, dsn, searchPath string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set("search_path", searchPath)
	u.RawQuery = strings.ReplaceAll(q.Encode(), "+", "%20")
	return u.String()
}

// allWorks uses everything of the schema that dsn looks into, by connections of its own: some names are looked up once for
// a connection. The last event before has the given id, and it was toto's.
func allWorks(t *testing.T, dsn string, last int64) {
	t.Helper()
	conn, other := connect(t, dsn), connect(t, dsn)
	store, f := open(t, dsn), follow(t, dsn)
	exec(t, conn, insert)
	exec(t, conn, "begin")
	exec(t, conn, insert)
	exec(t, conn, insert)
	if before := query[int64](t, other, "select min(before) from events_writers"); before != last+1 {
		t.Errorf("the writer's lock holds %d, want %d", before, last+1)
	}
	if r, err := f.Read(t.Context(), last, []string{"toto"}); err != nil || len(r.Events) != 1 || r.Writers != 1 {
		t.Errorf("beside a writer %d events of %d writers (%v), want 1 and 1", len(r.Events), r.Writers, err)
	}
	exec(t, conn, "commit")
	if events := history(t, store, "toto"); len(events) == 0 || events[len(events)-1].ID != last+3 {
		t.Errorf("history has %d events, want them up to %d", len(events), last+3)
	}

	// From a search path that does not name the schema, where those who are not ours have to find it.
	schema := pgx.Identifier{query[string](t, conn, "select current_schema()")}.Sanitize()
	exec(t, other, "set search_path = pg_catalog")
	if got := query[int64](t, other, "select "+schema+".events_position()"); got != last+3 {
		t.Errorf("the position is %d, want %d", got, last+3)
	}
	exec(t, other, "insert into "+schema+".events (type, subscriber, payload) values ('insert', 'titi', '{}')")
	if id := query[int64](t, other, "select "+schema+".events_redact($1)", last+1); id != last+5 {
		t.Errorf("the redaction has the id %d, want %d", id, last+5)
	}
	refused(t, other, "P0002", "select "+schema+".events_redact(1000)")
	refused(t, other, restrictViolation, "update "+schema+".events set type = 'other'")
	exec(t, other, "delete from "+schema+".events where subscriber = 'toto'")
	exec(t, other, "truncate "+schema+".events")
	for consumer, want := range map[string]int64{"toto": last + 5, "titi": last + 4} {
		if p := page(t, dsn, consumer, 0); p.Pruned != want {
			t.Errorf("%s is told that events through %d are gone, want %d", consumer, p.Pruned, want)
		}
	}
}

func TestARenamedSchemaGoesOnWorking(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	before := connect(t, dsn)
	exec(t, before, insert)
	exec(t, before, `alter schema public rename to "other ""one"`)
	exec(t, before, `insert into "other ""one".events (type, subscriber, payload) values ('insert', 'toto', '{}')`)
	allWorks(t, in(t, dsn, `"other ""one"`), 2)

	// What comes to bear its former name has nothing to do with it.
	exec(t, before, "create schema public; create table public.events (id bigint generated always as identity, subscriber text)")
	exec(t, before, "create table public.events_pruned (subscriber text primary key, through bigint)")
	for range 100 {
		exec(t, before, "insert into public.events default values")
	}
	allWorks(t, in(t, dsn, `"other ""one"`), 7)
	if n := query[int](t, before, "select count(*) from public.events_pruned"); n != 0 {
		t.Errorf("%d marks in the other schema", n)
	}
}

func TestADumpIsRestored(t *testing.T) {
	t.Parallel()
	for _, schema := range []string{"public", `"other ""one"`} {
		dsn, restored := pgtest.New(t), pgtest.Empty(t)
		conn := connect(t, dsn)
		exec(t, conn, insert)
		exec(t, conn, "insert into events (type, subscriber, payload, amends) values ('amended', 'toto', '{}', 1)")
		exec(t, conn, "delete from events where id = 1")
		if schema != "public" {
			exec(t, conn, "alter schema public rename to "+schema)
		}
		dump := run(t, conn, "", "pg_dump", dsn)
		run(t, conn, dump, "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", restored)
		there := in(t, restored, schema)
		if p := page(t, there, "toto", 0); p.Pruned != 1 || len(p.Events) != 1 || p.Events[0].ID != 2 {
			t.Errorf("restored %d events after %d, want one after 1", len(p.Events), p.Pruned)
		}
		allWorks(t, there, 2)
	}
}

// run runs a program beside the server's own, which is of the same version, and returns what it says. Any psql will do.
func run(t *testing.T, conn *pgx.Conn, input, name string, args ...string) string {
	t.Helper()
	path, err := osexec.LookPath(filepath.Join(query[string](t, conn, "select setting from pg_config where name = 'BINDIR'"), name))
	if err != nil && name == "psql" {
		path, err = osexec.LookPath(name)
	}
	if err != nil {
		t.Skipf("the server comes without %s", name)
	}
	var problems strings.Builder
	cmd := osexec.CommandContext(t.Context(), path, args...)
	cmd.Stdin, cmd.Stderr = strings.NewReader(input), &problems
	output, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, &problems)
	}
	return string(output)
}

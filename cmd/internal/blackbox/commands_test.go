//go:build unix

package blackbox_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/event-piper/event-piper/postgresql/devdb"
	"github.com/event-piper/event-piper/postgresql/pgtest"
)

func TestMigrate(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Empty(t)
	for _, want := range []string{"is at version", "is up to date at version"} {
		p := launch(t, "stream", []string{"migrate"}, "DATABASE_URL="+dsn)
		p.exit(t, 0)
		if got := p.stdout.list(); len(got) != 1 || !strings.Contains(got[0], want) {
			t.Errorf("stream migrate: want one line with %q, got %q", want, got)
		}
		if got := p.stderr.list(); len(got) != 0 {
			t.Errorf("stream migrate: want no complaint, got %q", got)
		}
	}
	start(t, "stream", "DATABASE_URL="+dsn).stop(t)
}

func TestPrune(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	db := connect(t, dsn)
	db.exec(t, `insert into events (type, timestamp, subscriber, payload) values
		('insert', now() - interval '2 days', 'toto', '{}'), ('insert', now(), 'toto', '{}')`)
	p := launch(t, "stream", []string{"prune", "--older-than", "24h"}, "DATABASE_URL="+dsn)
	p.exit(t, 0)
	if left := query[int](t, db, "select count(*) from events"); left != 1 {
		t.Errorf("stream prune: want one event left, got %d", left)
	}

	forever := launch(t, "stream", []string{"prune", "--older-than", "1ms", "--every", "1h"}, "DATABASE_URL="+dsn)
	forever.awaitLog(t, "pruned")
	forever.signal(t, syscall.SIGTERM)
	forever.exit(t, 0)

	db.exec(t, "select pg_advisory_lock(x'4552000000000000'::bigint)") // as another worker does
	second := launch(t, "stream", []string{"prune", "--older-than", "24h"}, "DATABASE_URL="+dsn)
	second.awaitLog(t, "nothing pruned")
	second.exit(t, 0)

	empty := pgtest.Empty(t)
	early := launch(t, "stream", []string{"prune", "--older-than", "24h", "--every", "10ms"}, "DATABASE_URL="+empty)
	early.awaitLog(t, "cannot prune now")
	launch(t, "stream", []string{"migrate"}, "DATABASE_URL="+empty).exit(t, 0)
	early.awaitLog(t, "pruned")
	early.signal(t, syscall.SIGTERM)
	early.exit(t, 0)

	ageless := launch(t, "stream", []string{"prune"}, "DATABASE_URL="+dsn)
	ageless.exit(t, 1)
	wantOneLine(t, ageless.stderr, "stream: ", "OLDER_THAN")
}

// TestHelp prints the settings on standard output, and succeeds.
func TestHelp(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"stream", "poll"} {
		p := launch(t, name, []string{"--help"})
		p.exit(t, 0)
		if got := strings.Join(p.stdout.list(), "\n"); !strings.Contains(got, "DATABASE_URL") || len(p.stderr.list()) != 0 {
			t.Errorf("%s --help: want the settings on stdout alone, got:\n%s\nand on stderr %q", name, got, p.stderr.list())
		}
	}
}

// TestCommands inserts by a command what another prints, also after a restart of the service.
func TestCommands(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	port := strconv.Itoa(devdb.FreePort())
	insert := func(payload string) {
		launch(t, "stream", []string{"insert", "toto", "order.created", payload}, "DATABASE_URL="+dsn).exit(t, 0)
	}
	p := start(t, "stream", "DATABASE_URL="+dsn, "PORT="+port)
	tail := launch(t, "stream", []string{"tail", "toto", "--after=0", "--url=http://127.0.0.1:" + port})
	printed := func(line string) {
		tail.stdout.await(t, "tail to print "+line, func(l string) bool { return l == line })
	}
	insert(`{"order": 1}`)
	printed("1\torder.created\t{\"order\":1}")
	p.stop(t)
	insert(`{"order": 2}`)
	start(t, "stream", "DATABASE_URL="+dsn, "PORT="+port)
	printed("2\torder.created\t{\"order\":2}")
	tail.stop(t)
	if got := tail.stdout.list(); len(got) != 2 {
		t.Errorf("want each event once, got %q", got)
	}
	for _, c := range []struct {
		program string
		args    []string
		code    int
		says    string
	}{
		{"stream", []string{"migrte"}, 2, "did you mean migrate?"},
		{"stream", []string{"insert", "toto"}, 2, "takes a consumer"},
		{"stream", []string{"insert", "toto", "x", "{"}, 2, "not JSON"},
		{"stream", []string{"tail", "toto", "--after", "x"}, 2, "non-negative integer"},
		{"stream", []string{"tail", "--database-url", dsn}, 2, "takes a consumer"},
		{"stream", []string{"tail", "toto", "--database-url", "postgres://somebody:s3cret@127.0.0.1:1/nowhere"}, 1, "connection refused"},
		{"stream", []string{"--version"}, 0, "stream "},
		{"stream", []string{"version"}, 0, "stream "},
		{"stream", []string{"help"}, 0, "Usage: stream"},
		{"poll", []string{"helth"}, 2, "did you mean health?"},
		{"poll", []string{"--version"}, 0, "poll "},
		{"poll", []string{"version"}, 0, "poll "},
		{"poll", []string{"help"}, 0, "Usage: poll"},
	} {
		q := launch(t, c.program, c.args)
		q.exit(t, c.code)
		if said := strings.Join(append(q.stdout.list(), q.stderr.list()...), "\n"); !strings.Contains(said, c.says) {
			t.Errorf("%s %q: want %q, got %s", c.program, c.args, c.says, said)
		}
	}
}

// TestTailOfADatabase prints what a tail of a service prints, in each format, and goes on after its connection was lost. The
// variables in its environment are about some other program.
func TestTailOfADatabase(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	db := connect(t, dsn)
	p := start(t, "stream", "DATABASE_URL="+dsn)
	tail := func(args ...string) *program {
		args = append([]string{"tail", "toto", "--after=1000000", "--type=order.created,order.paid"}, args...)
		return launch(t, "stream", args, "DATABASE_URL="+dsn, "URL=http://127.0.0.1:1", "TOKEN=x", "AFTER=0", "TYPE=none", "FORMAT=none")
	}
	db.insert(t, "toto", "order.created", `{"total": 1.50}`)
	for _, format := range []string{"payload", "event", "cloudevents"} {
		ofService, ofDatabase := tail("--format", format, "--url", p.url("")), tail("--format", format)
		ofDatabase.stdout.await(t, "a reset, because that is ahead", func(line string) bool { return strings.Contains(line, "\treset\t") })
		ofService.stdout.await(t, "a reset", func(line string) bool { return strings.Contains(line, "\treset\t") })
		db.insert(t, "titi", "order.created", `{}`)
		db.insert(t, "toto", "order.noted", `{}`)
		first := strconv.FormatInt(db.insert(t, "toto", "order.paid", `{"by": "card"}`), 10)
		ofDatabase.stdout.await(t, "the event", func(line string) bool { return strings.HasPrefix(line, first) })
		lost := query[int](t, db, "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = 'event-piper tail' and datname = current_database()")
		if lost != 1 {
			t.Errorf("want one connection of tail, got %d", lost)
		}
		last := strconv.FormatInt(db.insert(t, "toto", "order.paid", `{"by": "cash"}`), 10)
		for _, tail := range []*program{ofService, ofDatabase} {
			tail.stdout.await(t, "the last event", func(line string) bool { return strings.HasPrefix(line, last) })
			tail.stop(t)
		}
		want, got := ofService.stdout.list(), ofDatabase.stdout.list()
		if !slices.Equal(got, want) || len(got) != 3 {
			t.Errorf("%s: want what the service gives:\n%q\ngot:\n%q", format, want, got)
		}
	}
}

// TestCommandsTakeTheSecret names the database by nothing but a secret of AWS, to every command that uses one.
func TestCommandsTakeTheSecret(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Empty(t)
	const arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:events-AbCdEf"
	manager := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var ask struct{ SecretID string }
		if err := json.NewDecoder(r.Body).Decode(&ask); err != nil || ask.SecretID != arn {
			t.Errorf("want a question about the secret, got %+v, %v", ask, err)
		}
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		_ = json.NewEncoder(w).Encode(map[string]string{"ARN": arn, "SecretString": dsn})
	}))
	t.Cleanup(manager.Close)
	command := func(args ...string) *program {
		return launch(t, "stream", args, "DATABASE_SECRET_ARN="+arn, "AWS_ENDPOINT_URL_SECRETS_MANAGER="+manager.URL, "AWS_REGION=eu-central-1",
			"AWS_ACCESS_KEY_ID=AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY=EXAMPLEKEY", "NO_PROXY=127.0.0.1")
	}
	for _, args := range [][]string{
		{"migrate"},
		{"doctor"},
		{"insert", "toto", "order.created", `{"order": 1}`},
		{"prune", "--older-than", "720h"},
	} {
		command(args...).exit(t, 0)
	}
	tail := command("tail", "toto", "--after", "0")
	tail.stdout.await(t, "the event that was inserted", func(line string) bool { return line == "1\torder.created\t{\"order\":1}" })
	tail.stop(t)
}

//go:build unix

package blackbox_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/event-piper/event-piper/postgresql/devdb"
	"github.com/event-piper/event-piper/postgresql/pgtest"
)

// TestDevelopmentDatabase starts stream with nothing configured, does what it prints, and stops it with
// Ctrl-C: nothing of it is left.
func TestDevelopmentDatabase(t *testing.T) {
	t.Parallel()
	p := start(t, "stream", "DEV_DATABASE_PORT=0")
	printed := strings.Join(p.stdout.list(), "\n")
	dsn := regexp.MustCompile(`(?m)^\s+(postgres://\S+)$`).FindStringSubmatch(printed)
	insert := regexp.MustCompile(`(?m)^\s+(psql postgres://.*)$`).FindStringSubmatch(printed)
	if dsn == nil || insert == nil || !strings.Contains(printed, "not for production") {
		t.Fatalf("want a warning, a connection string and a psql line, got:\n%s", printed)
	}
	session := mustOpen(t, p.addr, "toto", fromNow)
	if out, err := exec.Command("sh", "-c", insert[1]).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", insert[1], err, out)
	}
	if f, err := session.nextEvent(); err != nil || f != (frame{1, "insert", `{"foo":"bar"}`}) {
		t.Errorf("want the event of the printed line, got %+v (%v)", f, err)
	}

	db := connect(t, dsn[1])
	data := query[string](t, db, "show data_directory")
	processes := descendants(t, p.cmd.Process.Pid)
	if len(processes) < 3 {
		t.Errorf("want PostgreSQL's processes below stream, got %v", processes)
	}
	// A terminal sends Ctrl-C to all of its foreground processes.
	if err := syscall.Kill(-p.cmd.Process.Pid, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	p.exit(t, 0)
	if _, err := os.Stat(filepath.Dir(data)); !os.IsNotExist(err) {
		t.Errorf("want no temporary data left, got %s (%v)", filepath.Dir(data), err)
	}
	for _, pid := range processes {
		eventually(t, fmt.Sprintf("process %d to be gone", pid), func() bool { return syscall.Kill(pid, 0) != nil })
	}
}

// descendants lists the processes that a process has started, and theirs.
func descendants(t testing.TB, pid int) (pids []int) {
	t.Helper()
	out, err := exec.Command("ps", "-A", "-o", "pid=,ppid=").Output()
	if err != nil {
		t.Fatal(err)
	}
	children := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) == 2 {
			children[f[1]] = append(children[f[1]], f[0])
		}
	}
	for queue := children[strconv.Itoa(pid)]; len(queue) > 0; queue = queue[1:] {
		child, err := strconv.Atoi(queue[0])
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, child)
		queue = append(queue, children[queue[0]]...)
	}
	return pids
}

// TestDevelopmentDatabaseIgnoresTheEnvironment has variables in it that are about some other database.
func TestDevelopmentDatabaseIgnoresTheEnvironment(t *testing.T) {
	t.Parallel()
	p := start(t, "stream", "DEV_DATABASE_PORT=0", "PGSSLMODE=verify-full", "PGOPTIONS=-c no.such=1 -c search_path=nowhere",
		"PGTARGETSESSIONATTRS=standby", "PGSERVICEFILE=/nowhere", "PGUSER=somebody", "PGPASSWORD=else", "PGDATABASE=other", "PGCONNECT_TIMEOUT=x")
	dsn := regexp.MustCompile(`postgres://\S+`).FindString(strings.Join(p.stdout.list(), "\n"))
	id := connect(t, dsn).insert(t, "toto", "insert", `{}`)
	mustOpen(t, p.addr, "toto", 0).want(t, id)
	p.stop(t)
}

func TestDevelopmentDataSurvives(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	if err := os.Chmod(filepath.Dir(parent), 0o755); err != nil { // for the user that PostgreSQL runs as
		t.Fatal(err)
	}
	dir := filepath.Join(parent, "data")
	env := []string{"DEV_DATABASE_PORT=0", "DEV_DATA_DIR=" + dir}

	p := start(t, "stream", env...)
	printed := strings.Join(p.stdout.list(), "\n")
	dsn := regexp.MustCompile(`postgres://\S+`).FindString(printed)
	if !strings.Contains(printed, dir) {
		t.Errorf("want to be told where the data is kept, got:\n%s", printed)
	}
	id := connect(t, dsn).insert(t, "toto", "insert", `{"kept": true}`)
	p.stop(t)

	p = start(t, "stream", env...)
	mustOpen(t, p.addr, "toto", 0).want(t, id)
	p.stop(t)
}

// TestStopping follows the order in which a server stops: not ready, but serving; then the streams end with a
// retry of their own, and waiting polls with an answer.
func TestStopping(t *testing.T) {
	t.Parallel()
	const sessions = 40
	dsn := pgtest.New(t)
	p := start(t, "stream", "DATABASE_URL="+dsn, "LAME_DUCK=2s", "DRAIN_TIME=1500ms", "RETRY=4s")
	db := connect(t, dsn)
	s := site{base: p.url(""), db: db}
	testHealth(t, s)
	streams := make([]*stream, sessions)
	for i := range streams {
		streams[i] = mustOpen(t, p.addr, "toto", fromNow)
	}
	sent, answered := make(chan struct{}), make(chan answer, 1)
	go func() { answered <- s.waitingPoll(t, "patient", "wait=30", sent) }()
	<-sent

	probe := func(code int) {
		_, port, _ := net.SplitHostPort(p.addr)
		launch(t, "stream", []string{"health"}, "PORT="+port).exit(t, code)
	}
	probe(0)

	p.signal(t, syscall.SIGTERM)
	p.awaitLog(t, "stopping")
	eventually(t, "readiness to be off", func() bool {
		return ask(t, http.MethodGet, s.base+"/manage/health/ready", "").status == http.StatusServiceUnavailable
	})
	if a := ask(t, http.MethodGet, s.base+"/manage/health", ""); a.status != http.StatusServiceUnavailable || a.body != `{"status":"DOWN","reason":"shutting down"}` {
		t.Errorf("health: want 503 because of shutting down, got %d %s", a.status, a.body)
	}
	if a := ask(t, http.MethodGet, s.base+"/manage/health/live", ""); a.status != http.StatusOK {
		t.Errorf("liveness: want 200, got %d", a.status)
	}
	probe(1)
	// Balancers notice readiness late: until then all is served, new streams too.
	streams = append(streams, mustOpen(t, p.addr, "toto", fromNow))
	id := db.insert(t, "toto", "insert", `{}`)
	retries := map[time.Duration]bool{}
	for i, s := range streams {
		ids, err := s.untilEnd()
		if err != nil || !slices.Equal(ids, []int64{id}) {
			t.Errorf("stream %d: want event %d and an end in order, got %v (%v)", i, id, ids, err)
		}
		if s.tellings != 2 || s.retry < 2*time.Second || s.retry > 6*time.Second {
			t.Errorf("stream %d: want a retry between 2s and 6s at its begin and at its end, got %d, last %v", i, s.tellings, s.retry)
		}
		retries[s.retry] = true
	}
	if len(retries) < sessions/2 {
		t.Errorf("want retries that differ, got %d different ones for %d streams", len(retries), sessions)
	}
	if b := (<-answered).batch(t); len(b.Events) != 0 {
		t.Errorf("a waiting poll: want an empty batch, got %v", b.ids())
	}
	p.exit(t, 0)
	if _, err := net.Dial("tcp", p.addr); err == nil {
		t.Error("want nobody to listen any more, but a connection was accepted")
	}
}

// TestSecondSignal does not wait for what the first one asked to be patient with.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"stream", "poll"} {
		t.Run(name, func(t *testing.T) {
			p := start(t, name, "DATABASE_URL="+pgtest.New(t), "LAME_DUCK=1h", "DRAIN_TIME=1h")
			s := site{base: p.url("")}
			sent := make(chan struct{})
			go func() { _, _ = s.tryWaitingPoll("patient", "wait=30", sent) }()
			<-sent
			if name == "stream" {
				mustOpen(t, p.addr, "toto", fromNow)
			}
			p.signal(t, syscall.SIGTERM)
			p.awaitLog(t, "stopping")
			p.signal(t, syscall.SIGINT)
			p.exit(t, 0)
		})
	}
}

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

// TestStartFailures: every reason not to serve is one line on stderr, apart from the log.
func TestStartFailures(t *testing.T) {
	t.Parallel()
	occupied, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = occupied.Close() }()
	_, takenPort, _ := net.SplitHostPort(occupied.Addr().String())

	dsn, empty, older, newer := pgtest.New(t), pgtest.Empty(t), pgtest.New(t), pgtest.New(t)
	connect(t, older).exec(t, "update events_schema_version set version = 1")
	connect(t, newer).exec(t, "update events_schema_version set version = 99")
	away := "postgres://somebody:s3cret@127.0.0.1:1/nowhere?connect_timeout=2"

	cases := []struct {
		name string
		env  string
		args []string
		want string // in the line
		code int
	}{
		{"port taken", "PORT=" + takenPort, nil, "PORT: " + takenPort, 1},
		{"address of another machine", "ADDRESS=192.0.2.1", nil, "ADDRESS", 1},
		{"no schema", "DATABASE_URL=" + empty, nil, "stream migrate", 1},
		{"older schema", "DATABASE_URL=" + older, nil, "stream migrate", 1},
		{"newer schema", "DATABASE_URL=" + newer, nil, "newer", 1},
		{"database away", "DATABASE_URL=" + away, nil, "connect to PostgreSQL", 1},
		{"wrong password", "DATABASE_URL=" + strings.Replace(dsn, ":event_piper@", ":wr0ng@", 1), nil, "connect to PostgreSQL", 1},
		{"no such database", "DATABASE_URL=" + dsn + "_missing", nil, "does not exist", 1},
		{"no connection string", "DATABASE_URL=postgres://%zz:s3cret@", nil, "DATABASE_URL", 1},
		{"no number", "PORT=many", nil, "PORT", 1},
		{"out of range", "PORT=65536", nil, "PORT", 1},
		{"no unit", "LAME_DUCK=5", nil, "LAME_DUCK", 1},
		{"no choice", "LOG_LEVEL=loud", nil, "LOG_LEVEL", 1},
		{"half of TLS", "TLS_CERT_FILE=/nowhere", nil, "TLS", 1},
		{"JWT without a key", "AUTH=jwt", nil, "JWT", 1},
		{"unknown flag", "", []string{"--verbose"}, "verbose", 2},
		{"stray argument", "", []string{"serve"}, `"serve"`, 2},
		{"wrong value of a flag", "", []string{"--drain-time", "soon"}, "DRAIN_TIME", 2},
	}
	for _, name := range []string{"stream", "poll"} {
		for _, c := range cases {
			t.Run(name+" "+c.name, func(t *testing.T) {
				p := launch(t, name, c.args, "DATABASE_URL="+dsn, c.env)
				p.exit(t, c.code)
				wantOneLine(t, p.stderr, name+": ", c.want)
			})
		}
	}
	t.Run("migrate without a database", func(t *testing.T) {
		p := launch(t, "stream", []string{"migrate"})
		p.exit(t, 1)
		wantOneLine(t, p.stderr, "stream: ", "DATABASE_URL")
	})
	t.Run("migrate with the database away", func(t *testing.T) {
		p := launch(t, "stream", []string{"migrate"}, "DATABASE_URL="+away)
		p.exit(t, 1)
		wantOneLine(t, p.stderr, "stream: ", "connect to PostgreSQL")
	})
	t.Run("bootstrap with a wrong setting", func(t *testing.T) {
		p := launch(t, "bootstrap", nil, "DATABASE_URL="+dsn, "POLL_WAIT=hope")
		p.exit(t, 1)
		wantOneLine(t, p.stderr, "poll: ", "POLL_WAIT")
	})
}

// wantOneLine checks that a program printed one line besides its log, which names the cause and no secret.
func wantOneLine(t testing.TB, stderr *lines, prefix, want string) {
	t.Helper()
	complaints := slices.DeleteFunc(stderr.list(), func(line string) bool { return json.Valid([]byte(line)) })
	if len(complaints) != 1 || !strings.HasPrefix(complaints[0], prefix) || !strings.Contains(complaints[0], want) {
		t.Errorf("want one line that begins with %q and contains %q, got %d:\n%s", prefix, want, len(complaints), strings.Join(complaints, "\n"))
	}
	for _, secret := range []string{"s3cret", "wr0ng"} {
		if strings.Contains(strings.Join(stderr.list(), "\n"), secret) {
			t.Errorf("want no password on stderr, got:\n%s", strings.Join(stderr.list(), "\n"))
		}
	}
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

// TestManagePort: what is for operators alone is not to be reached where consumers are, and health finds it.
func TestManagePort(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	port := strconv.Itoa(devdb.FreePort())
	p := start(t, "stream", "DATABASE_URL="+dsn, "MANAGE_PORT="+port)
	first := p.awaitLog(t, "starting event-piper stream")
	if first["auth"] != "gateway" || first["version"] == "" || !strings.Contains(fmt.Sprint(first["database"]), "/") || strings.Contains(fmt.Sprint(first["database"]), "@") {
		t.Errorf("want the start to say its version, authentication and database, got %v", first)
	}
	for _, path := range []string{"/metrics", "/manage/health", "/manage/health/live", "/debug/pprof/"} {
		if a := fetch(t, p.url(path)); a.status != http.StatusNotFound {
			t.Errorf("%s on the public port: want 404, got %d", path, a.status)
		}
		if a := fetch(t, "http://127.0.0.1:"+port+path); a.status != http.StatusOK {
			t.Errorf("%s on the management port: want 200, got %d", path, a.status)
		}
	}
	if a := fetch(t, "http://127.0.0.1:"+port+"/events"); a.status != http.StatusNotFound {
		t.Errorf("/events on the management port: want 404, got %d", a.status)
	}
	launch(t, "stream", []string{"health"}, "MANAGE_PORT="+port).exit(t, 0)
	p.stop(t)
}

func fetch(t testing.TB, url string) *answer {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return &answer{request: url, status: response.StatusCode, header: response.Header, body: string(body)}
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

//go:build unix

package blackbox_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/event-piper/event-piper/postgresql/devdb"
	"github.com/event-piper/event-piper/postgresql/pgtest"
)

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

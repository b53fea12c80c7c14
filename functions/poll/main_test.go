package main

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/event-piper/event-piper/functions/gateway/gatewaytest"
	"github.com/event-piper/event-piper/postgresql/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestAWrongSettingStopsTheStart(t *testing.T) {
	for want, env := range map[string]map[string]string{
		`POLL_WAIT: "never" is not one of listen, interval`: {"POLL_WAIT": "never"},
		`JWT_SECRET takes at least 32 bytes`:                {"DATABASE_URL": "postgres://localhost/events", "AUTH": "jwt", "JWT_SECRET": "short"},
		`DATABASE_URL is not set`:                           {},
	} {
		_, _, err := newHandler(t.Context(), nil, func(name string) string { return env[name] })
		if err == nil || err.Error() != want {
			t.Errorf("the start with %v: want the error %q, got %v", env, want, err)
		}
	}
}

func TestTheTemplateSetsWhatTheFunctionKnows(t *testing.T) {
	gatewaytest.WantSettings(t, "PollFunction", new(config).define)
}

// bootstrap builds the function as its deployment does, but for this machine.
func bootstrap(b *testing.B) (path string, size int64) {
	b.Helper()
	path = filepath.Join(b.TempDir(), "bootstrap")
	build := exec.Command("go", "build", "-tags", gatewaytest.BuildTags, "-trimpath", "-ldflags=-s -w", "-o", path, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("build: %v\n%s", err, out)
	}
	info, err := os.Stat(path)
	if err != nil {
		b.Fatal(err)
	}
	// On x86 it is larger than on ARM, which the template deploys and whose size `make lambda` bounds.
	if info.Size() > 12_800_000 {
		b.Fatalf("want a bootstrap of 12.8 MB at most, got %d bytes (docs/performance.md)", info.Size())
	}
	return path, info.Size()
}

func ask(b *testing.B, front *gatewaytest.Front) {
	b.Helper()
	r, err := http.NewRequestWithContext(b.Context(), http.MethodGet, front.URL()+"/events/poll?after=0&wait=0", nil)
	if err != nil {
		b.Fatal(err)
	}
	r.Header.Set("X-Consumer-Id", "toto")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		b.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusOK {
		b.Fatalf("want status 200, got %d (%v)", resp.StatusCode, err)
	}
}

func start(b *testing.B, path, dsn string) *gatewaytest.Front {
	b.Helper()
	front, err := gatewaytest.Start(context.Background(), gatewaytest.Config{
		Bootstrap: path, Limit: 1, Env: []string{"DATABASE_URL=" + dsn},
	})
	if err != nil {
		b.Fatal(err)
	}
	return front
}

// BenchmarkCold is a first request: the start of the bootstrap, a connection, and the answer.
func BenchmarkCold(b *testing.B) {
	path, size := bootstrap(b)
	dsn := pgtest.New(b)
	var init time.Duration
	for b.Loop() {
		front := start(b, path, dsn)
		ask(b, front)
		b.StopTimer()
		init += front.Environments()[0].ColdStart()
		front.Close()
		b.StartTimer()
	}
	b.ReportMetric(float64(init.Microseconds())/1e3/float64(b.N), "ms-init/op")
	b.ReportMetric(float64(size)/1e6, "MB-bootstrap")
}

// BenchmarkWarm is a request to an environment that has a connection.
func BenchmarkWarm(b *testing.B) {
	path, _ := bootstrap(b)
	front := start(b, path, pgtest.New(b))
	defer front.Close()
	ask(b, front)
	for b.Loop() {
		ask(b, front)
	}
}

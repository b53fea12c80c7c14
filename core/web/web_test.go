package web

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

// journal is a log that tests read line by line.
type journal struct {
	mu    sync.Mutex
	lines []line
	added chan struct{} // closed and replaced with every line
}

type line struct {
	level   slog.Level
	message string
	attrs   map[string]any
}

func newJournal() (*journal, *slog.Logger) {
	j := &journal{added: make(chan struct{})}
	return j, slog.New(j)
}

func (j *journal) Enabled(context.Context, slog.Level) bool { return true }
func (j *journal) WithAttrs([]slog.Attr) slog.Handler       { return j }
func (j *journal) WithGroup(string) slog.Handler            { return j }

func (j *journal) Handle(_ context.Context, r slog.Record) error {
	l := line{r.Level, r.Message, map[string]any{}}
	r.Attrs(func(a slog.Attr) bool {
		l.attrs[a.Key] = a.Value.Any()
		return true
	})
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, l)
	close(j.added)
	j.added = make(chan struct{})
	return nil
}

func (j *journal) find(message string) (found []line, added <-chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, l := range j.lines {
		if l.message == message {
			found = append(found, l)
		}
	}
	return found, j.added
}

// wait returns the first line with the message, once it is there.
func (j *journal) wait(t *testing.T, message string) line {
	t.Helper()
	for {
		found, added := j.find(message)
		if len(found) > 0 {
			return found[0]
		}
		await(t, added, "a log line "+message)
	}
}

// await waits for what must happen; the time only bounds how long a broken test hangs.
func await[T any](t *testing.T, c <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(20 * time.Second):
		t.Fatalf("waited in vain for %s", what)
	}
	return v
}

// running is a server that serves until the test ends.
type running struct {
	*Server
	url        string
	journal    *journal
	stop, kill context.CancelFunc
	ended      <-chan error
}

func run(t *testing.T, c Config, mux *http.ServeMux, prepare ...func(*Server)) *running {
	t.Helper()
	j, log := newJournal()
	c.Address = "127.0.0.1"
	srv, err := Listen(t.Context(), c, log)
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	for _, p := range prepare {
		p(srv)
	}
	killed, kill := context.WithCancel(context.Background())
	stopped, stop := context.WithCancel(killed)
	ended := make(chan error, 1)
	over := make(chan struct{})
	go func() {
		defer close(over)
		ended <- srv.Serve(stopped, killed, Handler(c, mux, log))
	}()
	t.Cleanup(func() {
		kill()
		await(t, over, "the server to end")
		stop()
	})
	scheme := "http://"
	if c.TLSCertFile != "" {
		scheme = "https://"
	}
	return &running{srv, scheme + srv.Addr().String(), j, stop, kill, ended}
}

func (r *running) dial(t *testing.T) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", r.Addr().String())
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	return conn
}

func get(t *testing.T, client *http.Client, url string) (*http.Response, string) {
	t.Helper()
	resp, err := client.Get(url)
	if err != nil {
		t.Fatalf("GET %s: %v", url, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("read the answer of %s: %v", url, err)
	}
	return resp, string(body)
}

// ask sends a request to a handler without a network.
func ask(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func routes(patterns map[string]http.HandlerFunc) *http.ServeMux {
	mux := http.NewServeMux()
	for pattern, h := range patterns {
		mux.HandleFunc(pattern, h)
	}
	return mux
}

func ok(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }

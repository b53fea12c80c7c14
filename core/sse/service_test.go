package sse

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/core/auth"
	"github.com/event-piper/event-piper/core/coretest"
	"github.com/event-piper/event-piper/core/web"
)

// way is a protocol between client and server. On Linux "http" is written by the loop, the others are by
// their handlers.
type way struct {
	name       string
	tls, http2 bool
}

var ways = []way{{name: "http"}, {"h2c", false, true}, {"https", true, false}, {"h2", true, true}}

// inEveryWay runs a test once for each way.
func inEveryWay(t *testing.T, test func(t *testing.T, w way)) {
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			test(t, w)
		})
	}
}

// setup is what a test may want otherwise.
type setup struct {
	Config
	limits  core.Limits
	expires func() time.Time // of every client's token
	observe func(time.Duration)
	// listening prepares the server before it starts.
	listening func(*httptest.Server)
}

// service is a server over an in-memory store, with what stands around it.
type service struct {
	*Server
	store    *coretest.Store
	http     *httptest.Server
	url      string
	requests chan request
}

// request is the line of the access log that every request leaves when it is over.
type request struct {
	status        int64
	events, bytes int64
}

// newService serves until the test ends; silence is an hour long unless the setup says otherwise.
func newService(t testing.TB, w way, prepare ...func(*setup)) *service {
	t.Helper()
	c := setup{
		Config:  Config{Heartbeat: time.Hour, WriteTimeout: time.Hour, Retry: time.Second},
		limits:  core.Limits{Sessions: 10_000, SessionsPerConsumer: 10_000, Pagers: 2, TailBytes: 1 << 20},
		expires: func() time.Time { return time.Time{} },
	}
	for _, p := range prepare {
		p(&c)
	}
	s := &service{store: coretest.NewStore(), requests: make(chan request, 20_000)}
	log := slog.New(s)
	hub := core.NewHub(s.store, c.limits, log)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- hub.Run(ctx) }()
	await(t, hub.Started(), "the hub to start")

	var err error
	if s.Server, err = NewServer(c.Config, hub, log, c.observe); err != nil {
		t.Fatalf("new server: %v", err)
	}
	mux := http.NewServeMux()
	streams := s.Handler(func(next http.Handler) http.Handler { return next })
	mux.HandleFunc("GET /events", func(w http.ResponseWriter, r *http.Request) {
		if consumer := r.Header.Get("X-Consumer-Id"); consumer != "" {
			r = r.WithContext(auth.NewContext(r.Context(), auth.Identity{Consumer: consumer, Expires: c.expires()}))
		}
		streams.ServeHTTP(w, r)
	})
	s.http = httptest.NewUnstartedServer(web.Handler(web.Config{}, mux, log))
	s.http.Config.Protocols = new(http.Protocols)
	s.http.Config.Protocols.SetHTTP1(true)
	s.http.Config.Protocols.SetHTTP2(w.http2)
	s.http.Config.Protocols.SetUnencryptedHTTP2(w.http2)
	s.http.EnableHTTP2 = w.http2
	if c.listening != nil {
		c.listening(s.http)
	}
	if w.tls {
		s.http.StartTLS()
	} else {
		s.http.Start()
	}
	s.url = s.http.URL + "/events"
	transport := s.http.Client().Transport.(*http.Transport)
	if w.http2 && !w.tls {
		transport.Protocols = new(http.Protocols)
		transport.Protocols.SetUnencryptedHTTP2(true)
	}
	t.Cleanup(func() {
		s.Close()
		transport.CloseIdleConnections()
		s.http.Close()
		cancel()
		if err := await(t, ended, "the hub to end"); err != nil {
			t.Errorf("the hub ended with %v", err)
		}
		eventually(t, "all sessions to be closed", func() bool { return hub.Sessions() == 0 }) // handlers of HTTP/2 end by themselves
	})
	return s
}

// Handle takes the access log's lines.
func (s *service) Handle(_ context.Context, r slog.Record) error {
	if r.Message != "request" {
		return nil
	}
	var line request
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "status":
			line.status = a.Value.Int64()
		case "events":
			line.events = a.Value.Int64()
		case "bytes":
			line.bytes = a.Value.Int64()
		}
		return true
	})
	s.requests <- line
	return nil
}

func (s *service) Enabled(context.Context, slog.Level) bool { return true }
func (s *service) WithAttrs([]slog.Attr) slog.Handler       { return s }
func (s *service) WithGroup(string) slog.Handler            { return s }

// client reads a stream.
type client struct {
	*http.Response
	frames chan string // each with the empty line that ends it
	leave  func()
	start  int64 // the cursor of the first frame
	// Valid once frames is closed.
	err  error  // how the stream ended, nil if in good order
	rest string // what was left without an empty line
}

// get asks for a stream. Options are headers ("Last-Event-ID: 5") and query strings ("?after=5").
func (s *service) get(t testing.TB, method, consumer string, options ...string) (*http.Response, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r, err := http.NewRequestWithContext(ctx, method, s.url, nil)
	if err != nil {
		t.Fatalf("new request: %v", err)
	}
	if consumer != "" {
		r.Header.Set("X-Consumer-Id", consumer)
	}
	for _, option := range options {
		if name, value, ok := strings.Cut(option, ": "); ok {
			r.Header.Set(name, value)
		} else {
			r.URL.RawQuery = strings.TrimPrefix(option, "?")
		}
	}
	type answer struct {
		*http.Response
		error
	}
	answers := make(chan answer, 1)
	go func() {
		resp, err := s.http.Client().Do(r)
		answers <- answer{resp, err}
	}()
	got := await(t, answers, "an answer to "+consumer)
	if got.error != nil {
		cancel()
		t.Fatalf("get: %v", got.error)
	}
	return got.Response, cancel
}

// open opens a stream and reads its first frame, which tells where it starts.
func (s *service) open(t testing.TB, consumer string, options ...string) *client {
	t.Helper()
	resp, cancel := s.get(t, http.MethodGet, consumer, options...)
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(resp.Body)
		cancel()
		t.Fatalf("status %d %s, want 200", resp.StatusCode, body)
	}
	c := &client{Response: resp, frames: make(chan string, 10_000)}
	c.leave = sync.OnceFunc(func() { cancel(); _ = resp.Body.Close() })
	t.Cleanup(c.leave)
	go c.read()
	c.start, _ = heartbeatOf(t, c.next(t))
	return c
}

func (c *client) read() {
	defer close(c.frames)
	lines := bufio.NewReader(c.Body)
	var frame strings.Builder
	for {
		line, err := lines.ReadString('\n')
		frame.WriteString(line)
		if err != nil {
			c.rest = frame.String()
			if err != io.EOF {
				c.err = err
			}
			return
		}
		if line == "\n" {
			c.frames <- frame.String()
			frame.Reset()
		}
	}
}

// next returns the next frame.
func (c *client) next(t testing.TB) string {
	t.Helper()
	frame, ok := await2(t, c.frames, "a frame")
	if !ok {
		t.Fatalf("the stream ended with %q, %v; want a frame", c.rest, c.err)
	}
	return frame
}

// want checks the next frames, byte for byte but for where their ids are.
func (c *client) want(t testing.TB, frames ...string) {
	t.Helper()
	for _, want := range frames {
		if got := idFirst(c.next(t)); got != want {
			t.Fatalf("got frame %q, want %q", got, want)
		}
	}
}

// idFirst returns a frame with its id in front. Where it was depends on how many events were written at once.
func idFirst(frame string) string {
	fields := strings.SplitAfter(strings.TrimSuffix(frame, "\n"), "\n")
	if last := len(fields) - 2; last > 0 && strings.HasPrefix(fields[last], "id: ") {
		return fields[last] + strings.Join(fields[:last], "") + "\n"
	}
	return frame
}

// heartbeatOf reads a heartbeat: its cursor, and its retry or 0.
func heartbeatOf(t testing.TB, frame string) (cursor int64, retry int) {
	t.Helper()
	m := heartbeatFrame.FindStringSubmatch(frame)
	if m == nil {
		t.Fatalf("got frame %q, want a heartbeat with a cursor", frame)
	}
	cursor, _ = strconv.ParseInt(m[1], 10, 64)
	retry, _ = strconv.Atoi(m[2])
	return cursor, retry
}

var heartbeatFrame = regexp.MustCompile(`^id: (\d+)\nevent: heartbeat\ndata: thump\n(?:retry: (\d+)\n)?\n$`)

// wantEnd checks that nothing follows but the end, in good order.
func (c *client) wantEnd(t testing.TB) {
	t.Helper()
	if frame, ok := await2(t, c.frames, "the end of the stream"); ok {
		t.Fatalf("got frame %q, want the end of the stream", frame)
	}
	if c.rest != "" || c.err != nil {
		t.Fatalf("the stream ended with %q, %v; want its end after a frame", c.rest, c.err)
	}
}

// patience bounds how long a broken test hangs.
const patience = 30 * time.Second

// await waits for what must happen.
func await[T any](t testing.TB, c <-chan T, what string) T {
	t.Helper()
	v, _ := await2(t, c, what)
	return v
}

// await2 waits for a value, or for the end of a channel.
func await2[T any](t testing.TB, c <-chan T, what string) (v T, ok bool) {
	t.Helper()
	select {
	case v, ok = <-c:
	case <-time.After(patience):
		t.Fatalf("waited in vain for %s", what)
	}
	return v, ok
}

// eventually waits for what no signal tells.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

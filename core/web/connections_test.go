package web

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/event-piper/event-piper/core/auth"
)

// guarded answers GET / for a consumer, and blocks those of GET /wait until release is closed.
func guarded(release <-chan struct{}) *http.ServeMux {
	mux := http.NewServeMux()
	authenticate := (&Config{}).Authenticate(auth.Gateway(), func(string) {})
	mux.Handle("GET /", authenticate(http.HandlerFunc(ok)))
	mux.Handle("GET /wait", authenticate(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release })))
	return mux
}

const greeting = "GET / HTTP/1.1\r\nHost: h\r\nX-Consumer-Id: toto\r\n\r\n"

// exchange sends a request and reads the answer, which is nil if the connection was closed instead.
func exchange(t *testing.T, conn net.Conn, request string) *http.Response {
	t.Helper()
	if _, err := io.WriteString(conn, request); err != nil {
		return nil
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal("want an answer or an end, got neither")
	}
	if err != nil {
		return nil
	}
	_, _ = io.Copy(io.Discard, response.Body)
	return response
}

func wantStatus(t *testing.T, what string, response *http.Response, status int) {
	t.Helper()
	got := 0
	if response != nil {
		got = response.StatusCode
	}
	if got != status {
		t.Errorf("%s: want %d, got %d", what, status, got)
	}
}

func TestTheOldestConnectionWithoutARequestMakesRoom(t *testing.T) {
	srv := run(t, Config{MaxConnections: 3}, guarded(nil))
	silent, idle, begun := srv.dial(t), srv.dial(t), srv.dial(t)
	wantStatus(t, "a request", exchange(t, idle, greeting), 200)
	_, _ = io.WriteString(begun, greeting[:5])
	ended := func(name string, conn net.Conn) {
		if n, err := conn.Read(make([]byte, 1)); n > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("want the end of one that has %s, got %v", name, err)
		}
	}
	for round := range 3 {
		wantStatus(t, "one that does not stay", exchange(t, srv.dial(t), strings.Replace(greeting, "Host", "Connection: close\r\nHost", 1)), 200)
		wantStatus(t, "one that stays", exchange(t, srv.dial(t), greeting), 200)
		if round == 0 {
			ended("sent nothing", silent)
		}
	}
	// Which of them was without a request first is for the server to say: the answer is read before it says so.
	ended("been answered", idle)
	ended("sent half a request", begun)
}

func TestWhenAllConnectionsAreBusyNewOnesAreToldSo(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	srv := run(t, Config{MaxConnections: 2, DrainTime: time.Millisecond}, guarded(release))
	for range 2 {
		conn := srv.dial(t)
		_, _ = io.WriteString(conn, strings.Replace(greeting, "/ ", "/wait ", 1))
	}
	busy := func() bool {
		srv.listener.mu.Lock()
		defer srv.listener.mu.Unlock()
		return len(srv.listener.all) == 2 && srv.listener.idle.Len()+srv.listener.silent.Len() == 0
	}
	for deadline := time.Now().Add(20 * time.Second); !busy(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("want both connections busy")
		}
	}
	response := exchange(t, srv.dial(t), greeting)
	wantStatus(t, "one too many", response, 503)
	if response != nil && (response.Header.Get("Retry-After") == "" || !response.Close) {
		t.Errorf("want it told when to come back, and closed, got %v", response.Header)
	}
	// The spare ones have no request, so each makes room for the next.
	for range 2 * spareConnections {
		_ = srv.dial(t)
	}
	wantStatus(t, "one more", exchange(t, srv.dial(t), greeting), 503)
	srv.listener.mu.Lock()
	defer srv.listener.mu.Unlock()
	if n := len(srv.listener.all); n > 2+spareConnections {
		t.Errorf("want at most %d connections, got %d", 2+spareConnections, n)
	}
}

// TestConnectionsThatSaidNothingAreSmall: each took 21 KB.
func TestConnectionsThatSaidNothingAreSmall(t *testing.T) {
	srv := run(t, Config{ReadHeaderTimeout: time.Minute}, guarded(nil))
	before := memory()
	const many = 2000
	for range many {
		_ = srv.dial(t)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		srv.listener.mu.Lock()
		n := srv.listener.silent.Len()
		srv.listener.mu.Unlock()
		if n == many {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("want %d connections, got %d", many, n)
		}
	}
	// Both ends of each are in this process.
	if each := (memory() - before) / many; each > 8<<10 {
		t.Errorf("want at most 8 KB for a connection, got %d bytes", each)
	} else {
		t.Logf("%d bytes for a connection, both ends of it", each)
	}
}

// memory is what this process holds of the heap and of stacks.
func memory() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapInuse + m.StackInuse)
}

func TestSilentConnectionsEnd(t *testing.T) {
	srv := run(t, Config{ReadHeaderTimeout: 20 * time.Millisecond}, guarded(nil))
	if _, err := io.ReadAll(srv.dial(t)); err != nil {
		t.Errorf("want the connection closed by the server, got %v", err)
	}
}

// Many streams over one connection may come from a proxy with many clients, so it is not ended for them.
func TestAnAnswerThatIsGivenUpAtOnceIsSaidToBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, c := range map[string]struct {
			protocol int
			gives    bool // the answer up
			after    time.Duration
			want     any
		}{
			"at once":                 {2, true, 0, true},
			"after a while":           {2, true, soon, nil},
			"not at all":              {2, false, 0, nil},
			"with a whole connection": {1, true, 0, nil},
		} {
			j, log := newJournal()
			ctx, giveUp := context.WithCancel(t.Context())
			h := Handler(Config{}, routes(map[string]http.HandlerFunc{"GET /": func(w http.ResponseWriter, _ *http.Request) {
				_, _ = io.WriteString(w, "first frame")
				time.Sleep(c.after)
				if c.gives {
					giveUp()
				}
			}}), log)
			r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
			r.ProtoMajor = c.protocol
			ask(h, r)
			giveUp()
			if lines, _ := j.find("request"); len(lines) != 1 || lines[0].attrs["abandoned"] != c.want {
				t.Errorf("%s: want one line with abandoned %v, got %+v", name, c.want, lines)
			}
		}
	})
}

func TestRapidResetsEndTheConnection(t *testing.T) {
	began := make(chan struct{})
	mux := routes(map[string]http.HandlerFunc{"GET /": func(_ http.ResponseWriter, r *http.Request) {
		select {
		case began <- struct{}{}:
		case <-r.Context().Done():
		}
		<-r.Context().Done()
	}})
	srv := run(t, Config{}, mux)
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	var dials atomic.Int32
	transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		dials.Add(1)
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}
	for range 50 * resetsPerSecond {
		ctx, giveUp := context.WithCancel(t.Context())
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			select {
			case <-began:
			case <-ctx.Done(): // the connection was closed meanwhile
			}
			giveUp()
		}()
		if response, err := transport.RoundTrip(r); err == nil {
			_ = response.Body.Close()
		}
		giveUp()
		if dials.Load() > 1 {
			return
		}
	}
	t.Error("want the connection closed after so many resets, got one for all")
}

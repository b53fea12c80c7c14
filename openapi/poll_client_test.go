package openapi_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/core/auth"
	"github.com/event-piper/event-piper/core/coretest"
	"github.com/event-piper/event-piper/openapi"
)

// Requests of one connection do not disturb one another, whatever the one before left behind.
func TestConcurrentPolls(t *testing.T) {
	const polls = 50
	var arrived sync.WaitGroup
	arrived.Add(polls)
	s := serve(t, pollerFunc(func(_ context.Context, p core.Poll) (core.Batch, error) {
		if p.After < polls {
			arrived.Done()
			arrived.Wait()
		}
		return core.Batch{Cursor: p.After + 1000}, nil
	}), quiet())
	var done sync.WaitGroup
	for i := range polls {
		done.Go(func() {
			for _, after := range []int{i, i + polls} {
				a := ask(t, s, http.MethodGet, fmt.Sprintf("/events/poll?after=%d", after))
				if want := fmt.Sprintf(`{"events":[],"cursor":%d,"more":false}`, after+1000); a.body != want {
					t.Errorf("after %d the body is %s, want %s", after, a.body, want)
				}
			}
			ask(t, s, http.MethodGet, "/openapi.json")
		})
	}
	done.Wait()
}

// looking is a client that looks at the hub whenever something is written to it.
type looking struct {
	*httptest.ResponseRecorder
	look func() int
	seen []int
}

func (w *looking) Write(b []byte) (int, error) {
	w.seen = append(w.seen, w.look())
	return w.ResponseRecorder.Write(b)
}

// pollLooking has a client that looks poll an event.
func pollLooking(t *testing.T, payload string, look func(*core.Hub) int, header http.Header) *looking {
	store := coretest.NewStore()
	hub := coretest.RunHub(t, store)
	mux := http.NewServeMux()
	openapi.Register(mux, openapi.Config{Poller: hub, Authenticate: auth.Middleware(auth.Gateway(), nil), Log: quiet()})
	store.Insert("toto", "insert", payload)
	w := &looking{ResponseRecorder: httptest.NewRecorder(), look: func() int { return look(hub) }}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/events/poll?after=0", nil)
	r.Header = header
	r.Header.Set(auth.ConsumerHeader, "toto")
	mux.ServeHTTP(w, r)
	return w
}

// Clients that take long to receive their answers are limited like others, and who asks again is not too soon.
func TestAnAnswerIsASessionUntilItsLastByte(t *testing.T) {
	w := pollLooking(t, `{}`, (*core.Hub).Sessions, http.Header{})
	if !slices.Equal(w.seen, []int{1, 0}) || w.Code != http.StatusOK || w.Body.Len() == 0 {
		t.Errorf("status %d, %q, with %d sessions at each write; want 200 with 1 and 0 sessions", w.Code, w.Body, w.seen)
	}
}

// What compresses takes a megabyte, and what was compressed is still there: neither may wait for a client that reads slowly.
func TestOnlyTheCompressedAnswerWaitsForItsClient(t *testing.T) {
	held := func(hub *core.Hub) int { return hub.Stats().BufferBytes }
	w := pollLooking(t, `"`+strings.Repeat("x", 100_000)+`"`, held, http.Header{"Accept-Encoding": {"gzip"}})
	if len(w.seen) == 0 || w.seen[0] < w.Body.Len() || w.seen[0] > 10_000 {
		t.Errorf("%d bytes are held while %d are written, want the compressed answer's", w.seen, w.Body.Len())
	}
}

// net/http cannot tell a client that has left from one that has only closed its half of the connection, as `nc -N` does.
// So both are answered at once, with what there is.
func TestAClientThatClosesItsHalfIsAnswered(t *testing.T) {
	for name, request := range map[string]string{"at once": "?after=0&wait=0", "waiting": "?after=0&wait=300"} {
		t.Run(name, func(t *testing.T) {
			polls := make(chan core.Poll, 2)
			s := serve(t, pollerFunc(func(ctx context.Context, p core.Poll) (core.Batch, error) {
				if polls <- p; len(polls) == 1 {
					<-ctx.Done()
					return core.Batch{}, ctx.Err()
				}
				return core.Batch{Cursor: 6}, ctx.Err()
			}), quiet())
			conn, err := net.Dial("tcp", s.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			_, _ = fmt.Fprintf(conn, "GET /events/poll%s HTTP/1.1\r\nHost: x\r\nX-Consumer-Id: toto\r\n\r\n", request)
			if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			answer, err := io.ReadAll(conn)
			if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 200 OK\r\n") || !strings.HasSuffix(string(answer), `"cursor":6,"more":false}`) {
				t.Errorf("answered with %q (%v), want 200 and cursor 6", answer, err)
			}
			<-polls
			if p := <-polls; p.Wait != 0 || p.After != 0 {
				t.Errorf("asked for %+v, want it without a wait", p)
			}
		})
	}
}

func TestClientGoesAway(t *testing.T) {
	var log bytes.Buffer
	waiting, ended := make(chan struct{}, 2), make(chan error, 2)
	s := serve(t, pollerFunc(func(ctx context.Context, p core.Poll) (core.Batch, error) {
		if waiting <- struct{}{}; p.Wait > 0 {
			<-ctx.Done()
		}
		ended <- ctx.Err()
		return core.Batch{}, ctx.Err()
	}), slog.New(slog.NewTextHandler(&log, nil)))

	ctx, leave := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/events/poll", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set(auth.ConsumerHeader, "toto")
	go func() { <-waiting; leave() }()
	if _, err := s.Client().Do(r); !errors.Is(err, context.Canceled) {
		t.Fatalf("the request ended with %v, want %v", err, context.Canceled)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the poll ended with %v, want %v", err, context.Canceled)
	}
	s.Close() // waits for the handler
	if log.Len() > 0 {
		t.Errorf("a client that leaves is logged: %s", log.String())
	}
}

// A database that does not answer must not keep a client who does not want to wait.
func TestAPollEndsSoonAfterItsWait(t *testing.T) {
	for _, wait := range []time.Duration{0, 7 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			mux := http.NewServeMux()
			openapi.Register(mux, openapi.Config{
				Poller: pollerFunc(func(ctx context.Context, _ core.Poll) (core.Batch, error) {
					<-ctx.Done()
					return core.Batch{}, ctx.Err()
				}),
				Authenticate: auth.Middleware(auth.Gateway(), nil), Log: quiet(),
			})
			start := time.Now()
			w := httptest.NewRecorder()
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("/events/poll?wait=%.0f", wait.Seconds()), nil)
			r.Header.Set(auth.ConsumerHeader, "toto")
			mux.ServeHTTP(w, r)
			if took := time.Since(start); took < wait || took > wait+5*time.Second {
				t.Errorf("a poll with wait=%v took %v, want at most 5s longer", wait, took)
			}
			if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
				t.Errorf("status %d with Retry-After %q, want 503 with one", w.Code, w.Header().Get("Retry-After"))
			}
		})
	}
}

func TestLargeAnswersAreCompressed(t *testing.T) {
	var events []*core.Event
	for id := range int64(1000) {
		events = append(events, &core.Event{ID: id + 1, Type: "insert", Payload: []byte(`{"foo":"bar"}`)})
	}
	for _, c := range []struct {
		events  int
		accept  string
		gzipped bool
	}{
		{1000, "gzip", true},
		{1000, "br;q=1.0, gzip;q=0.8, *;q=0.1", true},
		{1000, "GZip, identity;q=0.5", true},
		{1000, "gzip;q=0", false},
		{1000, "br, gzip; q=0.000", false},
		{1000, "identity", false},
		{1000, "zstd, br", false},
		{3, "gzip", false}, // less than 1 KiB
		{0, "gzip", false},
	} {
		s := serve(t, always(core.Batch{Events: events[:c.events], Cursor: 1000}, nil), quiet())
		a := ask(t, s, http.MethodGet, "/events/poll", "Accept-Encoding", c.accept, "Prefer", "wait=1")
		if got := a.Header.Get("Content-Encoding") == "gzip"; got != c.gzipped {
			t.Errorf("%d events for %q: compressed %t, want %t", c.events, c.accept, got, c.gzipped)
		}
		if got := strings.Join(a.Header.Values("Vary"), ", "); got != "Accept, Accept-Encoding" {
			t.Errorf("%d events for %q: Vary is %q, want Accept, Accept-Encoding", c.events, c.accept, got)
		}
		if a.Header.Get("ETag") != "" || a.Header.Get("Content-Type") != "application/json" || a.Header.Get("Preference-Applied") != "wait=1" {
			t.Errorf("%d events for %q: got headers %v", c.events, c.accept, a.Header)
		}
		body := io.Reader(strings.NewReader(a.body))
		if c.gzipped {
			if len(a.body) > 20_000 {
				t.Errorf("1,000 events take %d bytes compressed, want a tenth of that without", len(a.body))
			}
			var err error
			if body, err = gzip.NewReader(body); err != nil {
				t.Fatal(err)
			}
		} else if got := a.Header.Get("Content-Length"); got != strconv.Itoa(len(a.body)) {
			t.Errorf("%d events for %q: Content-Length is %q, want %d", c.events, c.accept, got, len(a.body))
		}
		var answer struct{ Events []struct{ ID int64 } }
		if err := json.NewDecoder(body).Decode(&answer); err != nil || len(answer.Events) != c.events {
			t.Errorf("%d events for %q: read %d of them (%v)", c.events, c.accept, len(answer.Events), err)
		}
	}
}

// A service that is told to stop at once still answers those who wait.
func TestServiceStops(t *testing.T) {
	ctx, stop := context.WithCancelCause(t.Context())
	stop(errors.New("received SIGTERM"))
	mux := http.NewServeMux()
	openapi.Register(mux, openapi.Config{
		Poller: always(core.Batch{}, context.Canceled), Authenticate: auth.Middleware(auth.Gateway(), nil), Log: quiet(),
	})
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/events/poll", nil)
	r.Header.Set(auth.ConsumerHeader, "toto")
	mux.ServeHTTP(w, r)
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("status %d with Retry-After %q, want 503 with one", w.Code, w.Header().Get("Retry-After"))
	}
}

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
	"reflect"
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
	"github.com/event-piper/event-piper/core/problem"
	"github.com/event-piper/event-piper/openapi"
)

func TestPollParameters(t *testing.T) {
	type header []string
	// asked returns the poll of the consumer toto that differs from the default as change says.
	asked := func(change func(*core.Poll)) core.Poll {
		p := core.Poll{Consumer: "toto", After: core.FromNow, Limit: 100, Wait: 25 * time.Second}
		change(&p)
		return p
	}
	seconds := func(n int) core.Poll {
		return asked(func(p *core.Poll) { p.Wait = time.Duration(n) * time.Second })
	}
	after := func(n int64) core.Poll { return asked(func(p *core.Poll) { p.After = n }) }
	limit := func(n int) core.Poll { return asked(func(p *core.Poll) { p.Limit = n }) }
	types := func(names ...string) core.Poll { return asked(func(p *core.Poll) { p.Types = names }) }

	for _, c := range []struct {
		query   string
		header  header
		want    core.Poll
		applied string
	}{
		{"", nil, seconds(25), ""},
		{"after=0", nil, after(0), ""},
		{"after=5", nil, after(5), ""},
		{"after=281474976710655", nil, after(core.MaxID), ""},
		{"after=99999999999999999999", nil, after(core.MaxID), ""},
		{"after=", nil, after(core.FromNow), ""},
		{"after=5", header{"Last-Event-ID", "7"}, after(5), ""},
		{"wait=0", nil, seconds(0), ""},
		{"wait=300", nil, seconds(300), ""},
		{"wait=", nil, seconds(25), ""},
		{"limit=1", nil, limit(1), ""},
		{"limit=1000", nil, limit(1000), ""},
		{"types=a", nil, types("a"), ""},
		{"types=a,b", nil, types("a", "b"), ""},
		{"types=a&types=b", nil, types("a", "b"), ""},
		{"types=a,b&types=c", nil, types("a", "b", "c"), ""},
		{"types=&types=b", nil, types("b"), ""},
		{"types=+a,+b+", nil, types("a", "b"), ""},
		{"types=order%20created,%C3%A9", nil, types("order created", "é"), ""},
		{"types=", nil, types(), ""},
		{"", header{"Prefer", "wait=10"}, seconds(10), "wait=10"},
		{"", header{"Prefer", "wait=0"}, seconds(0), "wait=0"},
		{"", header{"Prefer", "wait=1000"}, seconds(300), "wait=300"},
		{"", header{"Prefer", `respond-async, WAIT = "7"; x=y`}, seconds(7), "wait=7"},
		{"", header{"Prefer", "respond-async", "Prefer", "wait=8, wait=9"}, seconds(8), "wait=8"},
		{"", header{"Prefer", "wait=soon"}, seconds(25), ""},
		{"", header{"Prefer", "wait=-1"}, seconds(25), ""},
		{"", header{"Prefer", "wait"}, seconds(25), ""},
		{"", header{"Prefer", "waiting=3"}, seconds(25), ""},
		{"wait=3", header{"Prefer", "wait=10"}, seconds(3), ""},
		{"wait=0", header{"Prefer", "wait=10"}, seconds(0), ""},
	} {
		t.Run(c.query+strings.Join(c.header, " "), func(t *testing.T) {
			var got core.Poll
			s := serve(t, pollerFunc(func(_ context.Context, p core.Poll) (core.Batch, error) {
				got = p
				return core.Batch{}, nil
			}), quiet())
			a := ask(t, s, http.MethodGet, "/events/poll?"+c.query, c.header...)
			if a.StatusCode != http.StatusOK {
				t.Fatalf("status %d: %s", a.StatusCode, a.body)
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("asked for %+v, want %+v", got, c.want)
			}
			if applied := a.Header.Get("Preference-Applied"); applied != c.applied {
				t.Errorf("Preference-Applied is %q, want %q", applied, c.applied)
			}
		})
	}
}

func TestWrongParameters(t *testing.T) {
	s := serve(t, pollerFunc(func(context.Context, core.Poll) (core.Batch, error) {
		t.Error("a wrong poll was asked for")
		return core.Batch{}, nil
	}), quiet())
	for _, c := range []struct {
		query     string
		locations []string
	}{
		{"after=-1", []string{"query.after"}},
		{"after=%2B5", []string{"query.after"}},
		{"after=5.0", []string{"query.after"}},
		{"after=0x5", []string{"query.after"}},
		{"after=%205", []string{"query.after"}},
		{"after=x", []string{"query.after"}},
		{"after=null", []string{"query.after"}},
		{"after=5&after=6", []string{"query.after"}},
		{"after=&after=6", []string{"query.after"}},
		{"after=5%zz", []string{"query"}},
		{"after=5;wait=0", []string{"query"}},
		{"wait=-1", []string{"query.wait"}},
		{"wait=301", []string{"query.wait"}},
		{"wait=2.5", []string{"query.wait"}},
		{"wait=10s", []string{"query.wait"}},
		{"wait=99999999999999999999", []string{"query.wait"}},
		{"wait=1&wait=2", []string{"query.wait"}},
		{"limit=0", []string{"query.limit"}},
		{"limit=1001", []string{"query.limit"}},
		{"limit=-1", []string{"query.limit"}},
		{"limit=ten", []string{"query.limit"}},
		{"limit=1&limit=2", []string{"query.limit"}},
		{"types=a,,b", []string{"query.types"}},
		{"types=a%0Ab", []string{"query.types"}},
		{"types=%ff", []string{"query.types"}},
		{"types=" + strings.Repeat("x", core.MaxNameLength+1), []string{"query.types"}},
		{"types=" + strings.Repeat("x,", core.MaxTypes) + "x", []string{"query.types"}},
		{"aftr=5", []string{"query.aftr"}},
		{"After=5", []string{"query.After"}},
		{"lastEventId=5", []string{"query.lastEventId"}},
		{"after=x&wait=999&limit=0", []string{"query.after", "query.limit", "query.wait"}},
	} {
		t.Run(c.query, func(t *testing.T) {
			p := wantProblem(t, ask(t, s, http.MethodGet, "/events/poll?"+c.query), http.StatusUnprocessableEntity)
			var locations []string
			for _, e := range p.Errors {
				locations = append(locations, e.Location)
				if e.Message == "" {
					t.Errorf("nothing is said about %s", e.Location)
				}
			}
			slices.Sort(locations)
			if !reflect.DeepEqual(locations, c.locations) {
				t.Errorf("errors are about %q, want %q", locations, c.locations)
			}
		})
	}
}

// wantProblem checks what all problems have in common.
func wantProblem(t *testing.T, a answer, status int) openapi.Problem {
	t.Helper()
	if a.StatusCode != status {
		t.Errorf("status %d, want %d", a.StatusCode, status)
	}
	if got := a.Header.Get("Content-Type"); got != problem.ContentType {
		t.Errorf("Content-Type is %q, want %q", got, problem.ContentType)
	}
	if got := a.Header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control is %q, want no-store", got)
	}
	var p openapi.Problem
	d := json.NewDecoder(strings.NewReader(a.body))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		t.Fatalf("the body is not a problem: %v\n%s", err, a.body)
	}
	if p.Status != status || p.Title != http.StatusText(status) {
		t.Errorf("the problem is %d %q, want %d %q", p.Status, p.Title, status, http.StatusText(status))
	}
	return p
}

func TestErrorsOfTheDomain(t *testing.T) {
	cause := errors.New(`pq: relation "events" does not exist`)
	for _, c := range []struct {
		name   string
		err    error
		status int
		body   string
		retry  bool
		logged bool
	}{
		{
			name: "pruned", err: fmt.Errorf("wrapped: %w", &core.ResetError{Reason: core.Pruned, Oldest: 40, Newest: 60}),
			status: 410, body: `"reason":"pruned","oldest":40,"newest":60}`,
		},
		{
			name: "ahead of nothing", err: &core.ResetError{Reason: core.Ahead},
			status: 410, body: `"reason":"ahead","oldest":0,"newest":0}`,
		},
		{
			name: "unavailable", err: errors.Join(core.ErrUnavailable, cause),
			status: 503, body: `"detail":"events cannot be read right now"}`, retry: true,
		},
		{
			name: "too many sessions", err: fmt.Errorf("open: %w", core.ErrTooManySessions),
			status: 503, body: `"detail":"too many sessions"}`, retry: true,
		},
		{
			name: "too many sessions of a consumer", err: core.ErrTooManySessionsOfConsumer,
			status: 429, body: `"detail":"too many sessions of this consumer"}`, retry: true,
		},
		{
			name: "anything else", err: cause,
			status: 500, body: `{"title":"Internal Server Error","status":500}`, logged: true,
		},
		{
			name: "a cancellation that is not the client's", err: context.Canceled,
			status: 500, body: `{"title":"Internal Server Error","status":500}`, logged: true,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log bytes.Buffer
			s := serve(t, always(core.Batch{}, c.err), slog.New(slog.NewTextHandler(&log, nil)))
			a := ask(t, s, http.MethodGet, "/events/poll")
			s.Close()
			wantProblem(t, a, c.status)
			if !strings.Contains(a.body, c.body) || strings.Contains(a.body, "relation") {
				t.Errorf("the body is %s, want … %s", a.body, c.body)
			}
			seconds, err := strconv.Atoi(a.Header.Get("Retry-After"))
			if c.retry && (err != nil || seconds < 1) || !c.retry && a.Header.Get("Retry-After") != "" {
				t.Errorf("Retry-After is %q, want a number of seconds: %t", a.Header.Get("Retry-After"), c.retry)
			}
			if logged := log.Len() > 0; logged != c.logged {
				t.Errorf("the log is %q, want the cause in it: %t", log.String(), c.logged)
			}
		})
	}
}

func TestWhoIsAsking(t *testing.T) {
	s := serve(t, always(core.Batch{}, nil), quiet())
	a := ask(t, s, http.MethodGet, "/events/poll", auth.ConsumerHeader, "titi")
	wantProblem(t, a, http.StatusBadRequest)

	response, err := s.Client().Get(s.URL + "/events/poll")
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusUnauthorized {
		t.Errorf("without a consumer the status is %d, want 401", response.StatusCode)
	}

	// A mistake in the wiring must not deliver the events of nobody.
	mux := http.NewServeMux()
	openapi.Register(mux, openapi.Config{
		Poller: always(core.Batch{}, nil), Authenticate: func(h http.Handler) http.Handler { return h }, Log: quiet(),
	})
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/events/poll", nil))
	if w.Code != http.StatusUnauthorized {
		t.Errorf("without an identity the status is %d, want 401", w.Code)
	}
}

// A poll must not outlive the token that allowed it.
func TestWaitEndsWithTheToken(t *testing.T) {
	for _, c := range []struct {
		left        time.Duration
		least, most time.Duration
	}{
		{time.Hour, 25 * time.Second, 25 * time.Second},
		{20 * time.Second, time.Second, 20 * time.Second},
		{-time.Second, 0, 0},
	} {
		var got core.Poll
		mux := http.NewServeMux()
		openapi.Register(mux, openapi.Config{
			Poller: pollerFunc(func(_ context.Context, p core.Poll) (core.Batch, error) {
				got = p
				return core.Batch{}, nil
			}),
			Authenticate: func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					id := auth.Identity{Consumer: "toto", Expires: time.Now().Add(c.left)}
					next.ServeHTTP(w, r.WithContext(auth.NewContext(r.Context(), id)))
				})
			},
			Log: quiet(),
		})
		mux.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/events/poll", nil))
		if got.Wait < c.least || got.Wait > c.most {
			t.Errorf("a poll waits %v with %v left of the token, want %v to %v", got.Wait, c.left, c.least, c.most)
		}
	}
}

func TestBatchIsExact(t *testing.T) {
	at := time.Date(2026, 3, 1, 13, 0, 0, 123_456_000, time.FixedZone("CET", 3600))
	event := func(id int64, typ, payload string) *core.Event {
		return &core.Event{ID: id, Type: typ, Timestamp: at, Consumer: "toto", Payload: []byte(payload)}
	}
	const stamp = `"timestamp":"2026-03-01T12:00:00.123456Z"`
	nested := strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000)
	for _, c := range []struct {
		name  string
		batch core.Batch
		want  string
	}{
		{"none", core.Batch{Cursor: 6}, `{"events":[],"cursor":6,"more":false}`},
		{
			"two and more", core.Batch{Events: []*core.Event{event(5, "a", `1`), event(6, "insert", `{"foo":"bar"}`)}, Cursor: 9, More: true},
			`{"events":[{"id":5,"type":"a",` + stamp + `,"subscriber":"toto","payload":1},{"id":6,"type":"insert",` + stamp + `,"subscriber":"toto","payload":{"foo":"bar"}}],"cursor":9,"more":true}`,
		},
		{
			"a type with quotes", core.Batch{Events: []*core.Event{event(core.MaxID, `a"b\`, `null`)}, Cursor: core.MaxID},
			`{"events":[{"id":281474976710655,"type":"a\"b\\",` + stamp + `,"subscriber":"toto","payload":null}],"cursor":281474976710655,"more":false}`,
		},
		{
			"deeply nested", core.Batch{Events: []*core.Event{event(1, "a", nested)}, Cursor: 1},
			`{"events":[{"id":1,"type":"a",` + stamp + `,"subscriber":"toto","payload":` + nested + `}],"cursor":1,"more":false}`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := ask(t, serve(t, always(c.batch, nil), quiet()), http.MethodGet, "/events/poll", "Accept-Encoding", "identity")
			if a.body != c.want {
				t.Errorf("the body is %.500s\nwant %.500s", a.body, c.want)
			}
			for name, want := range map[string]string{
				"Content-Type": "application/json", "Cache-Control": "no-store", "Content-Length": strconv.Itoa(len(c.want)),
			} {
				if got := a.Header.Get(name); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
		})
	}
}

func TestPayloadIsExact(t *testing.T) {
	for _, payload := range []string{
		`"<script>&amp;</script>"`,
		"\"line\u2028paragraph\u2029\"",
		`"\u2028\u003c\u0000\ud83d\ude00\/"`,
		"\"\x7f é 😀\"",
		`[1e400,-0,0.1000,1E+2,9007199254740993,123456789012345678901234567890]`,
		`{"b":1,"a":2,"b":3,"":null}`,
		`"\ud800"`,
		`false`,
	} {
		b := core.Batch{Events: []*core.Event{{ID: 1, Type: "a", Payload: []byte(payload)}}, Cursor: 1}
		a := ask(t, serve(t, always(b, nil), quiet()), http.MethodGet, "/events/poll")
		if !json.Valid([]byte(a.body)) {
			t.Errorf("the body is not JSON: %s", a.body)
		}
		if want := `"payload":` + payload + `}],"cursor"`; !strings.Contains(a.body, want) {
			t.Errorf("the body is %s, want … %s …", a.body, want)
		}
	}
}

// HEAD has the headers of an answer and does not wait for the events nobody will see.
func TestHead(t *testing.T) {
	s := serve(t, pollerFunc(func(_ context.Context, p core.Poll) (core.Batch, error) {
		if p.Wait != 0 {
			t.Errorf("HEAD waits %v, want it not to", p.Wait)
		}
		return core.Batch{Cursor: 6}, nil
	}), quiet())
	a := ask(t, s, http.MethodHead, "/events/poll?wait=30")
	if a.StatusCode != http.StatusOK || a.body != "" || a.ContentLength == 0 {
		t.Errorf("HEAD answers %d, %d bytes of %d; want 200 and none of them", a.StatusCode, len(a.body), a.ContentLength)
	}
}

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

// sessionsSeen notes how many sessions are open whenever something is written.
type sessionsSeen struct {
	*httptest.ResponseRecorder
	hub  *core.Hub
	seen []int
}

func (w *sessionsSeen) Write(b []byte) (int, error) {
	w.seen = append(w.seen, w.hub.Sessions())
	return w.ResponseRecorder.Write(b)
}

// Clients that take long to receive their answers are limited like others, and who asks again is not too soon.
func TestAnAnswerIsASessionUntilItsLastByte(t *testing.T) {
	store := coretest.NewStore()
	hub := coretest.RunHub(t, store)
	mux := http.NewServeMux()
	openapi.Register(mux, openapi.Config{Poller: hub, Authenticate: auth.Middleware(auth.Gateway(), nil), Log: quiet()})
	store.Insert("toto", "insert", `{}`)
	w := &sessionsSeen{ResponseRecorder: httptest.NewRecorder(), hub: hub}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/events/poll?after=0", nil)
	r.Header.Set(auth.ConsumerHeader, "toto")
	mux.ServeHTTP(w, r)
	if !slices.Equal(w.seen, []int{1, 0}) || w.Code != http.StatusOK || w.Body.Len() == 0 {
		t.Errorf("status %d, %q, with %d sessions at each write; want 200 with 1 and 0 sessions", w.Code, w.Body, w.seen)
	}
}

// heldSeen notes how much waits for clients whenever something is written.
type heldSeen struct {
	*httptest.ResponseRecorder
	hub  *core.Hub
	seen []int
}

func (w *heldSeen) Write(b []byte) (int, error) {
	w.seen = append(w.seen, w.hub.Stats().BufferBytes)
	return w.ResponseRecorder.Write(b)
}

// What compresses takes a megabyte, and what was compressed is still there: neither may wait for a client that reads slowly.
func TestOnlyTheCompressedAnswerWaitsForItsClient(t *testing.T) {
	store := coretest.NewStore()
	hub := coretest.RunHub(t, store)
	mux := http.NewServeMux()
	openapi.Register(mux, openapi.Config{Poller: hub, Authenticate: auth.Middleware(auth.Gateway(), nil), Log: quiet()})
	store.Insert("toto", "insert", `"`+strings.Repeat("x", 100_000)+`"`)
	w := &heldSeen{ResponseRecorder: httptest.NewRecorder(), hub: hub}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/events/poll?after=0", nil)
	r.Header.Set(auth.ConsumerHeader, "toto")
	r.Header.Set("Accept-Encoding", "gzip")
	mux.ServeHTTP(w, r)
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
		{1000, "gzip;q=0", false},
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

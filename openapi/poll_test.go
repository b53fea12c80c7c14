package openapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/core/auth"
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

// What an answer varies by for CORS is said before it comes here.
func TestAnswersAddToWhatTheyVaryBy(t *testing.T) {
	s := serve(t, always(core.Batch{Cursor: 6}, nil), quiet())
	w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/events/poll", nil)
	w.Header().Set("Vary", "Origin")
	r.Header.Set(auth.ConsumerHeader, "toto")
	s.Config.Handler.ServeHTTP(w, r)
	if got, want := w.Header().Values("Vary"), []string{"Origin", "Accept", "Accept-Encoding"}; !slices.Equal(got, want) {
		t.Errorf("the answer varies by %q, want %q", got, want)
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

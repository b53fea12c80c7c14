package web

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/event-piper/event-piper/core/problem"
)

// wantProblem checks that an answer is a problem of the status, with nothing else in it.
func wantProblem(t *testing.T, resp *http.Response, status int) {
	t.Helper()
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != status {
		t.Errorf("status: want %d, got %d", status, resp.StatusCode)
	}
	if got := resp.Header.Get("Content-Type"); got != problem.ContentType {
		t.Errorf("content type: want %s, got %s", problem.ContentType, got)
	}
	var p problem.Problem
	if err := json.Unmarshal(body, &p); err != nil || p.Status != status || p.Title == "" {
		t.Errorf("body: want a problem of status %d, got %q (%v)", status, body, err)
	}
}

func TestAPanicIsLoggedAndHidden(t *testing.T) {
	j, log := newJournal()
	h := Handler(Config{}, routes(map[string]http.HandlerFunc{
		"/": func(http.ResponseWriter, *http.Request) { panic("the secret cause") },
	}), log)
	w := ask(h, httptest.NewRequest("GET", "/", nil))
	if strings.Contains(w.Body.String(), "secret") {
		t.Errorf("want no cause in the answer, got %s", w.Body)
	}
	wantProblem(t, w.Result(), 500)
	l := j.wait(t, "panic in a handler")
	if l.attrs["panic"] != "the secret cause" || !strings.Contains(l.attrs["stack"].(string), "TestAPanicIsLogged") {
		t.Errorf("want the cause and the stack in the log, got %v", l)
	}
	if l := j.wait(t, "request"); l.attrs["status"] != int64(500) {
		t.Errorf("want an access line of status 500, got %v", l)
	}
}

func TestAPanicInTheMiddleOfAnAnswerAbortsIt(t *testing.T) {
	for name, v := range map[string]any{"panic": "cause", "abort": http.ErrAbortHandler} {
		t.Run(name, func(t *testing.T) {
			srv := run(t, Config{}, routes(map[string]http.HandlerFunc{
				"/": func(w http.ResponseWriter, _ *http.Request) {
					_, _ = io.WriteString(w, "half")
					_ = http.NewResponseController(w).Flush()
					panic(v)
				},
			}))
			resp, err := http.Get(srv.url)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if body, err := io.ReadAll(resp.Body); err == nil {
				t.Errorf("want the client to notice, got %q without an error", body)
			}
			srv.journal.wait(t, "request")
			if lines, _ := srv.journal.find("panic in a handler"); len(lines) == 1 != (name == "panic") {
				t.Errorf("want only a panic of its own logged, got %v", lines)
			}
		})
	}
}

func TestWhatNoRouteAnswersIsAProblem(t *testing.T) {
	_, log := newJournal()
	h := Handler(Config{}, routes(map[string]http.HandlerFunc{
		"GET /events": ok,
		"GET /own": func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "a route's own", http.StatusNotFound)
		},
		"GET /dir/": ok,
	}), log)
	tests := map[string]struct {
		method, path string
		want         int
		allow        string
	}{
		"not found":        {"GET", "/nothing", 404, ""},
		"not found, HEAD":  {"HEAD", "/nothing", 404, ""},
		"method":           {"POST", "/events", 405, "GET, HEAD"},
		"OPTIONS, no CORS": {"OPTIONS", "/events", 405, "GET, HEAD"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			resp := ask(h, httptest.NewRequest(tt.method, tt.path, nil)).Result()
			wantProblem(t, resp, tt.want)
			if got := resp.Header.Get("Allow"); got != tt.allow {
				t.Errorf("Allow: want %q, got %q", tt.allow, got)
			}
		})
	}
	t.Run("a route's own 404 is left alone", func(t *testing.T) {
		if w := ask(h, httptest.NewRequest("GET", "/own", nil)); w.Body.String() != "a route's own\n" || w.Code != 404 {
			t.Errorf("got %d %q", w.Code, w.Body)
		}
	})
	t.Run("so is a redirect", func(t *testing.T) {
		for _, path := range []string{"/dir", "//events", "/x/../nothing"} {
			w := ask(h, httptest.NewRequest("GET", "http://host"+path, nil))
			if w.Code != http.StatusTemporaryRedirect || w.Header().Get("Location") == "" {
				t.Errorf("%s: want a redirect, got %d", path, w.Code)
			}
		}
	})
}

func TestLongURLsAreRefused(t *testing.T) {
	_, log := newJournal()
	h := Handler(Config{MaxURLBytes: 100}, routes(map[string]http.HandlerFunc{"/": ok}), log)
	wantProblem(t, ask(h, httptest.NewRequest("GET", "/"+strings.Repeat("a", 100), nil)).Result(), 414)
	if w := ask(h, httptest.NewRequest("GET", "/"+strings.Repeat("a", 99), nil)); w.Code != 200 {
		t.Errorf("at the limit: want 200, got %d", w.Code)
	}
}

func TestLargeHeadersAreRefused(t *testing.T) {
	srv := run(t, Config{MaxHeaderBytes: 1024}, routes(map[string]http.HandlerFunc{"/": ok}))
	r, _ := http.NewRequest("GET", srv.url, nil)
	r.Header.Set("X-Large", strings.Repeat("a", 16<<10))
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 431 {
		t.Errorf("want 431, got %d", resp.StatusCode)
	}
}

func TestABodyCannotHoldUpTheAnswer(t *testing.T) {
	tests := map[string]struct {
		request string
		want    int
	}{
		"never sent":     {"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n", 408},
		"sent":           {"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n12345", 200},
		"too large":      {"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 70000\r\n\r\n" + strings.Repeat("a", 70000), 413},
		"another method": {"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}", 405},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := Config{ReadHeaderTimeout: time.Minute}
			if tt.want == 408 {
				c.ReadHeaderTimeout = 50 * time.Millisecond
			}
			conn := run(t, c, routes(map[string]http.HandlerFunc{"GET /": ok})).dial(t)
			_, _ = io.WriteString(conn, tt.request)
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != tt.want {
				t.Errorf("want %d, got %d", tt.want, resp.StatusCode)
			}
		})
	}
}

func TestSlowHeadersAreCutOff(t *testing.T) {
	srv := run(t, Config{ReadHeaderTimeout: 20 * time.Millisecond}, routes(map[string]http.HandlerFunc{"/": ok}))
	conn := srv.dial(t)
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: h\r\nX-Slow: ")
	if answer, err := io.ReadAll(conn); err != nil || strings.Contains(string(answer), " 200 ") {
		t.Errorf("want the connection closed by the server, got %q, %v", answer, err)
	}
}

func TestCORS(t *testing.T) {
	const app = "https://app.example"
	tests := map[string]struct {
		origins                  []string
		origin                   string
		wantOrigin, wantWithCred string
	}{
		"none configured": {nil, app, "", ""},
		"listed":          {[]string{"https://b.example", app}, app, app, "true"},
		"not listed":      {[]string{app}, "https://evil.example", "", ""},
		"a suffix":        {[]string{app}, app + ".evil.example", "", ""},
		"null":            {[]string{app}, "null", "", ""},
		"every":           {[]string{"*"}, app, "*", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, log := newJournal()
			h := Handler(Config{CORSOrigins: tt.origins}, routes(map[string]http.HandlerFunc{"GET /events": ok}), log)
			preflight := httptest.NewRequest("OPTIONS", "/events", nil)
			preflight.Header.Set("Access-Control-Request-Method", "GET")
			preflight.Header.Set("Access-Control-Request-Headers", "accept,authorization,cache-control,last-event-id,prefer,traceparent,x-consumer-id")
			simple := httptest.NewRequest("GET", "/events", nil)
			missing := httptest.NewRequest("GET", "/missing", nil)
			for _, r := range []*http.Request{preflight, simple, missing} {
				r.Header.Set("Origin", tt.origin)
				got := ask(h, r).Header()
				if o, c := got.Get("Access-Control-Allow-Origin"), got.Get("Access-Control-Allow-Credentials"); o != tt.wantOrigin || c != tt.wantWithCred {
					t.Errorf("%s %s: want origin %q and credentials %q, got %q and %q", r.Method, r.URL, tt.wantOrigin, tt.wantWithCred, o, c)
				}
				if r.Method == "OPTIONS" && tt.wantOrigin != "" && got.Get("Access-Control-Allow-Headers") == "" {
					t.Errorf("want the headers allowed, got %v", got)
				}
				if exposed := got.Get("Access-Control-Expose-Headers"); r == simple && tt.wantOrigin != "" && exposed != "Preference-Applied, Retry-After, Www-Authenticate, X-Cursor, X-More, X-Request-Id" {
					t.Errorf("exposed headers: got %q", exposed)
				}
			}
			if tt.origins != nil {
				if code := ask(h, preflight).Code; code != 204 {
					t.Errorf("preflight: want 204, got %d", code)
				}
				if vary := ask(h, simple).Header().Values("Vary"); !slices.Contains(vary, "Origin") {
					t.Errorf("want Vary: Origin, got %v", vary)
				}
			}
		})
	}
}

func TestLimiter(t *testing.T) {
	_, log := newJournal()
	l := NewLimiter(2)
	reported := 0
	mux := http.NewServeMux()
	who := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			AccessFrom(r.Context()).Consumer = r.Header.Get("X-Consumer-Id")
			next.ServeHTTP(w, r)
		})
	}
	mux.Handle("/", who(l.Handler(http.HandlerFunc(ok), func() { reported++ })))
	h := Handler(Config{}, mux, log)
	as := func(consumer string) *http.Response {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("X-Consumer-Id", consumer)
		return ask(h, r).Result()
	}

	// More than one request is refused even on a machine so slow that tokens come back meanwhile.
	var refused *http.Response
	for range 1000 {
		if resp := as("a"); resp.StatusCode != 200 {
			refused = resp
			break
		}
	}
	if refused == nil {
		t.Fatal("want a request of the consumer refused, got all answered")
	}
	if reported != 1 {
		t.Errorf("want one refusal reported, got %d", reported)
	}
	wantProblem(t, refused, 429)
	if refused.Header.Get("Retry-After") == "" {
		t.Error("want Retry-After")
	}
	for _, other := range []string{"b", ""} {
		if got := as(other).StatusCode; got != 200 {
			t.Errorf("consumer %q: want 200, got %d", other, got)
		}
	}
	for i := range 3 * maxConsumers {
		l.Allow(fmt.Sprint(i))
	}
	if n := len(l.young) + len(l.old); n > 2*maxConsumers {
		t.Errorf("want at most %d consumers remembered, got %d", 2*maxConsumers, n)
	}
	if unlimited := NewLimiter(0); !unlimited.Allow("a") || len(unlimited.young) != 0 {
		t.Error("want no limit and no memory at 0")
	}
}

package web

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/google/uuid"

	"github.com/event-piper/event-piper/core/auth"
)

func TestEveryRequestLeavesOneLine(t *testing.T) {
	j, log := newJournal()
	h := Handler(Config{}, routes(map[string]http.HandlerFunc{
		"GET /events": func(w http.ResponseWriter, r *http.Request) {
			a := AccessFrom(r.Context())
			a.Consumer, a.Events = "toto", 2
			w.WriteHeader(http.StatusAccepted)
			_, _ = io.WriteString(w, "12345")
		},
	}), log)
	ask(h, httptest.NewRequest("GET", "/events?after=1&access_token=secret", nil))

	lines, _ := j.find("request")
	if len(lines) != 1 {
		t.Fatalf("want one line, got %d", len(lines))
	}
	want := map[string]any{
		"method": "GET", "url": "/events?after=1&access_token=REDACTED", "status": int64(202),
		"consumer": "toto", "events": int64(2), "bytes": int64(5), "remote": "192.0.2.1:1234",
	}
	for key, v := range want {
		if got := lines[0].attrs[key]; got != v {
			t.Errorf("%s: want %v, got %v", key, v, got)
		}
	}
	if _, ok := lines[0].attrs["duration"]; !ok || lines[0].level != slog.LevelInfo {
		t.Errorf("want a duration at level info, got %+v", lines[0])
	}
}

func TestALongMethodLeavesAShortLine(t *testing.T) {
	j, log := newJournal()
	h := Handler(Config{}, routes(map[string]http.HandlerFunc{"GET /": ok}), log)
	ask(h, httptest.NewRequest(strings.Repeat("X", 10_000), "/", nil))
	lines, _ := j.find("request")
	if got, _ := lines[0].attrs["method"].(string); got != strings.Repeat("X", maxLoggedMethod) {
		t.Errorf("want the method cut off, got %d bytes", len(got))
	}
}

// TestARefusalIsExplainedInTheLogAlone: which check a token failed would help whoever forges one.
func TestARefusalIsExplainedInTheLogAlone(t *testing.T) {
	j, log := newJournal()
	a, err := auth.JWT(t.Context(), auth.JWTConfig{HMACSecret: strings.Repeat("s", 32)}, log)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /events", (&Config{}).Authenticate(a, func(string) {})(http.HandlerFunc(ok)))
	const token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ0b3RvIn0.c2lnbmF0dXJl"
	r := httptest.NewRequest("GET", "/events", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	w := ask(Handler(Config{}, mux, log), r)
	if got := j.wait(t, "request").attrs["refusal"]; got != "signature: the token's signature does not match" {
		t.Errorf("want the failed check in the log, got %v", got)
	}
	if got := w.Body.String(); w.Code != 401 || strings.Contains(got, "signature") {
		t.Errorf("want 401 without the failed check, got %d %s", w.Code, got)
	}
	// One that the path carries is neither logged nor answered with.
	j, log = newJournal()
	w = ask(Handler(Config{}, mux, log), httptest.NewRequest("GET", "/events/"+token, nil))
	if got := j.wait(t, "request").attrs["url"]; got != "/events/REDACTED" || strings.Contains(w.Body.String(), token) {
		t.Errorf("want no token in a log or an answer, got %v, %s", got, w.Body)
	}
}

func TestMachinesAreLoggedAtDebugLevel(t *testing.T) {
	for path, want := range map[string]slog.Level{
		HealthPath: slog.LevelDebug, MetricsPath: slog.LevelDebug, "/manage/other": slog.LevelInfo,
	} {
		j, log := newJournal()
		ask(Handler(Config{}, http.NewServeMux(), log), httptest.NewRequest("GET", path, nil))
		if got := j.wait(t, "request").level; got != want {
			t.Errorf("%s: want %v, got %v", path, want, got)
		}
	}
}

func TestStatusIsTheOneThatWasSent(t *testing.T) {
	tests := map[string]struct {
		handler http.HandlerFunc
		want    int64
	}{
		"nothing written": {func(http.ResponseWriter, *http.Request) {}, 200},
		"only a body":     {ok, 200},
		"only flushed": {func(w http.ResponseWriter, _ *http.Request) {
			_ = http.NewResponseController(w).Flush()
			w.WriteHeader(404)
		}, 200},
		"hints before": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(103); w.WriteHeader(404) }, 404},
		"written twice": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(404)
			w.WriteHeader(500)
		}, 404},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			j, log := newJournal()
			ask(Handler(Config{}, routes(map[string]http.HandlerFunc{"/": tt.handler}), log), httptest.NewRequest("GET", "/", nil))
			if got := j.wait(t, "request").attrs["status"]; got != tt.want {
				t.Errorf("want %v, got %v", tt.want, got)
			}
		})
	}
}

func TestRequestID(t *testing.T) {
	tests := map[string]struct {
		header, sent string
		taken        bool
	}{
		"trusted":         {"X-Request-Id", "abc-1:=;", true},
		"not configured":  {"", "abc", false},
		"absent":          {"X-Request-Id", "", false},
		"too long":        {"X-Request-Id", strings.Repeat("a", 129), false},
		"space":           {"X-Request-Id", "a b", false},
		"control":         {"X-Request-Id", "a\tb", false},
		"not ASCII":       {"X-Request-Id", "é", false},
		"header of yours": {"X-Amzn-Trace-Id", "Root=1-5759e988-bd862e3fe1be46a994272793", true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			j, log := newJournal()
			r := httptest.NewRequest("GET", "/", nil)
			r.Header.Set("X-Request-Id", "abc")
			if tt.header != "" {
				r.Header.Set(tt.header, tt.sent)
			}
			w := ask(Handler(Config{RequestIDHeader: tt.header}, http.NewServeMux(), log), r)
			got := w.Header().Get("X-Request-Id")
			if id, err := uuid.Parse(got); tt.taken && got != tt.sent || !tt.taken && (err != nil || id.Version() != 7) {
				t.Errorf("sent %q (taken: %v), got %q", tt.sent, tt.taken, got)
			}
			if logged := j.wait(t, "request").attrs["request_id"]; logged != got {
				t.Errorf("logged %v, answered %v", logged, got)
			}
		})
	}
}

func TestAHijackedConnectionIsLoggedWhenItEnds(t *testing.T) {
	detached := make(chan *Access, 1)
	srv := run(t, Config{}, routes(map[string]http.HandlerFunc{
		"GET /events": func(w http.ResponseWriter, r *http.Request) {
			conn, buf, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Errorf("hijack: %v", err)
				return
			}
			a := AccessFrom(r.Context())
			a.Detach()
			go func() {
				defer conn.Close()
				_, _ = buf.WriteString("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello")
				_ = buf.Flush()
				detached <- a
			}()
		},
		"GET /after": ok,
	}))

	resp, body := get(t, http.DefaultClient, srv.url+"/events")
	if resp.StatusCode != 200 || body != "hello" {
		t.Errorf("want 200 hello, got %d %s", resp.StatusCode, body)
	}
	get(t, http.DefaultClient, srv.url+"/after")
	if l := srv.journal.wait(t, "request"); l.attrs["url"] != "/after" {
		t.Errorf("want no line before Done, got %v", l)
	}
	a := await(t, detached, "the stream")
	a.Events, a.Bytes = 3, 5
	a.Done(slog.New(srv.journal))
	lines, _ := srv.journal.find("request")
	if len(lines) != 2 {
		t.Fatalf("want two lines, got %d", len(lines))
	}
	if got := lines[1].attrs; got["events"] != int64(3) || got["bytes"] != int64(5) || got["status"] != int64(200) {
		t.Errorf("want the stream's own count, got %v", got)
	}
}

func TestAccessFromIsNeverNil(t *testing.T) {
	if AccessFrom(context.Background()) == nil {
		t.Error("want an access outside a request too")
	}
}

func TestAccessIsSmall(t *testing.T) {
	if size := unsafe.Sizeof(Access{}); size > 160 {
		t.Errorf("20,000 streams hold one each: want at most 160 bytes, got %d", size)
	}
	u := &url.URL{Path: "/" + strings.Repeat("é", 4096)}
	if got := loggedURL(u); len(got) > maxLoggedURL+len("…") {
		t.Errorf("want a long URL cut off, got %d bytes", len(got))
	}
}

func TestFlushAndDeadlinesReachTheConnection(t *testing.T) {
	release := make(chan struct{})
	srv := run(t, Config{CORSOrigins: []string{"*"}}, routes(map[string]http.HandlerFunc{
		"GET /stream": func(w http.ResponseWriter, _ *http.Request) {
			rc := http.NewResponseController(w)
			if err := rc.SetWriteDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Errorf("write deadline: %v", err)
			}
			_, _ = io.WriteString(w, "first\n")
			if err := rc.Flush(); err != nil {
				t.Errorf("flush: %v", err)
			}
			<-release
		},
	}))
	resp, err := http.Get(srv.url + "/stream")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	first, err := bufio.NewReader(resp.Body).ReadString('\n')
	if first != "first\n" || err != nil {
		t.Errorf("want a first line before the handler ends, got %q, %v", first, err)
	}
	close(release)
}

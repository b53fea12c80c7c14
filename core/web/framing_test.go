package web

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestAmbiguousFramingEndsTheConnection: what follows such a request may be another one to whoever is in front.
func TestAmbiguousFramingEndsTheConnection(t *testing.T) {
	srv := run(t, Config{ReadHeaderTimeout: time.Minute}, routes(map[string]http.HandlerFunc{"GET /": ok}))
	for name, c := range map[string]struct {
		request string
		status  int
		closes  bool
	}{
		"no body":              {"GET / HTTP/1.1\r\nHost: h\r\n\r\n", 200, false},
		"a length":             {"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx", 200, false},
		"a length and chunks":  {"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 200, true},
		"chunks":               {"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", 200, true},
		"chunks in HTTP/1.0":   {"GET / HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n", 200, true},
		"a malformed chunk":    {"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nx\r\n", 400, true},
		"a chunk without end":  {"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxyz\r\n", 400, true},
		"a negative chunk":     {"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", 400, true},
		"too large a body":     {"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 70000\r\n\r\n" + strings.Repeat("a", 70000), 413, true},
		"too large, in chunks": {"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n11170\r\n" + strings.Repeat("a", 70000) + "\r\n0\r\n\r\n", 413, true},
		"a method with a body": {"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}", 405, false},
	} {
		t.Run(name, func(t *testing.T) {
			conn := srv.dial(t)
			go func() { _, _ = io.WriteString(conn, c.request) }()
			answers := bufio.NewReader(conn)
			response, err := http.ReadResponse(answers, nil)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, response.Body)
			if response.StatusCode != c.status || response.Close != c.closes {
				t.Errorf("want %d, closed %v, got %d, %v", c.status, c.closes, response.StatusCode, response.Close)
			}
			if response.Header.Get("X-Content-Type-Options") != "nosniff" {
				t.Error("want nosniff on every answer")
			}
			if c.closes {
				if _, err := answers.ReadByte(); err == nil || strings.Contains(err.Error(), "timeout") {
					t.Errorf("want the connection closed, got %v", err)
				}
			}
		})
	}
}

// TestWhatNetHTTPRefusesItself: no handler sees these, so they are no problems. They say nothing of the request, which a
// browser could take for a page, and nothing more is read from the connection.
func TestWhatNetHTTPRefusesItself(t *testing.T) {
	srv := run(t, Config{ReadHeaderTimeout: time.Minute, MaxHeaderBytes: 4 << 10}, routes(map[string]http.HandlerFunc{"GET /": ok}))
	const mark = "<script>mark</script>"
	for name, c := range map[string]struct {
		request string
		status  int
	}{
		"a line that is no request":      {mark + "\r\n\r\n", 400},
		"a malformed host":               {"GET / HTTP/1.1\r\nHost: " + mark + " x\r\n\r\n", 400},
		"no host":                        {"GET /" + mark + " HTTP/1.1\r\n\r\n", 400},
		"a malformed name of a header":   {"GET / HTTP/1.1\r\nHost: h\r\n" + mark + ": x\r\n\r\n", 400},
		"a malformed value of a header":  {"GET / HTTP/1.1\r\nHost: h\r\nX: " + mark + "\x00\r\n\r\n", 400},
		"a malformed length":             {"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: " + mark + "\r\n\r\n", 400},
		"another version":                {"GET /" + mark + " HTTP/9.9\r\nHost: h\r\n\r\n", 505},
		"headers that are too large":     {"GET / HTTP/1.1\r\nHost: h\r\nX: " + mark + strings.Repeat("x", 16<<10) + "\r\n\r\n", 431},
		"an unknown transfer encoding":   {"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: " + mark + "\r\n\r\n", 501},
		"an expectation that is not met": {"GET / HTTP/1.1\r\nHost: h\r\nExpect: " + mark + "\r\n\r\n", 417},
	} {
		t.Run(name, func(t *testing.T) {
			conn := srv.dial(t)
			go func() { _, _ = io.WriteString(conn, c.request+"GET / HTTP/1.1\r\nHost: h\r\n\r\n") }()
			answers := bufio.NewReader(conn)
			response, err := http.ReadResponse(answers, nil)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(response.Body) // the connection may be reset behind it
			if kind := response.Header.Get("Content-Type"); response.StatusCode != c.status || len(body) > 0 && kind != "text/plain; charset=utf-8" {
				t.Errorf("want %d in plain text, got %d, %q", c.status, response.StatusCode, kind)
			}
			if answer := fmt.Sprint(response.Status, response.Header, string(body)); strings.Contains(answer, "mark") {
				t.Errorf("want nothing of the request in the answer, got %s", answer)
			}
			if !response.Close {
				t.Error("want the connection closed")
			}
			if _, err := answers.ReadByte(); err == nil || strings.Contains(err.Error(), "timeout") {
				t.Errorf("want no second answer, got %v", err)
			}
		})
	}
}

func TestDevelopmentListensOnLoopback(t *testing.T) {
	var c Config
	c.KeepToThisMachine()
	if c.Address != "127.0.0.1" || len(c.Hosts) != 1 {
		t.Errorf("want loopback and its name alone, got %q, %q", c.Address, c.Hosts)
	}
	c = Config{Address: "Devbox"}
	if c.KeepToThisMachine(); c.Address != "Devbox" || !slices.Contains(c.Hosts, "devbox") {
		t.Errorf("want the address that was given, got %q, %q", c.Address, c.Hosts)
	}
}

func TestHostsOfOthersAreRefused(t *testing.T) {
	_, log := newJournal()
	h := Handler(Config{Hosts: []string{"localhost", "devbox"}}, routes(map[string]http.HandlerFunc{"/": ok}), log)
	for host, want := range map[string]int{
		"localhost": 200, "localhost:4000": 200, "LOCALHOST:4000": 200, "127.0.0.1:4000": 200, "[::1]:4000": 200, "[::1]": 200, "10.1.2.3": 200, "devbox": 200,
		"evil.example": 421, "evil.example:4000": 421, "localhost.evil.example": 421, "127.0.0.1.evil.example": 421, "": 421, "local host": 421,
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Host = host
		if w := ask(h, r); w.Code != want {
			t.Errorf("%q: want %d, got %d", host, want, w.Code)
		}
	}
}

// TestBodiesAreKeptForRoutesThatReadThem, and are bounded for these, too.
func TestBodiesAreKeptForRoutesThatReadThem(t *testing.T) {
	_, log := newJournal()
	echo := routes(map[string]http.HandlerFunc{"POST /": func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }})
	for _, c := range []struct {
		keep   bool
		body   string
		status int
		want   string
	}{
		{true, "hello", http.StatusOK, "hello"},
		{false, "hello", http.StatusOK, ""},
		{true, strings.Repeat("x", 64<<10), http.StatusOK, strings.Repeat("x", 64<<10)},
		{true, strings.Repeat("x", 64<<10+1), http.StatusRequestEntityTooLarge, ""},
	} {
		w := ask(Handler(Config{KeepBodies: c.keep}, echo, log), httptest.NewRequest(http.MethodPost, "/", strings.NewReader(c.body)))
		if got := w.Body.String(); w.Code != c.status || c.status == http.StatusOK && got != c.want {
			t.Errorf("%d bytes, kept: %t: got %d with %d bytes, want %d with %d", len(c.body), c.keep, w.Code, len(got), c.status, len(c.want))
		}
	}
}

package web

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestBasePath(t *testing.T) {
	echo := func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.URL.Path+"?"+r.URL.RawQuery) }
	mux := routes(map[string]http.HandlerFunc{
		"GET /events": echo, "GET /events/poll": echo, "GET /manage/health": echo, "GET /docs/page.js": echo,
	})
	for _, c := range []struct{ base, path, want string }{
		{"", "/events", "/events?"},
		{"", "/piper/events", ""},
		{"/piper", "/piper/events?after=5", "/events?after=5"},
		{"/piper", "/piper/events/poll", "/events/poll?"},
		{"/piper", "/piper/docs/page.js", "/docs/page.js?"},
		{"/piper", "/events", "/events?"}, // around the proxy
		{"/piper", "/manage/health", "/manage/health?"},
		{"/piper", "/piper", ""},
		{"/piper", "/pipers/events", ""},
		{"/piper", "/piper/piper/events", ""},
		{"/piper", "/other/events", ""},
		{"/v1/piper", "/v1/piper/events", "/events?"},
		{"/v1/piper", "/v1/events", ""},
		// Named like a route.
		{"/events", "/events/events", "/events?"},
		{"/events", "/events/events/poll", "/events/poll?"},
		{"/events", "/events/poll", "/events/poll?"},
		{"/events/poll", "/events/poll/events/poll", "/events/poll?"},
	} {
		_, log := newJournal()
		w := ask(Handler(Config{BasePath: c.base}, mux, log), httptest.NewRequest("GET", c.path, nil))
		if c.want == "" {
			wantProblem(t, w.Result(), 404)
		} else if got := w.Body.String(); got != c.want {
			t.Errorf("%s below %q: got %q, want %q", c.path, c.base, got, c.want)
		}
	}
	_, log := newJournal()
	w := ask(Handler(Config{BasePath: "/piper"}, mux, log), httptest.NewRequest("POST", "/piper/events", nil))
	wantProblem(t, w.Result(), 405)
	for given, want := range map[string]string{
		"/piper//events?after=5&types=a%20b": "/piper/events?after=5&types=a%20b",
		"/piper/events//poll":                "/piper/events/poll",
		"/piper/./docs/../events/":           "/piper/events",
		"/piper//other":                      "/piper/other",
		"/piper///evil.example/..//events":   "/piper/events",
		"//events?after=5":                   "/events?after=5",
	} {
		w := ask(Handler(Config{BasePath: "/piper"}, mux, log), httptest.NewRequest("GET", given, nil))
		if got := w.Header().Get("Location"); w.Code != 307 || got != want {
			t.Errorf("%s is answered with %d to %q, want 307 to %q", given, w.Code, got, want)
		}
	}
}

func TestBasePathsThatAreNone(t *testing.T) {
	for base, ok := range map[string]bool{
		"": true, "/piper": true, "/v1/piper": true,
		"/": false, "piper": false, "/piper/": false, "/a//b": false, "/a/../b": false, "/a%20b": false, "/a?b": false, "//": false,
	} {
		if err := checkBase(base); (err == nil) != ok {
			t.Errorf("%q: got %v, want it taken: %t", base, err, ok)
		}
	}
}

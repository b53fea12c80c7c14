package blackbox_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/event-piper/event-piper/postgresql/pgtest"
)

// TestConsoleIsOffOverADatabaseOfOnesOwn: it shows whose events are read by whom.
func TestConsoleIsOffOverADatabaseOfOnesOwn(t *testing.T) {
	t.Parallel()
	p := start(t, "stream", "DATABASE_URL="+pgtest.New(t))
	for _, path := range []string{"/", "/console", "/console/main.js", "/console/status"} {
		if a := fetch(t, p.url(path)); a.status != http.StatusNotFound {
			t.Errorf("%s: want 404, got %d", path, a.status)
		}
	}
}

func TestConsole(t *testing.T) {
	t.Parallel()
	p := start(t, "stream", "DATABASE_URL="+pgtest.New(t), "CONSOLE=on", "CORS_ORIGINS=https://app.example.com")
	a := fetch(t, p.url("/")) // leads there
	if policy := a.header.Get("Content-Security-Policy"); a.status != http.StatusOK || !strings.Contains(a.body, "<h1>Event Piper</h1>") ||
		!strings.HasPrefix(policy, "default-src 'none'; script-src 'self'") {
		t.Errorf("the page: got %d with policy %q", a.status, policy)
	}
	mustOpen(t, p.addr, "toto", fromNow)
	a = fetch(t, p.url("/console/status"))
	if !strings.Contains(a.body, `"consumer":"toto"`) || !strings.Contains(a.body, `"inserts":false`) || strings.Contains(a.body, "postgres:") {
		t.Errorf("want the session, and no database that can be written, got %s", a.body)
	}
	for name, c := range map[string]struct {
		method, path, origin string
		status               int
	}{
		"an insert without a development database": {http.MethodPost, "/console/events", "", http.StatusNotFound},
		"a session that there is not":              {http.MethodDelete, "/console/sessions/1", "", http.StatusNotFound},
		"a session that is none":                   {http.MethodDelete, "/console/sessions/x", "", http.StatusNotFound},
		"another page":                             {http.MethodDelete, "/console/sessions/1", "https://evil.example", http.StatusForbidden},
		"a page that may read events":              {http.MethodDelete, "/console/sessions/1", "https://app.example.com", http.StatusForbidden},
		"what there is not":                        {http.MethodGet, "/console/", "", http.StatusNotFound},
	} {
		r, err := http.NewRequest(c.method, p.url(c.path), nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.origin != "" {
			r.Header.Set("Origin", c.origin)
		}
		a, err := send(r)
		if err != nil || a.status != c.status {
			t.Errorf("%s: want %d, got %d %s (%v)", name, c.status, a.status, a.body, err)
		}
	}
}

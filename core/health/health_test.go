package health_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/event-piper/event-piper/core/health"
)

func TestHealth(t *testing.T) {
	const live, ready, both = "/manage/health/live", "/manage/health/ready", "/manage/health"
	var down string
	h := &health.Health{Down: func(*http.Request) string { return down }}
	mux := http.NewServeMux()
	h.Register(mux)
	want := func(path string, status int, body string) {
		t.Helper()
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		if w.Code != status || w.Body.String() != body {
			t.Errorf("GET %s: got %d %s, want %d %s", path, w.Code, w.Body, status, body)
		}
		for name, want := range map[string]string{"Content-Type": "application/json", "Cache-Control": "no-store"} {
			if got := w.Header().Get(name); got != want {
				t.Errorf("GET %s: %s is %q, want %q", path, name, got, want)
			}
		}
	}

	for _, path := range []string{live, ready, both} {
		want(path, 200, `{"status":"UP"}`)
	}

	down = "not connected to the database"
	want(live, 200, `{"status":"UP"}`)
	for _, path := range []string{ready, both} {
		want(path, 503, `{"status":"DOWN","reason":"not connected to the database"}`)
	}

	down = ""
	want(ready, 200, `{"status":"UP"}`)
	h.Stop()
	want(live, 200, `{"status":"UP"}`)
	for _, path := range []string{ready, both} {
		want(path, 503, `{"status":"DOWN","reason":"shutting down"}`)
	}
}

func TestTheReasonMayDependOnTheRequest(t *testing.T) {
	h := &health.Health{Down: func(r *http.Request) string { return r.Header.Get("X-Reason") }}
	mux := http.NewServeMux()
	h.Register(mux)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/manage/health", nil)
	r.Header.Set("X-Reason", `a "reason"`)
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, r)
	if got, want := w.Body.String(), `{"status":"DOWN","reason":"a \"reason\""}`; w.Code != 503 || got != want {
		t.Errorf("got %d %s, want 503 %s", w.Code, got, want)
	}
}

func TestOnlyGETAndHEAD(t *testing.T) {
	mux := http.NewServeMux()
	(&health.Health{Down: func(*http.Request) string { return "" }}).Register(mux)
	for method, want := range map[string]int{http.MethodHead: 200, http.MethodPost: 405, http.MethodDelete: 405} {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, "/manage/health", nil))
		if w.Code != want {
			t.Errorf("%s: got %d, want %d", method, w.Code, want)
		}
	}
}

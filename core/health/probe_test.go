package health_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/event-piper/event-piper/core/health"
)

func TestProbe(t *testing.T) {
	down := ""
	h := &health.Health{Down: func(*http.Request) string { return down }}
	mux := http.NewServeMux()
	h.Register(mux)
	server := httptest.NewServer(mux)
	defer server.Close()

	check := func(path, want string) {
		t.Helper()
		got := ""
		if err := health.Probe(context.Background(), server.URL+path); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("probe %s: want %q, got %q", path, want, got)
		}
	}
	check("/manage/health", "")
	check("/manage/health/live", "")
	check("/somewhere/else", "not healthy: 404 Not Found")

	down = "not connected to the database"
	check("/manage/health/ready", "not healthy: not connected to the database")
	check("/manage/health/live", "")

	down = ""
	h.Stop()
	check("/manage/health", "not healthy: shutting down")
}

func TestProbeOfNobody(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	if err := health.Probe(context.Background(), server.URL); err == nil {
		t.Error("probe a port where nobody listens: want an error, got none")
	}
}

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

// The certificate of httptest is for example.com, as a service's is for its public name.
func TestProbeOverHTTPS(t *testing.T) {
	mux := http.NewServeMux()
	(&health.Health{Down: func(*http.Request) string { return "" }}).Register(mux)
	server := httptest.NewTLSServer(mux)
	defer server.Close()
	if err := health.Probe(context.Background(), server.URL+"/manage/health"); err != nil {
		t.Errorf("probe over HTTPS: want no error, got %v", err)
	}
}

func TestProbeOfNobody(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	if err := health.Probe(context.Background(), server.URL); err == nil {
		t.Error("probe a port where nobody listens: want an error, got none")
	}
}

package openapi_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/core/auth"
	"github.com/event-piper/event-piper/openapi"
)

// pollerFunc is a core.Poller.
type pollerFunc func(context.Context, core.Poll) (core.Batch, error)

func (f pollerFunc) Poll(ctx context.Context, p core.Poll) (core.Batch, error) { return f(ctx, p) }

// always answers every poll alike.
func always(b core.Batch, err error) pollerFunc {
	return func(context.Context, core.Poll) (core.Batch, error) { return b, err }
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// serve starts a server of the routes that believes X-Consumer-Id.
func serve(t *testing.T, p core.Poller, log *slog.Logger) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	openapi.Register(mux, openapi.Config{
		Poller: p, Authenticate: auth.Middleware(auth.Gateway(), nil), Log: log, Streams: true,
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server
}

type answer struct {
	*http.Response
	body string
}

// ask requests a path as the consumer toto; header is pairs of names and values.
func ask(t *testing.T, s *httptest.Server, method, path string, header ...string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set(auth.ConsumerHeader, "toto")
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	response, err := s.Client().Do(r)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("%s %s: read the body: %v", method, path, err)
	}
	return answer{response, string(body)}
}

// The documents beside this file are what a service with streams answers.
func TestDocumentsAreUpToDate(t *testing.T) {
	s := serve(t, nil, quiet())
	for _, name := range []string{"openapi.yaml", "openapi-3.0.yaml"} {
		checkedIn, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		a := ask(t, s, http.MethodGet, "/"+name)
		if a.body != string(checkedIn) {
			t.Errorf("%s is not what the code says; run: go generate ./openapi", name)
		}
		if got, want := a.Header.Get("Content-Type"), "application/openapi+yaml"; got != want {
			t.Errorf("%s has the type %q, want %q", name, got, want)
		}
	}
}

type document struct {
	OpenAPI string
	Info    struct{ Version string }
	Paths   map[string]map[string]struct {
		OperationID string
		Responses   map[string]any
	}
}

func TestDocumentsInJSON(t *testing.T) {
	for _, c := range []struct {
		streams          bool
		version, path    string
		openapi, reports string
		operations       []string
	}{
		{true, "", "/openapi.json", "3.1.0", openapi.Version, []string{"streamEvents", "pollEvents", "getHealth", "getReadiness", "getLiveness"}},
		{true, "", "/openapi-3.0.json", "3.0.3", openapi.Version, []string{"streamEvents", "pollEvents", "getHealth", "getReadiness", "getLiveness"}},
		{false, "1.2.3", "/openapi.json", "3.1.0", "1.2.3", []string{"pollEvents", "getHealth", "getReadiness", "getLiveness"}},
	} {
		mux := http.NewServeMux()
		openapi.Register(mux, openapi.Config{
			Authenticate: auth.Middleware(auth.Gateway(), nil), Log: quiet(), Streams: c.streams, Version: c.version,
		})
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, c.path, nil))
		var d document
		if err := json.Unmarshal(w.Body.Bytes(), &d); err != nil {
			t.Fatalf("%s: %v", c.path, err)
		}
		if d.OpenAPI != c.openapi || d.Info.Version != c.reports {
			t.Errorf("%s is of OpenAPI %s and of version %s, want %s and %s", c.path, d.OpenAPI, d.Info.Version, c.openapi, c.reports)
		}
		operations := map[string]bool{}
		for _, item := range d.Paths {
			for _, o := range item {
				operations[o.OperationID] = true
			}
		}
		for _, want := range c.operations {
			if !operations[want] {
				t.Errorf("%s with streams=%t does not describe %s", c.path, c.streams, want)
			}
		}
		if len(operations) != len(c.operations) {
			t.Errorf("%s with streams=%t describes %v, want %v", c.path, c.streams, operations, c.operations)
		}
	}
}

// What a browser would load from elsewhere, and the policy that would keep it from doing so.
func TestDocsNeedNoOtherHost(t *testing.T) {
	s := serve(t, nil, quiet())
	page := ask(t, s, http.MethodGet, "/docs")
	for _, part := range []string{"docs/swagger-ui.css", "docs/swagger-ui-bundle.js", "docs/page.js"} {
		if !strings.Contains(page.body, `"`+part+`"`) {
			t.Errorf("/docs does not load %s", part)
		}
		if a := ask(t, s, http.MethodGet, "/"+part); a.StatusCode != http.StatusOK || a.body == "" {
			t.Errorf("GET /%s: status %d, %d bytes", part, a.StatusCode, len(a.body))
		}
	}
	script := ask(t, s, http.MethodGet, "/docs/page.js")
	for _, a := range []answer{page, script} {
		if strings.Contains(a.body, "://") || strings.Contains(a.body, `"//`) {
			t.Errorf("%s names another host:\n%s", a.Request.URL.Path, a.body)
		}
		policy := a.Header.Get("Content-Security-Policy")
		if !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "//") || strings.Contains(policy, "*") {
			t.Errorf("%s lets other hosts in: %q", a.Request.URL.Path, policy)
		}
	}
	// The style sheet is not bound by default-src once it is loaded: what it loads is, but must not be tried.
	if css := ask(t, s, http.MethodGet, "/docs/swagger-ui.css"); strings.Contains(css.body, "@import") || strings.Contains(css.body, "url(http") {
		t.Error("the style sheet loads something from elsewhere")
	}
}

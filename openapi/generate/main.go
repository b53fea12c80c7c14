// Generate writes the OpenAPI documents into the current directory, as a service of streams answers them.
package main

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"

	"github.com/event-piper/event-piper/openapi"
)

func main() {
	mux := http.NewServeMux()
	openapi.Register(mux, openapi.Config{
		Authenticate: func(h http.Handler) http.Handler { return h },
		Log:          slog.Default(),
		Streams:      true,
	})
	for _, name := range []string{"openapi.yaml", "openapi-3.0.yaml"} {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/"+name, nil))
		if w.Code != http.StatusOK {
			fail(fmt.Errorf("GET /%s: status %d", name, w.Code))
		}
		if err := os.WriteFile(name, w.Body.Bytes(), 0o644); err != nil { //nolint:gosec // a document for everyone
			fail(err)
		}
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "generate:", err)
	os.Exit(1)
}

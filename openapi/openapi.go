// Package openapi is the HTTP API as Huma describes and serves it: GET /events/poll, the OpenAPI documents
// generated from it, and a page to read them.
//
// GET /events and the health checks are served by others and only described here, so that clients can be
// generated from one document. The generated documents are checked in beside this file.
package openapi

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/event-piper/event-piper/core"
)

//go:generate go run ./generate

// Version is the version of the API, which changes when what clients rely on does.
const Version = "1.0.0"

// Config is what the routes need. All of it is required but Version and Streams.
type Config struct {
	Poller core.Poller
	// Authenticate puts an auth.Identity into a request's context or refuses the request.
	Authenticate func(http.Handler) http.Handler
	Log          *slog.Logger
	Settings     Settings
	// Version replaces the package's Version in the documents that are served.
	Version string
	// Streams reports that GET /events is served here too, so that the documents describe it.
	Streams bool
}

// Huma keeps these for all APIs of a program.
func init() {
	huma.NewError = newError
	huma.DefaultArrayNullable = false
}

// Register adds the routes. Everything they answer that is not a success is a problem (RFC 9457).
func Register(mux *http.ServeMux, c Config) {
	polls := http.NewServeMux()
	api := humago.New(polls, configure(c))
	huma.Register(api, pollOperation(api.OpenAPI().Components.Schemas), c.poll)
	mux.Handle("GET "+pollPath, c.Authenticate(polls))

	document := describe(api.OpenAPI(), c.Streams)
	const media = "application/openapi+"
	for path, d := range map[string]struct {
		media string
		make  func() ([]byte, error)
	}{
		"/openapi.json":     {media + "json", func() ([]byte, error) { return json.Marshal(document) }},
		"/openapi.yaml":     {media + "yaml", document.YAML},
		"/openapi-3.0.json": {media + "json", document.Downgrade},
		"/openapi-3.0.yaml": {media + "yaml", document.DowngradeYAML},
	} {
		serveDocument(mux, c.Log, path, d.media, d.make)
	}
	registerDocs(mux)
}

// serveDocument makes a document when it is first asked for: most instances never are.
func serveDocument(mux *http.ServeMux, log *slog.Logger, path, media string, build func() ([]byte, error)) {
	once := sync.OnceValues(build)
	mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
		b, err := once()
		if err != nil {
			log.ErrorContext(r.Context(), "cannot make a document", "path", path, "error", err)
			internalError().Write(w)
			return
		}
		w.Header().Set("Content-Type", media)
		_, _ = w.Write(b) // the client is gone when this fails
	})
}

// configure leaves out Huma's own routes: its documents are made without a lock, and its page loads
// scripts from elsewhere.
func configure(c Config) huma.Config {
	version := c.Version
	if version == "" {
		version = Version
	}
	config := huma.DefaultConfig("Event Piper", version)
	config.OpenAPIPath, config.DocsPath, config.SchemasPath = "", "", ""
	config.CreateHooks = nil // no $schema in bodies
	config.RejectUnknownQueryParameters = true
	return config
}

// noStore keeps caches from answering one poll, or its error, with another's.
func noStore(ctx huma.Context, next func(huma.Context)) {
	ctx.SetHeader("Cache-Control", "no-store")
	next(ctx)
}

// Package console is a page to watch events on, for whoever develops with the service: /console and what it
// asks for. It shows whose events are read by whom, and may insert, so it has no place where strangers are.
package console

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"strconv"
	"time"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/core/problem"
)

//go:embed page
var files embed.FS

// policy keeps the page to this host, and out of frames.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// listed is how many sessions the page shows.
const listed = 100

// Config says what the page shows.
type Config struct {
	Version string
	Hub     *core.Hub
	// Tokens reports that a consumer shows who it is by a token, and not by the header of a gateway.
	Tokens bool
	// Database is a connection string that psql takes, for a development database alone.
	Database string
	// Insert inserts an event; nil where the page may not.
	// An error that is Refused says what is wrong with the event, in words for everybody.
	Insert  func(ctx context.Context, subscriber, typ, payload string) error
	Refused error
}

// Register adds the page and its routes, which need no identity: whoever can ask sees all.
func Register(mux *http.ServeMux, c Config) {
	pages, _ := fs.Sub(files, "page") // it is embedded
	serve := func(name, media string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			h := w.Header()
			h.Set("Content-Type", media+"; charset=utf-8")
			h.Set("Content-Security-Policy", policy)
			h.Set("Referrer-Policy", "no-referrer")
			h.Set("Cache-Control", "no-cache")
			http.ServeFileFS(w, r, pages, name)
		}
	}
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "console") // beside it, whatever prefix there is
		w.WriteHeader(http.StatusFound)
	})
	mux.HandleFunc("GET /console", serve("index.html", "text/html"))
	mux.HandleFunc("GET /console/console.css", serve("console.css", "text/css"))
	for _, script := range []string{"main.js", "connection.js", "chart.js", "commands.js"} {
		mux.HandleFunc("GET /console/"+script, serve(script, "text/javascript"))
	}
	// Another page that a developer has open must not end sessions or insert, whatever CORS_ORIGINS allows.
	own := http.NewCrossOriginProtection()
	own.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		problem.New(http.StatusForbidden, "this is for the console alone").Write(w)
	}))
	mux.HandleFunc("GET /console/status", c.status)
	mux.Handle("DELETE /console/sessions/{id}", own.Handler(http.HandlerFunc(c.end)))
	if c.Insert != nil {
		mux.Handle("POST /console/events", own.Handler(http.HandlerFunc(c.insert)))
	}
}

type status struct {
	Status          string             `json:"status"`
	Reason          string             `json:"reason,omitempty"`
	Version         string             `json:"version"`
	Inserts         bool               `json:"inserts"`
	Tokens          bool               `json:"tokens"`
	Database        string             `json:"database,omitempty"`
	Position        int64              `json:"position"`
	Watermark       int64              `json:"watermark"`
	Sequence        int64              `json:"sequence"`
	Writers         int                `json:"writers"`
	HeldBackSeconds float64            `json:"heldBackSeconds"`
	HeldBackBy      int                `json:"heldBackBy"`
	Sessions        []core.SessionInfo `json:"sessions"`
	Total           int                `json:"total"`
}

func (c Config) status(w http.ResponseWriter, _ *http.Request) {
	s := c.Hub.Status()
	answer := status{
		Status: "UP", Reason: c.Hub.Down(), Version: c.Version,
		Inserts: c.Insert != nil, Tokens: c.Tokens, Database: c.Database,
		Position: s.Position, Watermark: s.Watermark, Sequence: s.Sequence, Writers: s.Writers, HeldBackBy: s.HeldBackBy,
	}
	answer.Sessions, answer.Total = c.Hub.List("", listed)
	if answer.Reason != "" {
		answer.Status = "DOWN"
	}
	if !s.HeldBack.IsZero() {
		answer.HeldBackSeconds = time.Since(s.HeldBack).Seconds()
	}
	writeJSON(w, http.StatusOK, answer)
}

func (c Config) end(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil || !c.Hub.End(id) {
		problem.New(http.StatusNotFound, "there is no such session").Write(w)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (c Config) insert(w http.ResponseWriter, r *http.Request) {
	var event struct {
		Subscriber string          `json:"subscriber"`
		Type       string          `json:"type"`
		Payload    json.RawMessage `json:"payload"`
	}
	if err := json.NewDecoder(r.Body).Decode(&event); err != nil || len(event.Payload) == 0 {
		problem.New(http.StatusBadRequest, "an event is a JSON object with subscriber, type and payload").Write(w)
		return
	}
	err := c.Insert(r.Context(), event.Subscriber, event.Type, string(event.Payload))
	switch {
	case err == nil:
		w.WriteHeader(http.StatusNoContent)
	case errors.Is(err, c.Refused):
		problem.New(http.StatusUnprocessableEntity, err.Error()).Write(w)
	default:
		problem.New(http.StatusServiceUnavailable, "the event cannot be inserted right now").Write(w)
	}
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v) // the client is gone when this fails
}

package sse

import (
	"math/rand/v2"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/core/web"
)

// Handler serves streams to the requests that authenticate lets through. A browser's EventSource gives up for good at
// any status but 200 (WHATWG HTML, section 9.2.3). So a request whose Accept names text/event-stream, and which cannot
// be served now, gets a stream that says when to come back, and ends. What waiting does not change stays what it is, and
// the access log has the status that others get.
func (s *Server) Handler(authenticate func(http.Handler) http.Handler) http.Handler {
	next := authenticate(s)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if acceptsStreams(r) {
			w = &turnAway{ResponseWriter: w, server: s, request: r}
		}
		next.ServeHTTP(w, r)
	})
}

// acceptsStreams reports whether Accept names text/event-stream, other than to refuse it (RFC 9110, section 12.5.1).
func acceptsStreams(r *http.Request) bool {
	for _, list := range r.Header.Values("Accept") {
		for accepted := range strings.SplitSeq(list, ",") {
			media, parameters, err := mime.ParseMediaType(accepted)
			if err != nil || media != "text/event-stream" {
				continue
			}
			weight, given := parameters["q"]
			if q, err := strconv.ParseFloat(weight, 64); !given || err == nil && q > 0 {
				return true
			}
		}
	}
	return false
}

// turnAway replaces the answers 429 and 503.
type turnAway struct {
	http.ResponseWriter
	server   *Server
	request  *http.Request
	replaced bool
}

// Unwrap lets http.ResponseController reach the connection.
func (w *turnAway) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *turnAway) WriteHeader(status int) {
	if status != http.StatusTooManyRequests && status != http.StatusServiceUnavailable {
		w.ResponseWriter.WriteHeader(status)
		return
	}
	w.replaced = true
	web.AccessFrom(w.request.Context()).Status = status
	setHeader(w.Header())
	w.ResponseWriter.WriteHeader(http.StatusOK)
	_, _ = w.ResponseWriter.Write(w.body()) // the client is gone when this fails
}

func (w *turnAway) Write(b []byte) (int, error) {
	if w.replaced {
		return len(b), nil
	}
	return w.ResponseWriter.Write(b)
}

// body is a heartbeat that tells the client to wait two to five times as long as usual. It carries the cursor that was
// asked for or, if there was none, the newest position: what is committed while the client waits belongs to what it
// asked for.
func (w *turnAway) body() []byte {
	s := w.server
	var b []byte
	if a, err := parse(w.request); err == nil {
		select {
		case <-s.hub.Started():
			if a.cursor == core.FromNow {
				a.cursor = s.hub.Status().Position
			}
		default:
		}
		if a.cursor != core.FromNow {
			b = appendID(b, a.cursor)
		}
	}
	return appendThump(b, 2*s.config.Retry+rand.N(3*s.config.Retry))
}

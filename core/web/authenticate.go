package web

import (
	"net/http"

	"github.com/event-piper/event-piper/core/auth"
	"github.com/event-piper/event-piper/core/problem"
)

// Authenticate returns what to put in front of a handler that must know the consumer: it identifies the
// consumer, notes it for the access log, and keeps its requests below the rate. It reports the reason of each
// refusal to refused.
func (c *Config) Authenticate(a auth.Authenticator, refused func(reason string)) func(http.Handler) http.Handler {
	identify := auth.Middleware(a, func(r *http.Request, e *auth.Error) {
		AccessFrom(r.Context()).Refusal = e.Error()
		refused(e.Reason)
	})
	limiter := NewLimiter(c.RequestRate)
	return func(next http.Handler) http.Handler {
		limited := limiter.Handler(next, func() { refused("rate") })
		identified := identify(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if id, ok := auth.FromContext(r.Context()); ok {
				AccessFrom(r.Context()).Consumer = id.Consumer
			}
			limited.ServeHTTP(w, r)
		}))
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if k := connectionFrom(r.Context()); k != nil && k.full {
				refused("connections")
				w.Header().Set("Connection", "close")
				problem.RetryLater(http.StatusServiceUnavailable, "too many connections; try again later").Write(w)
				return
			}
			identified.ServeHTTP(w, r)
		})
	}
}

package web

import (
	"net/http"
	"sync"

	"golang.org/x/time/rate"

	"github.com/event-piper/event-piper/core/problem"
)

// maxConsumers bounds each of a limiter's two generations of consumers, some 150 bytes each.
const maxConsumers = 10_000

// Limiter bounds how many requests each consumer makes per second. It remembers the consumers seen
// last, at least the latest 10,000; one it has forgotten starts afresh.
type Limiter struct {
	perSecond int

	// guarded by mu
	mu         sync.Mutex
	young, old map[string]*rate.Limiter
}

// NewLimiter returns a limiter of so many requests per second, which may come at once; 0 is no limit.
func NewLimiter(perSecond int) *Limiter {
	return &Limiter{perSecond: perSecond, young: map[string]*rate.Limiter{}}
}

// Allow reports whether the consumer may make a request now, and counts it.
func (l *Limiter) Allow(consumer string) bool {
	if l.perSecond == 0 {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	bucket, ok := l.young[consumer]
	if !ok {
		if bucket, ok = l.old[consumer]; !ok {
			bucket = rate.NewLimiter(rate.Limit(l.perSecond), l.perSecond)
		}
		if len(l.young) >= maxConsumers {
			l.old, l.young = l.young, map[string]*rate.Limiter{}
		}
		l.young[consumer] = bucket
	}
	return bucket.Allow()
}

// Handler refuses with 429 what the consumer in the request's [Access] makes too often, and reports it to
// refused. It belongs inside of what finds out who is asking; requests of nobody pass.
func (l *Limiter) Handler(next http.Handler, refused func()) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if consumer := AccessFrom(r.Context()).Consumer; consumer != "" && !l.Allow(consumer) {
			refused()
			problem.RetryLater(http.StatusTooManyRequests, "too many requests; try again later").Write(w)
			return
		}
		next.ServeHTTP(w, r)
	})
}

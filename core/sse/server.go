package sse

import (
	"context"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/core/auth"
	"github.com/event-piper/event-piper/core/problem"
	"github.com/event-piper/event-piper/core/web"
)

// Config is the settings of a Server. All must be positive.
type Config struct {
	// Heartbeat is how long a stream may be silent. A heartbeat comes up to a tenth sooner, so that those of streams
	// that began in one instant do not stay together. A client's read timeout must be longer: several have 5 s.
	Heartbeat time.Duration
	// WriteTimeout is how long a client may take none of what is written to it before its stream ends.
	WriteTimeout time.Duration
	// Retry is about how long clients should wait before they come back: a client is told between half and
	// one and a half of it.
	Retry time.Duration
	// MaxTopics is how many topics a stream may follow.
	MaxTopics int
	// Source is the source of CloudEvents, a URI reference.
	Source string
	// Delivered, if set, is told of each event with a traceparent that is about to be written to a consumer.
	Delivered func(consumer string, e *core.Event)
	// Plain has every stream written by its handler's goroutine, where connections cannot be taken over.
	Plain bool
}

// Stats count what a Server has done.
type Stats struct {
	Streams, Events, Bytes, Stalled atomic.Int64
	// Heartbeats are those that broke a silence.
	Heartbeats atomic.Int64
	// Draining counts the requests that were refused because the service was shutting down.
	Draining atomic.Int64
}

// Server answers GET /events. It must be closed.
type Server struct {
	// Set at construction.
	config   Config
	hub      *core.Hub
	log      *slog.Logger
	born     time.Time
	wheel    *wheel
	loop     *loop
	stats    Stats
	encoders encoders
	// observe, if set, is given the time from an event's timestamp to its delivery.
	observe func(time.Duration)

	closing sync.Once

	mu       sync.Mutex
	streams  map[*stream]struct{} // guarded by mu
	draining bool                 // guarded by mu
	empty    chan struct{}        // guarded by mu; closed when draining and the last stream has ended
}

// NewServer starts a server of a hub's sessions. Observe may be nil; otherwise it is given the time from
// the timestamp of live events to their delivery, for one event of each write.
func NewServer(c Config, hub *core.Hub, log *slog.Logger, observe func(time.Duration)) (*Server, error) {
	s := &Server{
		config: c, hub: hub, log: log, born: time.Now(), observe: observe, encoders: newEncoders(c.Source),
		streams: map[*stream]struct{}{}, empty: make(chan struct{}),
	}
	if !c.Plain {
		var err error
		if s.loop, err = newLoop(s); err != nil {
			return nil, err
		}
	}
	s.wheel = newWheel(s)
	return s, nil
}

// Stats returns the counters.
func (s *Server) Stats() *Stats { return &s.stats }

// now is the server's clock: monotonic nanoseconds, never 0.
func (s *Server) now() int64 { return int64(time.Since(s.born)) + 1 }

// retry is how long to tell a client to wait, other than its neighbour, so that they do not come back in one instant.
func (s *Server) retry() time.Duration { return s.config.Retry/2 + rand.N(s.config.Retry) }

// ServeHTTP answers one request for a stream; the consumer must be in the request's context.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id, ok := auth.FromContext(r.Context())
	if !ok {
		problem.New(http.StatusUnauthorized, "who is asking is not known").Write(w)
		return
	}
	a, err := parse(r)
	if err != nil {
		problem.New(http.StatusBadRequest, err.Error()).Write(w)
		return
	}
	a.identity, a.access = id, web.AccessFrom(r.Context())
	if a.topics, err = id.Follow(a.topics, s.config.MaxTopics); err != nil {
		s.refuse(w, err)
		return
	}
	a.transport = core.SSE
	if r.ProtoMajor == 2 {
		a.transport = core.SSEOverHTTP2
	}
	setHeader(w.Header())
	if r.Method == http.MethodHead {
		return
	}
	if a.cursor == core.FromNow {
		s.hub.Refresh(r.Context())
	}
	serve := s.servePlain
	if s.loop != nil && s.loop.accepts(r) {
		serve = s.loop.serve
	}
	if err := serve(w, r, a); err != nil {
		w.Header().Del("X-Accel-Buffering")
		s.refuse(w, err)
	}
}

func setHeader(h http.Header) {
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Accel-Buffering", "no") // nginx would hold events back
}

// start opens the stream's session and makes it one of the server's. The stream's signal must be set.
func (s *Server) start(st *stream, a ask) error {
	st.server, st.expires, st.access = s, a.identity.Expires, a.access
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		s.stats.Draining.Add(1)
		return core.ErrStopping
	}
	session, err := s.hub.Open(strings.Clone(a.identity.Consumer), a.cursor, a.types, st.signal, a.topics...)
	if err != nil {
		return err
	}
	session.Via(a.transport)
	if a.view != (core.View{}) {
		session.SetView(a.view)
	}
	st.session, st.format = session, a.view.Format
	s.streams[st] = struct{}{}
	s.stats.Streams.Add(1)
	st.sent.Store(s.now())
	s.wheel.add(st)
	return nil
}

// end takes back what start did. Its caller has closed the connection, or returns to net/http, which does.
func (s *Server) end(st *stream) {
	s.wheel.remove(st)
	st.session.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, st)
	if s.draining && len(s.streams) == 0 {
		close(s.empty)
	}
}

// refuse answers a request whose stream could not be started.
func (s *Server) refuse(w http.ResponseWriter, err error) {
	p := problem.Of(err)
	if p == nil {
		s.log.Warn("cannot start a stream", "error", err)
		p = problem.RetryLater(http.StatusServiceUnavailable, "a stream cannot be started right now")
	}
	p.Write(w)
}

// delivered counts events that are about to be written.
func (s *Server) delivered(session *core.Session, events []*core.Event) {
	s.stats.Events.Add(int64(len(events)))
	if s.config.Delivered != nil {
		for _, e := range events {
			if e.Traceparent != "" {
				s.config.Delivered(session.Consumer(), e)
			}
		}
	}
	if s.observe != nil && events[0].Live {
		// A timestamp from before or after what can be written, which is read as the year 1 or 9999, says nothing.
		if d := time.Since(events[0].Timestamp); d != math.MaxInt64 && d != math.MinInt64 {
			s.observe(d)
		}
	}
}

// Drain ends all streams, the first at once and the others spread evenly over the time until ctx ends so that
// the clients do not come back in one instant, each with a retry of its own.
func (s *Server) Drain(ctx context.Context) {
	s.mu.Lock()
	if s.draining {
		s.mu.Unlock()
		return
	}
	s.draining = true
	streams := make([]*stream, 0, len(s.streams))
	for st := range s.streams {
		streams = append(streams, st)
	}
	if len(streams) == 0 {
		close(s.empty)
	}
	s.mu.Unlock()

	var pause time.Duration
	if deadline, ok := ctx.Deadline(); ok && len(streams) > 0 {
		pause = time.Until(deadline) * 9 / 10 / time.Duration(len(streams))
	}
	next := time.Now()
	for _, st := range streams {
		select {
		case <-time.After(time.Until(next)):
		case <-s.empty: // all others have left by themselves
		case <-ctx.Done():
		}
		st.ending.Store(true)
		st.signal()
		next = next.Add(pause)
	}
	select {
	case <-s.empty:
	case <-ctx.Done():
	}
}

// Close ends what is left of the streams at once. The handlers of streams over HTTP/2 and TLS are told to
// return, but not waited for: they are net/http's.
func (s *Server) Close() {
	s.mu.Lock()
	s.draining = true
	for st := range s.streams {
		st.gone.Store(true)
		st.signal()
	}
	s.mu.Unlock()
	s.closing.Do(func() {
		s.wheel.close()
		if s.loop != nil {
			s.loop.close()
		}
	})
}

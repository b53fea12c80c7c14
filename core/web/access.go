package web

import (
	"bufio"
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/event-piper/event-piper/core/auth"
)

// What a request of many bytes leaves in the log and, for a stream, in memory is bounded.
const (
	maxLoggedURL    = 512
	maxLoggedMethod = 32 // the longest that is registered has 17
)

// Access is what one request's line in the access log says. It belongs to the goroutine of the
// handler, or after [Access.Detach] to whoever serves the connection on. As many are alive as there
// are streams, so it holds no reference to the request.
type Access struct {
	RequestID string
	// Consumer is set by whoever finds out who is asking.
	Consumer string
	// Status and Bytes are counted for handlers that write to their http.ResponseWriter; one that
	// hijacks its connection counts its own.
	Status int
	Bytes  int64
	// Refusal says why nobody was identified; the client is not told as much.
	Refusal string
	// Events is how many events the answer delivered.
	Events int64

	start               time.Time
	method, url, remote string
	quiet, detached     bool
	abandoned           bool // by a client that gave it up as soon as it was answered
}

type accessKey struct{}

// AccessFrom returns the access of the request that ctx belongs to, or outside any request a new one
// that is logged nowhere. It is never nil.
func AccessFrom(ctx context.Context) *Access {
	if a, ok := ctx.Value(accessKey{}).(*Access); ok {
		return a
	}
	return &Access{start: time.Now()}
}

// Detach keeps the line from being logged when the handler returns: whoever serves the hijacked
// connection on calls [Access.Done] once. It is called by the handler, before another goroutine gets
// the access.
func (a *Access) Detach() { a.detached = true }

// Done logs the line.
func (a *Access) Done(log *slog.Logger) {
	level := slog.LevelInfo
	if a.quiet {
		level = slog.LevelDebug
	}
	status := a.Status
	if status == 0 {
		status = http.StatusOK // as net/http answers when a handler writes nothing
	}
	attrs := []slog.Attr{
		slog.String("method", a.method),
		slog.String("url", a.url),
		slog.Int("status", status),
		slog.String("consumer", a.Consumer),
		slog.Duration("duration", time.Since(a.start).Round(time.Microsecond)),
		slog.Int64("events", a.Events),
		slog.Int64("bytes", a.Bytes),
		slog.String("request_id", a.RequestID),
		slog.String("remote", a.remote),
	}
	if a.Refusal != "" {
		attrs = append(attrs, slog.String("refusal", a.Refusal))
	}
	if a.abandoned {
		attrs = append(attrs, slog.Bool("abandoned", true))
	}
	log.LogAttrs(context.Background(), level, "request", attrs...)
}

// logAccess gives every request an [Access] and an id, which the answer carries as X-Request-Id.
func logAccess(idHeader string, done func(*Access, time.Duration), log *slog.Logger, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := &Access{
			RequestID: requestID(r, idHeader),
			start:     time.Now(),
			method:    strings.Clone(r.Method[:min(len(r.Method), maxLoggedMethod)]), url: loggedURL(r.URL), remote: r.RemoteAddr,
			quiet: strings.HasPrefix(r.URL.Path, HealthPath) || r.URL.Path == MetricsPath,
		}
		w.Header().Set("X-Request-Id", a.RequestID)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		defer func() {
			if !a.detached {
				a.Done(log)
			}
			if done != nil && !a.quiet {
				done(a, time.Since(a.start))
			}
		}()
		next.ServeHTTP(&recorder{w, a}, r.WithContext(context.WithValue(r.Context(), accessKey{}, a)))
	})
}

// requestID takes the id a trusted proxy sent if it is fit for a header and a log line, else makes one.
func requestID(r *http.Request, header string) string {
	if header != "" {
		id := r.Header.Get(header)
		invisible := func(c rune) bool { return c <= ' ' || c > '~' }
		if id != "" && len(id) <= 128 && !strings.ContainsFunc(id, invisible) {
			return id
		}
	}
	return uuid.Must(uuid.NewV7()).String() // fails only where crypto/rand does, which ends the program
}

func loggedURL(u *url.URL) string {
	text := auth.RedactURL(u)
	if len(text) > maxLoggedURL {
		text = strings.ToValidUTF8(text[:maxLoggedURL], "") + "…"
	}
	return text
}

// recorder counts what a handler writes. Deadlines and the rest of http.ResponseController reach the
// connection through Unwrap.
type recorder struct {
	http.ResponseWriter
	access *Access
}

func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *recorder) WriteHeader(status int) {
	if status >= 200 || status == http.StatusSwitchingProtocols { // the others announce an answer
		w.wrote(status)
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(p []byte) (int, error) {
	w.wrote(http.StatusOK)
	n, err := w.ResponseWriter.Write(p)
	w.access.Bytes += int64(n)
	return n, err
}

func (w *recorder) FlushError() error {
	w.wrote(http.StatusOK)
	return http.NewResponseController(w.ResponseWriter).Flush()
}

func (w *recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil {
		w.wrote(http.StatusOK)
		w.Header().Del("Connection") // what becomes of it is up to whoever has it now
	}
	return conn, rw, err
}

func (w *recorder) wrote(status int) {
	if w.access.Status == 0 {
		w.access.Status = status
	}
}

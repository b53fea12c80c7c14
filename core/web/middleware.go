package web

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"runtime/debug"
	"slices"
	"time"

	"github.com/rs/cors"

	"github.com/event-piper/event-piper/core/auth"
	"github.com/event-piper/event-piper/core/problem"
)

// recoverPanics answers 500 for a handler that panics before it has written anything. Afterwards it
// aborts the connection, so that half an answer is not taken for a whole one. The client learns
// nothing of the cause.
func recoverPanics(log *slog.Logger, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			v := recover()
			if v == nil {
				return
			}
			if v == http.ErrAbortHandler { //nolint:errorlint // net/http compares it like this
				panic(v)
			}
			a := AccessFrom(r.Context())
			log.Error("panic in a handler", "panic", fmt.Sprint(v), "stack", string(debug.Stack()),
				"method", a.method, "url", loggedURL(r.URL), "request_id", a.RequestID)
			if a.Status != 0 {
				panic(http.ErrAbortHandler)
			}
			problem.New(http.StatusInternalServerError, "").Write(w)
		}()
		next.ServeHTTP(w, r)
	})
}

// limitURL refuses URLs that are longer than any of ours; net/http bounds them only with the headers.
func limitURL(most int, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if most > 0 && len(r.RequestURI) > most {
			problem.New(http.StatusRequestURITooLong, fmt.Sprintf("a URL takes at most %d bytes", most)).Write(w)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// maxBody is what is read of a body before the request is refused for it.
const maxBody = 64 << 10

// drainBody reads and forgets the body of a request, in bounded time. Left to net/http, an announced
// body that never comes would hold up the answer for as long as the client likes: a server of streams
// can have no ReadTimeout, which would end them too. If it is to be kept, the routes find it all there.
func drainBody(timeout time.Duration, keep bool, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body == nil || r.Body == http.NoBody {
			next.ServeHTTP(w, r)
			return
		}
		conn := http.NewResponseController(w)
		if timeout > 0 {
			_ = conn.SetReadDeadline(time.Now().Add(timeout)) // fails only where there is no connection to wait for
		}
		var kept bytes.Buffer
		to := io.Discard
		if keep {
			to = &kept
		}
		n, err := io.Copy(to, io.LimitReader(r.Body, maxBody+1))
		if err != nil || n > maxBody {
			// The deadline stays, for net/http reads on before it answers. What follows is not known to be a request.
			w.Header().Set("Connection", "close")
			p := problem.New(http.StatusRequestEntityTooLarge, "requests take no body, or a small one")
			switch {
			case errors.Is(err, os.ErrDeadlineExceeded):
				p = problem.New(http.StatusRequestTimeout, "the announced body did not come")
			case err != nil:
				p = problem.New(http.StatusBadRequest, "the body cannot be read")
			}
			p.Write(w)
			return
		}
		_ = conn.SetReadDeadline(time.Time{})
		r.Body = io.NopCloser(&kept)
		next.ServeHTTP(w, r)
	})
}

// closeAmbiguous ends connections whose next request another reader may see elsewhere than net/http does: it
// reads a body by Transfer-Encoding where Content-Length is given, too, and by Content-Length where HTTP/1.0
// gives both, and tells us of neither. RFC 9112, section 6.1, has both connections closed.
func closeAmbiguous(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 1 && (r.ProtoMinor == 0 || len(r.TransferEncoding) > 0) {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// allowOrigins lets pages of these origins read answers. They may send the headers the routes know, and those that clients
// of Server-Sent Events and tracing libraries add by themselves. Cookies may carry a token, so they are allowed, except
// for "*".
func allowOrigins(origins []string, next http.Handler) http.Handler {
	if len(origins) == 0 {
		return next // where rs/cors would allow all
	}
	return cors.New(cors.Options{
		AllowedOrigins: origins,
		AllowedMethods: []string{http.MethodGet, http.MethodHead, http.MethodOptions},
		AllowedHeaders: []string{
			"Accept", "Authorization", "Cache-Control", "Content-Type", "Last-Event-ID", "Pragma", "Prefer",
			"X-Consumer-Id", "X-Request-Id", "X-Requested-With", "baggage", "traceparent", "tracestate",
		},
		ExposedHeaders:   []string{"Preference-Applied", "Retry-After", "WWW-Authenticate", "X-Cursor", "X-More", "X-Request-Id"},
		AllowCredentials: !slices.Contains(origins, "*"),
		MaxAge:           600,
	}).Handler(next)
}

// problems answers as a problem what no route of mux does: 404, and 405 with its Allow header. The
// routes themselves get the http.ResponseWriter as it is.
func problems(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, pattern := mux.Handler(r); pattern == "" {
			w = &unmatched{ResponseWriter: w, request: r}
		}
		mux.ServeHTTP(w, r)
	})
}

// unmatched takes the mux's own answers to requests that match no route; a redirect passes.
type unmatched struct {
	http.ResponseWriter
	request  *http.Request
	replaced bool
}

func (w *unmatched) WriteHeader(status int) {
	detail := auth.RedactURL(&url.URL{Path: w.request.URL.Path, RawPath: w.request.URL.RawPath})
	switch status {
	case http.StatusNotFound:
		detail = "there is nothing at " + detail
	case http.StatusMethodNotAllowed:
		detail += " takes " + w.Header().Get("Allow")
	default:
		w.ResponseWriter.WriteHeader(status)
		return
	}
	w.replaced = true
	problem.New(status, detail).Write(w.ResponseWriter)
}

func (w *unmatched) Write(p []byte) (int, error) {
	if w.replaced {
		return len(p), nil
	}
	return w.ResponseWriter.Write(p)
}

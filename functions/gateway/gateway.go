// Package gateway lets an ordinary [http.Handler] answer the events by which API Gateway or a Lambda Function URL
// invokes a function.
//
// [Handler] is for an HTTP API or a Function URL (payload format 2.0). The whole answer is held in memory and returned at
// once: a handler cannot flush, hijack or set deadlines of its own on the connection, and [http.ResponseController] tells
// it so. [Stream] is for a REST API (payload format 1.0) or a Function URL with response streaming: what the handler
// writes goes out at once.
package gateway

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/aws/aws-lambda-go/events"

	"github.com/event-piper/event-piper/core/problem"
)

// RequestIDHeader carries the API's own id of a request (requestContext.requestId), the one its access log
// shows. What the client sent under that name is replaced.
const RequestIDHeader = "X-Request-Id"

// Handler returns a Lambda function that answers with h. It fails only for an event that h cannot be asked
// about, such as one of another payload format; a panic of h is logged and answered with a bare 500, since
// it would otherwise end the process and make the next client wait for a cold start.
//
// The name of a stage that is in front of a path is taken off, unless the path is one of routes as it is: a custom domain
// serves a stage at its root, too, and a stage may be named like a route.
func Handler(h http.Handler, routes *http.ServeMux, log *slog.Logger) func(context.Context, events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
	return func(ctx context.Context, e events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
		r, err := newRequest(ctx, routes, e)
		if err != nil {
			return events.APIGatewayV2HTTPResponse{}, err
		}
		log := log.With("request_id", e.RequestContext.RequestID, "method", r.Method, "path", r.URL.Path)
		w := serve(h, r, log)
		if len(w.body) > maxBody {
			log.Error("answer is larger than Lambda can return", "bytes", len(w.body), "limit", maxBody)
			w = newResponse(r.Method)
			problem.New(http.StatusInternalServerError, "The answer is larger than this service can return: ask for less at a time.").Write(w)
		}
		return w.event(), nil
	}
}

// serve starts over with an empty response after a panic, so that the 500 carries nothing the handler had
// begun to say.
func serve(h http.Handler, r *http.Request, log *slog.Logger) (w *response) {
	defer func() {
		if cause := recover(); cause != nil {
			log.Error("handler panicked", "panic", fmt.Sprint(cause), "stack", string(debug.Stack()))
			w = newResponse(r.Method)
			problem.New(http.StatusInternalServerError, "").Write(w)
		}
	}()
	w = newResponse(r.Method)
	h.ServeHTTP(w, r)
	return w
}

// newRequest returns the request that an event of payload format 2.0 stands for.
func newRequest(ctx context.Context, routes *http.ServeMux, e events.APIGatewayV2HTTPRequest) (*http.Request, error) {
	if e.Version != "2.0" {
		return nil, fmt.Errorf("event has payload format %q, not 2.0: it does not come from an HTTP API or a Function URL, or the integration's PayloadFormatVersion is wrong", e.Version)
	}
	if a := e.RequestContext.Authorizer; a != nil && a.JWT != nil {
		ctx = withClaims(ctx, a.JWT.Claims)
	}
	return asked{
		method: e.RequestContext.HTTP.Method, protocol: e.RequestContext.HTTP.Protocol,
		path: e.RawPath, query: e.RawQueryString, stage: e.RequestContext.Stage,
		header: requestHeader(e), domain: e.RequestContext.DomainName,
		ip: e.RequestContext.HTTP.SourceIP, id: e.RequestContext.RequestID,
		body: e.Body, base64: e.IsBase64Encoded,
	}.request(ctx, routes)
}

// asked is what both payload formats say of a request.
type asked struct {
	method, protocol string
	path, query      string
	stage            string // what may be in front of the path
	header           http.Header
	domain, ip, id   string
	body             string
	base64           bool
}

// request returns the request a server would have read had the client connected to it directly. The
// context's deadline, which is the function's, goes along.
func (a asked) request(ctx context.Context, routes *http.ServeMux) (*http.Request, error) {
	body := a.body
	if a.base64 {
		b, err := base64.StdEncoding.DecodeString(body)
		if err != nil {
			return nil, fmt.Errorf("decode the event's body: %w", err)
		}
		body = string(b)
	}
	r := &http.Request{
		Method:        a.method,
		URL:           requestURL(a.path, a.query),
		Header:        a.header,
		Body:          io.NopCloser(strings.NewReader(body)),
		ContentLength: int64(len(body)),
		Host:          a.domain,
	}
	if body == "" {
		r.Body = http.NoBody
	}
	if _, route := routes.Handler(r); route == "" {
		r.URL = requestURL(withoutStage(a.path, a.stage), a.query)
	}
	r.RequestURI = r.URL.RequestURI()
	r.Proto = a.protocol
	if major, minor, ok := http.ParseHTTPVersion(r.Proto); ok {
		r.ProtoMajor, r.ProtoMinor = major, minor
	} else {
		r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/1.1", 1, 1
	}
	if host := r.Header.Get("Host"); host != "" {
		r.Host = host
	}
	r.Header.Del("Host") // a server moves it to the field
	r.Header.Del(RequestIDHeader)
	if a.id != "" {
		r.Header.Set(RequestIDHeader, a.id)
	}
	if a.ip != "" {
		r.RemoteAddr = net.JoinHostPort(a.ip, "0") // the port is not told, yet readers split one off
	}
	return r.WithContext(ctx), nil
}

// requestURL leaves the query as the client wrote it: the event's queryStringParameters join repeated
// values with commas, which cannot be undone.
func requestURL(raw, query string) *url.URL {
	if !strings.HasPrefix(raw, "/") {
		raw = "/" + raw
	}
	u := &url.URL{Path: raw, RawQuery: query}
	// A Function URL passes the path on escaped, an HTTP API may already have unescaped it: what is no
	// valid escaping is the path itself.
	if path, err := url.PathUnescape(raw); err == nil {
		u.Path, u.RawPath = path, raw
	}
	return u
}

// withoutStage takes the name of a stage off the path it prefixes. The stage $default is served at the root.
func withoutStage(path, stage string) string {
	if stage == "" || stage == "$default" {
		return path
	}
	rest, ok := strings.CutPrefix(path, "/"+stage)
	if !ok || rest != "" && rest[0] != '/' {
		return path
	}
	return rest
}

// requestHeader does not take apart what the gateway joined with commas: a value may hold commas of its own.
func requestHeader(e events.APIGatewayV2HTTPRequest) http.Header {
	h := make(http.Header, len(e.Headers)+2)
	for _, name := range slices.Sorted(maps.Keys(e.Headers)) {
		h.Add(name, e.Headers[name])
	}
	if len(e.Cookies) > 0 {
		h.Set("Cookie", strings.Join(e.Cookies, "; "))
	}
	return h
}

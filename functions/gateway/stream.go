package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/event-piper/event-piper/core/problem"
)

// Stream returns a Lambda function that answers with what h writes, as it is written: for a REST API whose
// integration streams responses (payload format 1.0), and for a Function URL that does (2.0). The request's context
// ends with the invocation, which is over only when h has returned. It is built with the tag lambda.norpc, or runs on
// one of the provided runtimes.
//
// A panic before h has answered becomes a bare 500. Afterwards it cuts the answer off, and the log has the cause.
func Stream(h http.Handler, routes *http.ServeMux, log *slog.Logger) func(context.Context, json.RawMessage) (*events.APIGatewayProxyStreamingResponse, error) {
	return func(ctx context.Context, payload json.RawMessage) (*events.APIGatewayProxyStreamingResponse, error) {
		ctx, cancel := context.WithCancel(ctx)
		r, err := decode(ctx, routes, payload)
		if err != nil {
			cancel()
			return nil, err
		}
		written, read := net.Pipe() // and not io.Pipe, which knows no deadlines
		w := &streamed{conn: written, header: make(http.Header), method: r.Method, ready: make(chan struct{})}
		body := &streamBody{Conn: read, cancel: cancel, done: make(chan struct{})}
		log := log.With("request_id", r.Header.Get(RequestIDHeader), "method", r.Method, "path", r.URL.Path)
		go func() { // ends before body.Close returns
			defer close(body.done)
			defer func() { _ = written.Close() }() // which never fails
			body.failure = w.serve(h, r, log)
		}()
		<-w.ready
		response := &events.APIGatewayProxyStreamingResponse{
			StatusCode: w.status, Headers: make(map[string]string, len(w.sent)), Cookies: w.sent["Set-Cookie"], Body: body,
		}
		for name, values := range w.sent {
			if name != "Set-Cookie" && len(values) > 0 {
				response.Headers[name] = strings.Join(values, ", ")
			}
		}
		return response, nil
	}
}

// decode returns the request that an event of either format stands for.
func decode(ctx context.Context, routes *http.ServeMux, payload json.RawMessage) (*http.Request, error) {
	var format struct{ Version, HTTPMethod string }
	if err := json.Unmarshal(payload, &format); err != nil {
		return nil, fmt.Errorf("read the event: %w", err)
	}
	if format.Version == "2.0" {
		var e events.APIGatewayV2HTTPRequest
		if err := json.Unmarshal(payload, &e); err != nil {
			return nil, fmt.Errorf("read the event: %w", err)
		}
		return newRequest(ctx, routes, e)
	}
	if format.HTTPMethod == "" {
		return nil, errors.New("the event comes neither from a REST API nor from a Function URL")
	}
	var e events.APIGatewayProxyRequest
	if err := json.Unmarshal(payload, &e); err != nil {
		return nil, fmt.Errorf("read the event: %w", err)
	}
	a := asked{
		method: e.HTTPMethod, protocol: e.RequestContext.Protocol,
		// The path comes without its stage. Parameters are decoded, and in no order.
		path: e.Path, query: url.Values(e.MultiValueQueryStringParameters).Encode(),
		header: make(http.Header, len(e.MultiValueHeaders)), domain: e.RequestContext.DomainName,
		ip: e.RequestContext.Identity.SourceIP, id: e.RequestContext.RequestID,
		body: e.Body, base64: e.IsBase64Encoded,
	}
	for name, values := range e.MultiValueHeaders {
		name = http.CanonicalHeaderKey(name)
		a.header[name] = append(a.header[name], values...)
	}
	if cookies := a.header["Cookie"]; len(cookies) > 1 {
		a.header.Set("Cookie", strings.Join(cookies, "; "))
	}
	return a.request(ctx, routes)
}

// streamed is an answer on its way. Its methods are called by the handler.
type streamed struct {
	conn   net.Conn
	method string
	header http.Header
	ready  chan struct{} // closed once status and sent are known

	once   sync.Once
	status int
	sent   http.Header
}

func (w *streamed) Header() http.Header { return w.header }

func (w *streamed) WriteHeader(status int) {
	if status < 200 { // informational ones cannot be passed on
		return
	}
	w.once.Do(func() {
		w.status, w.sent = status, w.header.Clone()
		close(w.ready)
	})
}

func (w *streamed) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	switch {
	case w.method == http.MethodHead:
		return len(p), nil
	case w.status == http.StatusNoContent || w.status == http.StatusNotModified:
		return 0, http.ErrBodyNotAllowed
	}
	return w.conn.Write(p)
}

// FlushError is for http.ResponseController: what was written is on its way already.
func (w *streamed) FlushError() error {
	w.WriteHeader(http.StatusOK)
	return nil
}

// SetWriteDeadline is for http.ResponseController.
func (w *streamed) SetWriteDeadline(t time.Time) error { return w.conn.SetWriteDeadline(t) }

// serve calls the handler, and returns what cut the answer off.
func (w *streamed) serve(h http.Handler, r *http.Request, log *slog.Logger) (failure error) {
	defer w.WriteHeader(http.StatusOK)
	defer func() {
		cause := recover()
		if cause == nil {
			return
		}
		if cause != http.ErrAbortHandler { //nolint:errorlint // net/http compares it like this
			log.Error("handler panicked", "panic", fmt.Sprint(cause), "stack", string(debug.Stack()))
		}
		select {
		case <-w.ready:
			failure = errors.New("the answer was cut off")
		default:
			clear(w.header)
			problem.New(http.StatusInternalServerError, "").Write(w)
		}
	}()
	h.ServeHTTP(w, r)
	return nil
}

// streamBody is the body as the runtime reads it.
type streamBody struct {
	net.Conn
	cancel  context.CancelFunc
	done    chan struct{} // closed when the handler has returned
	failure error         // what cut the answer off, known then
}

// Read returns io.EOF, or what cut the answer off, after the handler has returned.
func (b *streamBody) Read(p []byte) (int, error) {
	n, err := b.Conn.Read(p)
	if errors.Is(err, io.EOF) {
		if <-b.done; b.failure != nil {
			err = b.failure
		}
	}
	return n, err
}

// Close ends the request, and returns when the handler has.
func (b *streamBody) Close() error {
	b.cancel()
	err := b.Conn.Close()
	<-b.done
	return err
}

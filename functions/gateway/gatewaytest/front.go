//go:build unix

// Package gatewaytest is what AWS puts around a function's bootstrap: the Lambda Runtime API, environments
// that are started on demand, frozen and killed, and in front of them an API Gateway HTTP API that turns
// requests into events of payload format 2.0, or a REST API that streams answers (1.0). It runs the real binary, without Docker, for tests and for
// trying a function by hand.
//
// It leaves out what no test here needs: routes and authorizers, CORS, scaling rates,
// the sandbox's limits of CPU, memory and file system.
package gatewaytest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Config says what to run.
type Config struct {
	// Bootstrap is the function's executable, built for this machine.
	Bootstrap string
	// Env is what the function's configuration defines, as KEY=value. Nothing else is inherited.
	Env []string
	// Limit is the most environments at a time (reserved concurrency), 10 if zero. A request beyond it
	// gets a 503, as an HTTP API answers when Lambda throttles.
	Limit int
	// Timeout is the function's, 30 s if zero. An invocation that takes longer kills its environment.
	Timeout time.Duration
	// Stage is the API's named stage, which prefixes every path; without it, it is $default.
	Stage string
	// REST makes it a REST API whose integration streams responses (payload format 1.0).
	REST bool
	// Freeze stops every environment between invocations, as Lambda does.
	Freeze bool
	// Addr is where the API listens, a free port of 127.0.0.1 if empty.
	Addr string
	// Output takes what the bootstraps print, nowhere if nil. Environments write to it concurrently.
	Output io.Writer
	// Log takes what goes wrong around the bootstraps, nowhere if nil.
	Log *slog.Logger
}

// Front is a running API with its function.
type Front struct {
	// set at construction
	cfg    Config
	server *http.Server
	addr   string
	served sync.WaitGroup

	// guarded by mu
	mu     sync.Mutex
	closed bool
	envs   []*Environment
}

// Start serves the function until ctx ends or Close is called. It starts no environment before the first
// request.
func Start(ctx context.Context, cfg Config) (*Front, error) {
	var err error
	if cfg.Bootstrap, err = filepath.Abs(cfg.Bootstrap); err != nil {
		return nil, fmt.Errorf("find the bootstrap: %w", err)
	}
	if cfg.Limit == 0 {
		cfg.Limit = 10
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 30 * time.Second
	}
	if cfg.Addr == "" {
		cfg.Addr = "127.0.0.1:0"
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	l, err := net.Listen("tcp", cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("listen for requests: %w", err)
	}
	f := &Front{cfg: cfg, addr: l.Addr().String()}
	f.server = &http.Server{Handler: f, ReadHeaderTimeout: 10 * time.Second}
	f.served.Go(func() { _ = f.server.Serve(l) }) // ends with Close
	context.AfterFunc(ctx, f.Close)
	return f, nil
}

// URL is where the API answers, with the stage if it is a named one, and without a slash at the end.
func (f *Front) URL() string {
	u := "http://" + f.addr
	if f.cfg.Stage != "" {
		u += "/" + f.cfg.Stage
	}
	return u
}

// Environments returns those that are running now, oldest first.
func (f *Front) Environments() []*Environment {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.envs = slices.DeleteFunc(f.envs, (*Environment).gone)
	return slices.Clone(f.envs)
}

// Close ends the API and its environments, and returns when they are gone. Running invocations are lost.
func (f *Front) Close() {
	f.mu.Lock()
	f.closed = true
	envs := slices.Clone(f.envs)
	f.mu.Unlock()

	_ = f.server.Close()
	var stopping sync.WaitGroup
	for _, e := range envs {
		stopping.Go(e.stop)
	}
	stopping.Wait()
	f.served.Wait()
}

var (
	errThrottled = errors.New("as many environments as are allowed are busy")
	errClosed    = errors.New("closed")
)

// acquire returns an environment owned by the caller: an idle one, else a new one.
func (f *Front) acquire() (*Environment, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, errClosed
	}
	f.envs = slices.DeleteFunc(f.envs, (*Environment).gone)
	for _, e := range f.envs {
		if e.take() {
			return e, nil
		}
	}
	if len(f.envs) >= f.cfg.Limit {
		return nil, errThrottled
	}
	e, err := startEnvironment(f.cfg)
	if err != nil {
		return nil, err
	}
	f.envs = append(f.envs, e)
	return e, nil
}

// ServeHTTP answers as an HTTP API does, with messages that say as little as its own. A client that goes away
// does not end the invocation.
func (f *Front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := newID()
	w.Header().Set("Apigw-Requestid", id)
	if f.cfg.Stage != "" && r.URL.Path != "/"+f.cfg.Stage && !strings.HasPrefix(r.URL.Path, "/"+f.cfg.Stage+"/") {
		refuse(w, http.StatusNotFound)
		return
	}
	makeEvent := newEvent
	var stream func([]byte, io.Reader)
	begun := false
	if f.cfg.REST {
		makeEvent = newRESTEvent
		stream = func(prelude []byte, body io.Reader) { begun = writeStream(w, prelude, body) }
	}
	payload, err := makeEvent(r, f.cfg.Stage, id)
	if err != nil {
		f.cfg.Log.Warn("request cannot become an event", "error", err)
		refuse(w, http.StatusRequestEntityTooLarge)
		return
	}
	e, err := f.acquire()
	if errors.Is(err, errThrottled) {
		f.cfg.Log.Warn("throttled", "limit", f.cfg.Limit)
		refuse(w, http.StatusServiceUnavailable)
		return
	}
	if err != nil {
		f.cfg.Log.Error("no environment", "error", err)
		refuse(w, http.StatusInternalServerError)
		return
	}
	out, err := e.invoke(payload, stream)
	if err == nil && !begun {
		err = writeAnswer(w, out)
	}
	if err != nil {
		f.cfg.Log.Error("invocation failed", "pid", e.PID(), "error", err)
		if begun {
			panic(http.ErrAbortHandler) // the client sees that the answer is not whole
		}
		refuse(w, http.StatusInternalServerError)
	}
}

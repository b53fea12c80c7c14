//go:build unix

package gatewaytest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

const (
	functionARN = "arn:aws:lambda:eu-west-1:123456789012:function:local"

	// Lambda gives an environment 10 s to ask for its first invocation, and 500 ms to leave after SIGTERM.
	initTimeout     = 10 * time.Second
	shutdownTimeout = 500 * time.Millisecond
	// maxPayload is what Lambda carries in either direction of one invocation.
	maxPayload = 6 << 20
)

// Environment is one copy of the bootstrap with a Runtime API of its own. It serves one invocation at a
// time, as Lambda's do.
type Environment struct {
	// set at construction
	cmd     *exec.Cmd
	api     *http.Server
	log     *slog.Logger
	timeout time.Duration
	freeze  bool
	started time.Time
	work    chan *invocation // unbuffered: taken by the bootstrap's request for the next invocation
	// free holds a token while the environment is between invocations; whoever takes it owns the
	// environment until it is put back.
	free   chan struct{}
	ready  chan struct{} // closed at the first request for an invocation
	exited chan struct{} // closed when the process is gone and its output has been read

	// guarded by mu
	mu        sync.Mutex
	coldStart time.Duration
	current   *invocation
	sigterm   bool // an extension was registered, so Lambda ends the process gently
}

// invocation is one event on its way through an environment.
type invocation struct {
	id       string
	payload  []byte
	deadline time.Time
	// stream takes an answer that is streamed; nil if the front cannot. Copying is while it runs.
	stream  func(prelude []byte, body io.Reader)
	copying sync.WaitGroup
	answer  *result     // guarded by the environment's mu
	result  chan result // holds one, so that the bootstrap never waits for the asker
}

// end tells the asker what came of the invocation.
func (inv *invocation) end() {
	if inv.answer == nil {
		inv.answer = &result{err: errors.New("the bootstrap did not answer the invocation")}
	}
	inv.result <- *inv.answer
}

type result struct {
	payload []byte
	err     error
}

// startEnvironment returns an environment that is owned by the caller, as if its token had been taken.
func startEnvironment(cfg Config) (*Environment, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the Runtime API: %w", err)
	}
	e := &Environment{
		log:     cfg.Log,
		timeout: cfg.Timeout,
		freeze:  cfg.Freeze,
		started: time.Now(),
		work:    make(chan *invocation),
		free:    make(chan struct{}, 1),
		ready:   make(chan struct{}),
		exited:  make(chan struct{}),
	}
	e.cmd = exec.Command(cfg.Bootstrap)
	e.cmd.Dir = filepath.Dir(cfg.Bootstrap)
	e.cmd.Env = append(environ(cfg, l.Addr().String()), cfg.Env...)
	e.cmd.Stdout, e.cmd.Stderr = cfg.Output, cfg.Output
	e.cmd.WaitDelay = shutdownTimeout // for children of the bootstrap that keep its output open
	if err := e.cmd.Start(); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("start %s: %w", cfg.Bootstrap, err)
	}
	e.api = &http.Server{Handler: e.runtimeAPI(), ReadHeaderTimeout: initTimeout}
	go func() { _ = e.api.Serve(l) }() // ends with the Close below
	go func() {
		err := e.cmd.Wait()
		_ = e.api.Close()
		e.log.Debug("environment ended", "pid", e.PID(), "error", err)
		close(e.exited) // before the asker hears of it, who may ask again at once
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.current != nil {
			e.current.end()
			e.current = nil
		}
	}()
	return e, nil
}

// environ is what Lambda defines for every function, and little else: a setting that a developer's shell
// happens to have is not there.
func environ(cfg Config, api string) []string {
	return []string{
		"PATH=/usr/local/bin:/usr/bin:/bin",
		"LANG=en_US.UTF-8",
		"TZ=:UTC",
		"_HANDLER=bootstrap",
		"LAMBDA_TASK_ROOT=" + filepath.Dir(cfg.Bootstrap),
		"LAMBDA_RUNTIME_DIR=/var/runtime",
		"AWS_REGION=eu-west-1",
		"AWS_DEFAULT_REGION=eu-west-1",
		"AWS_LAMBDA_RUNTIME_API=" + api,
		"AWS_LAMBDA_FUNCTION_NAME=local",
		"AWS_LAMBDA_FUNCTION_VERSION=$LATEST",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE=256",
		"AWS_LAMBDA_INITIALIZATION_TYPE=on-demand",
		"AWS_LAMBDA_LOG_GROUP_NAME=/aws/lambda/local",
		"AWS_LAMBDA_LOG_STREAM_NAME=local/[$LATEST]" + rand.Text(),
	}
}

// PID is the bootstrap's process id.
func (e *Environment) PID() int { return e.cmd.Process.Pid }

// ColdStart is the time from the start of the process to its first request for an invocation, zero before.
func (e *Environment) ColdStart() time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.coldStart
}

// Idle reports whether the environment is between invocations.
func (e *Environment) Idle() bool { return len(e.free) == 1 }

// Pause stops the process (SIGSTOP) as Lambda freezes it between invocations, waiting for the end of a
// running one. The next invocation or Resume thaws it.
func (e *Environment) Pause(ctx context.Context) error { return e.signalIdle(ctx, syscall.SIGSTOP) }

// Resume thaws a paused process (SIGCONT) without an invocation.
func (e *Environment) Resume(ctx context.Context) error { return e.signalIdle(ctx, syscall.SIGCONT) }

func (e *Environment) signalIdle(ctx context.Context, s syscall.Signal) error {
	select {
	case <-e.free:
		defer e.release()
		return e.cmd.Process.Signal(s)
	case <-e.exited:
		return os.ErrProcessDone
	case <-ctx.Done():
		return fmt.Errorf("wait for the environment to be idle: %w", ctx.Err())
	}
}

func (e *Environment) release() {
	select {
	case e.free <- struct{}{}:
	default: // a bootstrap that asks twice is still one environment
	}
}

func (e *Environment) gone() bool {
	select {
	case <-e.exited:
		return true
	default:
		return false
	}
}

// take claims the environment if it is idle.
func (e *Environment) take() bool {
	select {
	case <-e.free:
		return true
	default:
		return false
	}
}

// invoke runs one invocation on an environment that the caller has taken. It returns when the bootstrap asks
// for the next one, which is later than its answer: only then is an invocation over, and a client that asks
// again at once finds the environment idle. The function's timeout starts when the event is handed over: a
// cold start has its own.
func (e *Environment) invoke(payload []byte, stream func(prelude []byte, body io.Reader)) ([]byte, error) {
	if err := e.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		return nil, fmt.Errorf("thaw: %w", err)
	}
	select {
	case <-e.ready:
	case <-e.exited:
		return nil, errors.New("the bootstrap ended before its first invocation")
	case <-time.After(initTimeout):
		e.kill()
		return nil, fmt.Errorf("the bootstrap did not ask for an invocation within %v", initTimeout)
	}

	inv := &invocation{id: newID(), payload: payload, stream: stream, deadline: time.Now().Add(e.timeout), result: make(chan result, 1)}
	e.mu.Lock()
	e.current = inv
	e.mu.Unlock()
	defer inv.copying.Wait() // its client's request ends with the invocation
	timeout := time.NewTimer(e.timeout)
	defer timeout.Stop()
	select {
	case e.work <- inv:
	case <-e.exited:
		return nil, errors.New("the bootstrap ended between invocations")
	case <-timeout.C:
		e.kill()
		return nil, errors.New("the bootstrap does not ask for invocations")
	}
	select { // its end, too, gives a result
	case r := <-inv.result:
		return r.payload, r.err
	case <-timeout.C:
		e.kill()
		return nil, fmt.Errorf("task timed out after %v", e.timeout)
	}
}

func (e *Environment) kill() {
	_ = e.cmd.Process.Kill()
	<-e.exited
}

// stop ends the process as Lambda does, SIGTERM first only if the bootstrap asked for it, and waits.
func (e *Environment) stop() {
	e.mu.Lock()
	gently := e.sigterm
	e.mu.Unlock()
	if gently {
		_ = e.cmd.Process.Signal(syscall.SIGCONT)
		_ = e.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-e.exited:
			return
		case <-time.After(shutdownTimeout):
		}
	}
	e.kill()
}

// runtimeAPI serves https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html, and as much of the
// Extensions API as a function needs that wants a SIGTERM.
func (e *Environment) runtimeAPI() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /2018-06-01/runtime/invocation/next", e.next)
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/response", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Content-Type") == streamedType {
			e.stream(w, r)
			return
		}
		payload, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxPayload))
		if err != nil {
			e.finish(w, r, http.StatusRequestEntityTooLarge, result{err: fmt.Errorf("read the response: %w", err)})
			return
		}
		e.finish(w, r, http.StatusAccepted, result{payload: payload})
	})
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/error", func(w http.ResponseWriter, r *http.Request) {
		e.finish(w, r, http.StatusAccepted, result{err: functionError(r)})
	})
	mux.HandleFunc("POST /2018-06-01/runtime/init/error", func(w http.ResponseWriter, r *http.Request) {
		e.log.Error("bootstrap failed to start", "pid", e.PID(), "error", functionError(r))
		accept(w, http.StatusAccepted)
	})
	mux.HandleFunc("POST /2020-01-01/extension/register", func(w http.ResponseWriter, _ *http.Request) {
		e.mu.Lock()
		e.sigterm = true
		e.mu.Unlock()
		w.Header().Set("Lambda-Extension-Identifier", newID())
		_, _ = io.WriteString(w, `{"functionName":"local","functionVersion":"$LATEST","handler":"bootstrap"}`)
	})
	mux.HandleFunc("GET /2020-01-01/extension/event/next", func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done() // no event is sent to an extension that registered for none
	})
	return mux
}

func (e *Environment) next(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	if e.coldStart == 0 {
		e.coldStart = time.Since(e.started)
		close(e.ready)
	}
	if inv := e.current; inv != nil {
		e.current = nil
		if e.freeze {
			_ = e.cmd.Process.Signal(syscall.SIGSTOP)
		}
		e.release()
		inv.end()
	}
	e.mu.Unlock()

	select {
	case inv := <-e.work:
		h := w.Header()
		h.Set("Content-Type", "application/json")
		h.Set("Lambda-Runtime-Aws-Request-Id", inv.id)
		h.Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(inv.deadline.UnixMilli(), 10))
		h.Set("Lambda-Runtime-Invoked-Function-Arn", functionARN)
		h.Set("Lambda-Runtime-Trace-Id", "Root=1-"+inv.id+";Parent=0;Sampled=0")
		_, _ = w.Write(inv.payload) // a bootstrap that is gone is noticed by its exit
	case <-r.Context().Done():
	}
}

// streamedType is what a function's answer has that is streamed. Lambda's runtime for Go sends no
// Lambda-Runtime-Function-Response-Mode.
const streamedType = "application/vnd.awslambda.http-integration-response"

// stream passes an answer on as it comes: JSON with status and headers, eight zero bytes, and the body. An error of the
// function comes as a trailer.
func (e *Environment) stream(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	inv := e.current
	if inv == nil || inv.id != r.PathValue("id") || inv.stream == nil {
		e.mu.Unlock()
		accept(w, http.StatusBadRequest)
		return
	}
	inv.copying.Add(1)
	e.mu.Unlock()
	defer inv.copying.Done()
	body := bufio.NewReader(r.Body)
	var prelude []byte
	for !bytes.HasSuffix(prelude, make([]byte, 8)) {
		b, err := body.ReadByte()
		if err != nil || len(prelude) > maxPayload {
			e.finish(w, r, http.StatusBadRequest, result{err: errors.New("the streamed answer does not begin with a prelude")})
			return
		}
		prelude = append(prelude, b)
	}
	inv.stream(prelude[:len(prelude)-8], body)
	var res result
	if _, err := io.Copy(io.Discard, body); err != nil { // Lambda does not tell a function that its client has left
		res.err = fmt.Errorf("read the streamed answer: %w", err)
	} else if cause := r.Trailer.Get("Lambda-Runtime-Function-Error-Type"); cause != "" {
		res.err = fmt.Errorf("the function failed while it streamed: %s", cause)
	}
	e.finish(w, r, http.StatusAccepted, res)
}

// finish keeps the answer to the running invocation until that is over.
func (e *Environment) finish(w http.ResponseWriter, r *http.Request, status int, res result) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.current == nil || e.current.id != r.PathValue("id") {
		accept(w, http.StatusBadRequest)
		return
	}
	e.current.answer = &res
	accept(w, status)
}

func accept(w http.ResponseWriter, status int) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"status":%q}`, http.StatusText(status))
}

// functionError reads what a runtime reports about a failure.
func functionError(r *http.Request) error {
	var report struct {
		Type    string `json:"errorType"`
		Message string `json:"errorMessage"`
	}
	if err := json.NewDecoder(io.LimitReader(r.Body, maxPayload)).Decode(&report); err != nil {
		return fmt.Errorf("function failed with a report that cannot be read: %w", err)
	}
	return fmt.Errorf("function failed: %s: %s", report.Type, report.Message)
}

func newID() string { return rand.Text() }

//go:build unix

package gatewaytest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/event-piper/event-piper/functions/gateway/gatewaytest"
)

var bootstrap string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "bootstrap")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	bootstrap = filepath.Join(dir, "bootstrap")
	if out, err := exec.Command("go", "build", "-tags", gatewaytest.BuildTags, "-o", bootstrap, "./testdata/bootstrap").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the bootstrap: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

func start(t *testing.T, cfg gatewaytest.Config) *gatewaytest.Front {
	t.Helper()
	cfg.Bootstrap = bootstrap
	f, err := gatewaytest.Start(t.Context(), cfg)
	if err != nil {
		t.Fatalf("start: %v", err)
	}
	t.Cleanup(f.Close)
	return f
}

// get returns the status, headers and body of the answer.
func get(t *testing.T, url string) (int, http.Header, string) {
	t.Helper()
	res, err := http.Get(url) //nolint:noctx // ends with the front
	if err != nil {
		t.Fatalf("get %s: %v", url, err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("read the answer of %s: %v", url, err)
	}
	return res.StatusCode, res.Header, string(body)
}

type echo struct {
	Path, Query    string
	Header, Cookie []string
	Body           []byte
	PID            int
	Invocations    int
	Setting, Home  string
}

func getEcho(t *testing.T, url string) echo {
	t.Helper()
	status, _, body := get(t, url)
	var e echo
	if err := json.Unmarshal([]byte(body), &e); status != http.StatusOK || err != nil {
		t.Fatalf("get %s: got %d %s (%v), want 200 with JSON", url, status, body, err)
	}
	return e
}

func TestRequestArrivesAsItWasSent(t *testing.T) {
	for _, stage := range []string{"", "live"} {
		t.Run("stage "+stage, func(t *testing.T) {
			f := start(t, gatewaytest.Config{Stage: stage, Env: []string{"SETTING=value"}})
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.URL()+"/echo/a%20b?types=a&types=b%2Cc", strings.NewReader("\x00\xff"))
			if err != nil {
				t.Fatal(err)
			}
			r.Header["X-Values"] = []string{"1", "2"}
			r.Header.Set("Cookie", "c=3; d=4")
			res, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatalf("post: %v", err)
			}
			defer func() { _ = res.Body.Close() }()
			var got echo
			if err := json.NewDecoder(res.Body).Decode(&got); err != nil {
				t.Fatalf("read the answer: %v", err)
			}
			got.PID = 0
			want := echo{
				Path: "/echo/a b", Query: "types=a&types=b%2Cc", Header: []string{"1,2"}, Cookie: []string{"c=3; d=4"},
				Body: []byte("\x00\xff"), Invocations: 1, Setting: "value",
			}
			if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
			if got, want := fmt.Sprint(res.Header["Set-Cookie"]), "[a=1 b=2]"; got != want {
				t.Errorf("cookies of the answer: got %s, want %s", got, want)
			}
		})
	}
}

func TestBytesSurvive(t *testing.T) {
	f := start(t, gatewaytest.Config{})
	if status, h, body := get(t, f.URL()+"/bytes"); status != 200 || body != "\x00\xff" || h.Get("Content-Type") != "application/octet-stream" {
		t.Errorf("got %d %v %q, want the bytes 00 ff", status, h, body)
	}
}

func TestOutsideTheStageIsTheGatewaysOwn404(t *testing.T) {
	f := start(t, gatewaytest.Config{Stage: "live"})
	url := strings.TrimSuffix(f.URL(), "/live") + "/liver"
	if status, _, body := get(t, url); status != 404 || body != `{"message":"Not Found"}` {
		t.Errorf("got %d %s, want 404 Not Found", status, body)
	}
	if n := len(f.Environments()); n != 0 {
		t.Errorf("got %d environments for a request that does not reach the function, want 0", n)
	}
}

func TestAnEnvironmentIsReusedAndSurvivesAFreeze(t *testing.T) {
	f := start(t, gatewaytest.Config{Limit: 1, Freeze: true})
	first := getEcho(t, f.URL()+"/echo/")
	e := f.Environments()[0]
	if e.PID() != first.PID || e.ColdStart() <= 0 || !e.Idle() {
		t.Errorf("environment: got pid %d, cold start %v, idle %v, want pid %d, a duration, idle", e.PID(), e.ColdStart(), e.Idle(), first.PID)
	}
	if err := e.Pause(t.Context()); err != nil {
		t.Fatalf("pause: %v", err)
	}
	if err := e.Resume(t.Context()); err != nil {
		t.Fatalf("resume: %v", err)
	}
	if err := e.Pause(t.Context()); err != nil {
		t.Fatalf("pause again: %v", err)
	}
	second := getEcho(t, f.URL()+"/echo/")
	if second.PID != first.PID || second.Invocations != 2 {
		t.Errorf("second request: got invocation %d of pid %d, want 2 of %d", second.Invocations, second.PID, first.PID)
	}
}

func TestOneRequestAtATimePerEnvironmentUpToTheLimit(t *testing.T) {
	f := start(t, gatewaytest.Config{Limit: 2})
	held := make(chan struct{}, 2)
	letGo := make(chan struct{})
	gate := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		held <- struct{}{}
		<-letGo
	}))
	defer gate.Close()

	var waiting sync.WaitGroup
	for range 2 {
		waiting.Go(func() {
			res, err := http.Get(f.URL() + "/hold?until=" + gate.URL) //nolint:noctx // ends with the gate
			if err != nil {
				t.Errorf("hold: %v", err)
				return
			}
			_ = res.Body.Close()
			if res.StatusCode != 200 {
				t.Errorf("hold: got %d, want 200", res.StatusCode)
			}
		})
	}
	<-held
	<-held
	if n := len(f.Environments()); n != 2 {
		t.Errorf("got %d environments for two requests at a time, want 2", n)
	}
	if status, _, body := get(t, f.URL()+"/echo/"); status != 503 || body != `{"message":"Service Unavailable"}` {
		t.Errorf("a third request: got %d %s, want 503", status, body)
	}
	busy := f.Environments()[0]
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := busy.Pause(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("pause during an invocation: got %v, want it to wait", err)
	}
	close(letGo)
	waiting.Wait()
	if status, _, _ := get(t, f.URL()+"/echo/"); status != 200 {
		t.Errorf("a request after the others: got %d, want 200", status)
	}
}

func TestDeadlineIsTheFunctionsTimeout(t *testing.T) {
	f := start(t, gatewaytest.Config{Timeout: time.Hour})
	before := time.Now()
	_, _, body := get(t, f.URL()+"/deadline")
	deadline, err := time.Parse(time.RFC3339Nano, body)
	if err != nil || deadline.Before(before.Add(time.Hour-time.Second)) || deadline.After(time.Now().Add(time.Hour)) {
		t.Errorf("got deadline %q (%v), want one hour after the request", body, err)
	}
}

func TestWhatGoesWrongIsABare500AndTheNextRequestStartsAnew(t *testing.T) {
	for name, path := range map[string]string{"timeout": "/sleep", "exit": "/exit"} {
		t.Run(name, func(t *testing.T) {
			f := start(t, gatewaytest.Config{Limit: 1, Timeout: time.Second})
			if status, _, body := get(t, f.URL()+path); status != 500 || body != `{"message":"Internal Server Error"}` {
				t.Errorf("got %d %s, want a bare 500", status, body)
			}
			if got := getEcho(t, f.URL()+"/echo/"); got.Invocations != 1 {
				t.Errorf("after it: got invocation %d of an environment, want the first of a new one", got.Invocations)
			}
		})
	}
}

func TestAPanicDoesNotEndTheEnvironment(t *testing.T) {
	f := start(t, gatewaytest.Config{Limit: 1})
	pid := getEcho(t, f.URL()+"/echo/").PID
	if status, h, body := get(t, f.URL()+"/panic"); status != 500 || h.Get("Content-Type") != "application/problem+json" || strings.Contains(body, "hidden") {
		t.Errorf("got %d %v %s, want a 500 problem that hides the panic", status, h, body)
	}
	if got := getEcho(t, f.URL()+"/echo/").PID; got != pid {
		t.Errorf("after the panic: got pid %d, want %d still", got, pid)
	}
}

func TestABootstrapThatDoesNotStart(t *testing.T) {
	f := start(t, gatewaytest.Config{Env: []string{"EXIT=1"}})
	if status, _, _ := get(t, f.URL()+"/echo/"); status != 500 {
		t.Errorf("got %d, want 500", status)
	}
}

func TestCloseEndsGentlyWhereTheFunctionAskedForIt(t *testing.T) {
	var out output
	f := start(t, gatewaytest.Config{Env: []string{"SIGTERM=1"}, Freeze: true, Output: &out})
	getEcho(t, f.URL()+"/echo/")
	f.Close()
	if n := len(f.Environments()); n != 0 {
		t.Errorf("got %d environments after Close, want 0", n)
	}
	if got := out.String(); !strings.Contains(got, "leaving gently") {
		t.Errorf("got output %q, want the handler of SIGTERM to have run", got)
	}
}

// output collects what several processes print.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

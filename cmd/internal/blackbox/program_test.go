//go:build unix

package blackbox_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// program is one of the binaries, running.
type program struct {
	name           string
	cmd            *exec.Cmd
	stdout, stderr *lines
	exited         chan struct{} // closed when the process has ended and all it printed is there
	addr           string        // host:port once it listens
}

// launch starts a binary with nothing in its environment but these variables and what every process has.
func launch(t testing.TB, name string, args []string, env ...string) *program {
	t.Helper()
	p := &program{
		name: name, cmd: exec.Command(binary(t, name), args...),
		stdout: newLines(), stderr: newLines(), exited: make(chan struct{}),
	}
	p.cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "LANG=C.UTF-8",
		"ADDRESS=127.0.0.1", "PORT=0", "LOG_FORMAT=json", "GORACE=halt_on_error=1",
	}, env...)
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // as a shell starts what it runs
	p.cmd.WaitDelay = patience
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // its exit code is asked for below
		p.stdout.end()
		p.stderr.end()
		close(p.exited)
	}()
	t.Cleanup(func() {
		if !p.over() {
			_ = p.cmd.Process.Kill()
			<-p.exited
		}
		for _, line := range p.stderr.list() {
			for _, sign := range []string{"DATA RACE", "panic:", `"level":"ERROR"`} {
				if strings.Contains(line, sign) {
					t.Errorf("want %s to log no error, got %s", name, line)
				}
			}
		}
		if t.Failed() {
			t.Logf("%s printed last:\n%s", name, p.stderr.last())
		}
	})
	return p
}

// start launches a server and waits until it listens.
func start(t testing.TB, name string, env ...string) *program {
	t.Helper()
	p := launch(t, name, nil, env...)
	p.awaitListening(t)
	return p
}

func (p *program) awaitListening(t testing.TB) {
	t.Helper()
	line := p.awaitLog(t, "listening")
	p.addr, _ = line["address"].(string)
}

func (p *program) url(path string) string { return "http://" + p.addr + path }

// awaitLog waits for a line of the log with this message, and returns it.
func (p *program) awaitLog(t testing.TB, message string) map[string]any {
	t.Helper()
	var found map[string]any
	p.stderr.await(t, p.name+" to log "+strconv.Quote(message), func(line string) bool {
		found = nil
		return json.Unmarshal([]byte(line), &found) == nil && found["msg"] == message
	})
	return found
}

func (p *program) signal(t testing.TB, s os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatalf("send %v to %s: %v", s, p.name, err)
	}
}

func (p *program) over() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// exit waits for the process to end, and checks its exit code.
func (p *program) exit(t testing.TB, code int) {
	t.Helper()
	select {
	case <-p.exited:
	case <-time.After(patience):
		t.Fatalf("want %s to end, but it still runs after %v", p.name, patience)
	}
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		t.Errorf("want %s to exit with %d, got %d (%v)", p.name, code, got, p.cmd.ProcessState)
	}
}

// stop ends a server as an operator does.
func (p *program) stop(t testing.TB) {
	t.Helper()
	p.signal(t, syscall.SIGTERM)
	p.exit(t, 0)
}

// rss is the process's resident memory in MB.
func (p *program) rss(t testing.TB) int {
	t.Helper()
	out, err := exec.Command("ps", "-o", "rss=", "-p", strconv.Itoa(p.cmd.Process.Pid)).Output()
	kb, errNumber := strconv.Atoi(strings.TrimSpace(string(out)))
	if err := errors.Join(err, errNumber); err != nil {
		t.Fatalf("ask ps for memory: %v", err)
	}
	return kb >> 10
}

// lines keeps what a process prints.
type lines struct {
	mu      sync.Mutex
	rest    []byte
	all     []string
	ended   bool
	changed chan struct{} // closed and replaced at every change
}

func newLines() *lines { return &lines{changed: make(chan struct{})} }

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = append(l.rest, p...)
	for {
		line, rest, found := bytes.Cut(l.rest, []byte("\n"))
		if !found {
			return len(p), nil
		}
		l.all, l.rest = append(l.all, string(line)), rest
		l.change()
	}
}

func (l *lines) change() {
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *lines) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.rest) > 0 {
		l.all, l.rest = append(l.all, string(l.rest)), nil
	}
	l.ended = true
	l.change()
}

func (l *lines) list() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.all)
}

// last is the end of what there is.
func (l *lines) last() string {
	all := l.list()
	return strings.Join(all[max(0, len(all)-20):], "\n")
}

// await waits for a line.
func (l *lines) await(t testing.TB, what string, is func(line string) bool) {
	t.Helper()
	timeout := time.After(patience)
	for seen := 0; ; {
		l.mu.Lock()
		fresh, ended, changed := l.all[seen:], l.ended, l.changed
		l.mu.Unlock()
		for _, line := range fresh {
			if is(line) {
				return
			}
		}
		seen += len(fresh)
		if ended {
			t.Fatalf("want %s, but it has ended", what)
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("want %s, but not within %v", what, patience)
		}
	}
}

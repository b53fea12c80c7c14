package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/event-piper/event-piper/functions/gateway/gatewaytest"
)

// buildPrograms builds what is under test, where its own module pins what it depends on.
func buildPrograms(ctx context.Context, dir string) error {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		return fmt.Errorf("find the sources of %s: %w", module, err)
	}
	for _, program := range []struct{ name, path, tags string }{
		{"stream", "cmd/stream", ""},
		{"poll", "cmd/poll", ""},
		{"bootstrap", "functions/poll", gatewaytest.BuildTags},
		{"bootstrap-stream", "functions/stream", gatewaytest.BuildTags},
	} {
		//nolint:gosec // into a directory of our own
		build := exec.CommandContext(ctx, "go", "build", "-tags", program.tags, "-o", filepath.Join(dir, program.name), module+"/"+program.path)
		build.Dir = strings.TrimSpace(string(root))
		if output, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", program.name, err, output)
		}
	}
	return nil
}

const module = "github.com/event-piper/event-piper"

// program is one of the binaries, which faults stop, kill and start again at the same address.
type program struct {
	// set at construction
	name    string
	path    string
	args    []string
	env     []string
	uid     int // 0: our own
	gid     int
	address string // host:port
	health  string // path
	log     *os.File

	mu        sync.Mutex
	cmd       *exec.Cmd     // guarded by mu
	exited    chan struct{} // guarded by mu: of the cmd
	killed    bool          // guarded by mu: by us
	crashes   []string      // guarded by mu: ends that nobody asked for
	unstarted []string      // guarded by mu: starts that failed, as they do without the database
}

// environment is what a program gets besides its settings: PG* variables are about some other database.
func environment(settings ...string) []string {
	return append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "LANG=C.UTF-8", "ADDRESS=127.0.0.1", "LOG_FORMAT=json",
	}, settings...)
}

func newProgram(dir, name, binary string, settings ...string) (*program, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(address)
	//nolint:gosec // a directory of our own
	log, err := os.OpenFile(filepath.Join(dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	return &program{
		name: name, path: binary, address: address, health: "/manage/health", log: log,
		env: environment(append(settings, "PORT="+port)...),
	}, nil
}

// start starts the program; it does not wait until it is ready.
func (p *program) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		return nil
	}
	cmd := exec.Command(p.path, p.args...) //nolint:gosec // what was built before
	cmd.Env, cmd.Stdout, cmd.Stderr = p.env, p.log, p.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if p.uid != 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(p.uid), Gid: uint32(p.gid)} //nolint:gosec // of a user
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	exited, began := make(chan struct{}), time.Now()
	p.cmd, p.exited, p.killed = cmd, exited, false
	go func() {
		err := cmd.Wait()
		p.mu.Lock()
		switch {
		case p.killed:
		case cmd.ProcessState.ExitCode() == 1 && time.Since(began) < startLimit:
			p.unstarted = append(p.unstarted, fmt.Sprintf("%s did not start at %s: %v", p.name, began.Format(time.TimeOnly), err))
		default:
			p.crashes = append(p.crashes, fmt.Sprintf("%s ended by itself at %s: %v", p.name, time.Now().Format(time.TimeOnly), err))
		}
		p.cmd = nil
		p.mu.Unlock()
		close(exited)
	}()
	return nil
}

// kill ends the program without a word to its clients, and returns when it is gone.
func (p *program) kill() { p.end(syscall.SIGKILL) }

// stop ends it as an operator does.
func (p *program) stop() { p.end(syscall.SIGTERM) }

func (p *program) end(s syscall.Signal) {
	p.mu.Lock()
	cmd, exited := p.cmd, p.exited
	p.killed = true
	p.mu.Unlock()
	if cmd == nil {
		return
	}
	_ = cmd.Process.Signal(s)
	select {
	case <-exited:
	case <-time.After(30 * time.Second):
		_ = cmd.Process.Kill()
		<-exited
	}
}

// signal sends one to the program, if it runs.
func (p *program) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		_ = p.cmd.Process.Signal(s)
	}
}

func (p *program) pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// startLimit is how long a server may take to start, or to say why it cannot.
const startLimit = 20 * time.Second

// ended tells of the ends that nobody asked for. Among them are not starts that failed, if the database may have been away.
func (p *program) ended(away bool) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if away {
		return p.crashes
	}
	return append(p.crashes, p.unstarted...)
}

// awaitUp waits until a server says that it delivers.
func awaitUp(ctx context.Context, base string) error {
	for {
		if askHealth(ctx, base) == up {
			return nil
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return fmt.Errorf("%s does not get ready: %w", base, err)
		}
	}
}

// state is what a health check says.
type state string

const (
	up     state = "UP"
	down   state = "DOWN"
	silent state = "silent" // no answer, or one that is not the server's
)

var healthClient = &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

func askHealth(ctx context.Context, base string) state {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/manage/health", nil)
	if err != nil {
		return silent
	}
	response, err := healthClient.Do(r)
	if err != nil {
		return silent
	}
	_ = response.Body.Close()
	switch response.StatusCode {
	case http.StatusOK:
		return up
	case http.StatusServiceUnavailable:
		return down
	}
	return silent
}

// freeAddress is an address of the loopback interface that nobody listens on, below the ports that clients are given: a
// server that is killed must find its port free again.
func freeAddress() (string, error) {
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", 20000+ports.next())
		if listener, err := net.Listen("tcp4", address); err == nil {
			return address, listener.Close()
		}
	}
	return "", fmt.Errorf("no free port")
}

var ports = &counter{n: os.Getpid() * 37}

type counter struct {
	mu sync.Mutex
	n  int
}

func (c *counter) next() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	return c.n % 10000
}

// sleep waits, unless the context ends before.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

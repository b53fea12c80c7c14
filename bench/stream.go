//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/event-piper/event-piper/postgresql/devdb"
)

const programs = "github.com/event-piper/event-piper/cmd/"

// build builds a program under test.
func build(ctx context.Context, dir, program string) (string, error) {
	path := filepath.Join(dir, program)
	build := exec.CommandContext(ctx, "go", "build", "-o", path, programs+program) //nolint:gosec // into a directory of our own
	output, err := build.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", program, err, output)
	}
	return path, nil
}

// process is a server that is being measured.
type process struct {
	cmd     *exec.Cmd
	address string
	perf    *exec.Cmd // samples it, if wanted
}

// startServer starts a server over a database, with settings on top of its defaults, and returns
// when it is ready.
func (b *bench) startServer(ctx context.Context, program, dsn string, settings ...string) (*process, error) {
	address := freeAddress()
	_, port, _ := net.SplitHostPort(address)
	cmd := exec.CommandContext(ctx, program)
	for _, variable := range os.Environ() {
		// PG* variables are about some other database.
		if !strings.HasPrefix(variable, "PG") {
			cmd.Env = append(cmd.Env, variable)
		}
	}
	cmd.Env = append(cmd.Env, "DATABASE_URL="+dsn, "PORT="+port, "LOG_LEVEL=warn", "LOG_FORMAT=text", "DRAIN_TIME=1s",
		"MAX_SESSIONS=19500", "MAX_SESSIONS_PER_CONSUMER=20000")
	cmd.Env = append(cmd.Env, settings...)
	p, err := start(ctx, cmd, address, "/manage/health")
	if err == nil && b.perf != "" {
		b.record(p)
	}
	return p, err
}

// record has perf(1) sample a server until it ends.
func (b *bench) record(p *process) {
	b.recorded++
	file := filepath.Join(b.perf, fmt.Sprintf("%s-%d.data", b.scenario, b.recorded))
	//nolint:gosec // the directory is the user's choice
	p.perf = exec.Command("perf", "record", "-q", "-g", "-F", "499", "-o", file, "-p", strconv.Itoa(p.pid()))
	p.perf.Stderr = os.Stderr
	if err := p.perf.Start(); err != nil {
		b.complain(fmt.Errorf("-perf: %w", err))
		p.perf = nil
	}
}

// start starts a server and waits until it answers on a path.
func start(ctx context.Context, cmd *exec.Cmd, address, path string) (*process, error) {
	cmd.Stderr = os.Stderr
	// So that nothing is left behind when the benchmark is killed.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, address: address}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, nil)
		if err != nil {
			return nil, err
		}
		response, err := http.DefaultClient.Do(request)
		if err == nil {
			_ = response.Body.Close()
			if response.StatusCode < http.StatusInternalServerError {
				return p, nil
			}
		}
		select {
		case <-ctx.Done():
			p.stop()
			return nil, fmt.Errorf("%s does not get ready: %w", filepath.Base(cmd.Path), errors.Join(ctx.Err(), err))
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	p.wait()
}

// kill ends the process without a word to its clients.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	p.wait()
}

func (p *process) wait() {
	_ = p.cmd.Wait() // how it ended is of no interest
	if p.perf != nil {
		_ = p.perf.Wait()
	}
}

// freeAddress is an address of the loopback interface that nobody listens on.
func freeAddress() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(devdb.FreePort())) }

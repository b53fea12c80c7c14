package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"github.com/event-piper/event-piper/postgresql/devdb"
)

// service is the program under restarts. Its port stays the same.
type service struct {
	binary, dsn, url string
	address          string
	cmd              *exec.Cmd
}

func (s *service) start() error {
	if s.address == "" {
		s.address = net.JoinHostPort("127.0.0.1", strconv.Itoa(devdb.FreePort()))
		s.url = "http://" + s.address
	}
	_, port, err := net.SplitHostPort(s.address)
	if err != nil {
		return err
	}
	s.cmd = exec.Command(s.binary) //nolint:gosec // the caller names the binary
	s.cmd.Env = append(os.Environ(), "DATABASE_URL="+s.dsn, "ADDRESS=127.0.0.1", "PORT="+port,
		"HEARTBEAT_INTERVAL=500ms", "RETRY=300ms", "DRAIN_TIME=1s", "LOG_LEVEL=warn")
	s.cmd.Stderr = os.Stderr
	if err := s.cmd.Start(); err != nil {
		return err
	}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if response, err := http.Get(s.url + "/manage/health"); err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
	}
	s.kill()
	return fmt.Errorf("%s has not become healthy", s.binary)
}

// restart ends the service with a signal, three times, and leaves it down for a moment.
func (s *service) restart(ctx context.Context, signal syscall.Signal) error {
	for range 3 {
		if err := s.cmd.Process.Signal(signal); err != nil {
			return err
		}
		_ = s.cmd.Wait() // killed, it says so
		if err := wait(ctx, 300*time.Millisecond); err != nil {
			return err
		}
		if err := s.start(); err != nil {
			return err
		}
		if err := wait(ctx, 700*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

func (s *service) kill() {
	if s.cmd.ProcessState == nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
	}
}

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"syscall"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/event-piper/event-piper/postgresql/devdb"
)

// world is what the clients of a scenario share.
type world struct {
	service *service
	db      *pgxpool.Pool
}

// service is the program under test, which is started again at the same address.
type service struct {
	address string
	process *exec.Cmd
}

var listening = regexp.MustCompile(`"msg":"listening","address":"([^"]*)"`)

func startService(ctx context.Context) (*service, error) {
	s := &service{address: net.JoinHostPort("127.0.0.1", strconv.Itoa(devdb.FreePort()))}
	return s, s.start(ctx)
}

func (s *service) start(ctx context.Context) error {
	port := s.address[len("127.0.0.1:"):]
	s.process = exec.CommandContext(ctx, os.Getenv("STREAM")) //nolint:gosec // the program under test
	s.process.Env = append(os.Environ(), "PORT="+port, "ADDRESS=127.0.0.1", "LOG_FORMAT=json",
		// Clients come back soon, and two sessions of a consumer are too many.
		"RETRY=200ms", "DRAIN_TIME=1s", "MAX_SESSIONS_PER_CONSUMER=2")
	stderr, err := s.process.StderrPipe()
	if err != nil {
		return err
	}
	if err := s.process.Start(); err != nil {
		return err
	}
	for log := bufio.NewScanner(stderr); log.Scan(); {
		if m := listening.FindSubmatch(log.Bytes()); m != nil {
			s.address = string(m[1])
			go func() { _, _ = io.Copy(io.Discard, stderr) }()
			return nil
		}
		if !regexp.MustCompile(`"level":"INFO"`).Match(log.Bytes()) {
			fmt.Fprintln(os.Stderr, log.Text())
		}
	}
	return fmt.Errorf("the service did not start: %w", s.process.Wait())
}

// stop drains the service and waits for its end.
func (s *service) stop() {
	_ = s.process.Process.Signal(syscall.SIGTERM)
	_ = s.process.Wait()
}

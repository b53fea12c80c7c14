// Package devdb runs a PostgreSQL server for development and tests.
//
// The server never outlives the program that started it. Start re-executes the program as a small
// supervisor that owns the server and holds the other end of a pipe: when the pipe closes, because of
// Stop or because the program is gone however it died, the supervisor stops PostgreSQL, removes what
// was temporary and ends. A program that uses devdb must call [Supervise] first thing in main.
//
// The server takes the binaries installed on the machine, or else downloads some. It listens on
// localhost only, and its password is no secret: it is no place for data that matters.
package devdb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// name is the server's user, its password and its database, all three.
const name = "event_piper"

// Options says what server to run. The zero value is a temporary one on any free port.
type Options struct {
	// DataDir keeps the data, in a subdirectory. It must be new, empty, or one that an earlier server has
	// filled; anything else in it is left alone and is an error. Without it the data is temporary:
	// removed at stop, and not safe against a crash of the machine.
	DataDir string
	// Port is the wanted TCP port. When it is 0 or taken, the server listens on a free one.
	Port int
	// Log hears what is started; nil is silence.
	Log *slog.Logger
	// Parameters are settings as in postgresql.conf, over the ones devdb chooses.
	Parameters map[string]string
}

// Server is a PostgreSQL server that was started by Start. Its methods may be called concurrently.
type Server struct {
	// Set at construction.
	dsn     string
	cmd     *exec.Cmd
	replies chan reply    // one for the start, one for each command; closed when there will be no more
	done    chan struct{} // closed when the supervisor has been waited for

	// Guarded by mu, which is held from a command until its reply.
	mu    sync.Mutex
	stdin io.WriteCloser
}

// job is what a supervisor is to do; it travels in the environment variable of the same name.
type job struct {
	DataDir    string
	Port       int
	Parameters map[string]string
	Binaries   string // the directory above bin; empty to download
	Version    string
	Cache      string // for downloads
}

// reply is a line of the supervisor's standard output.
type reply struct {
	Port  int
	Error string
}

// Start starts a server and returns when it accepts connections. An error is one line that says what
// PostgreSQL complained about. The context bounds the start alone, not the life of the server.
func Start(ctx context.Context, o Options) (*Server, error) {
	if !supervises.Load() {
		// The child would run the program instead of the supervisor, and that would start a child.
		return nil, errors.New("development PostgreSQL: the program does not call devdb.Supervise first")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s, err := start(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("development PostgreSQL: %w", err)
	}
	return s, nil
}

func start(ctx context.Context, o Options) (*Server, error) {
	j, err := plan(o)
	if err != nil {
		return nil, err
	}
	if j.Binaries == "" {
		o.Log.Info("found no PostgreSQL on this machine, downloading it", "version", j.Version)
	}
	s, err := spawn(j)
	if err != nil {
		return nil, err
	}
	select {
	case r := <-s.replies:
		if r.Port == 0 {
			_ = s.Stop()
			return nil, r.err()
		}
		s.dsn = dsn(r.Port, name)
		if o.Port != 0 && o.Port != r.Port {
			o.Log.Warn("the port for the development PostgreSQL is taken, using another", "wanted", o.Port, "port", r.Port)
		}
		o.Log.Info("development PostgreSQL is running", "port", r.Port, "version", j.Version, "data", o.DataDir)
		return s, nil
	case <-ctx.Done():
		_ = s.Stop()
		return nil, context.Cause(ctx)
	}
}

func plan(o Options) (*job, error) {
	j := &job{Port: o.Port, Parameters: o.Parameters}
	var major string
	if o.DataDir != "" {
		var err error
		// The supervisor works elsewhere.
		if j.DataDir, err = filepath.Abs(o.DataDir); err != nil {
			return nil, err
		}
		if major, err = checkDataDir(j.DataDir); err != nil {
			return nil, err
		}
	}
	j.Binaries, j.Version = choose(installed(), major)
	if j.Version == "" {
		return nil, fmt.Errorf("data directory %s is of PostgreSQL %s, which is neither installed nor to be downloaded", j.DataDir, major)
	}
	return j, nil
}

func spawn(j *job) (*Server, error) {
	cmd := exec.Command("", "development-postgresql")
	cmd.Args[0] = os.Args[0]
	cmd.Dir = "/" // the program's own may be closed to the supervisor's user
	cmd.Stderr = os.Stderr
	for _, variable := range os.Environ() {
		// PG* variables are about the program's database, not about this one.
		if !strings.HasPrefix(variable, "PG") {
			cmd.Env = append(cmd.Env, variable)
		}
	}
	cmd.Env = append(cmd.Env, "LC_ALL=C") // errors are recognized by their text
	if err := prepare(cmd, j); err != nil {
		return nil, err
	}
	encoded, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	cmd.Env = append(cmd.Env, jobVariable+"="+string(encoded))

	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start supervisor: %w", err)
	}
	s := &Server{cmd: cmd, stdin: stdin, replies: make(chan reply, 1), done: make(chan struct{})}
	go s.listen(stdout)
	return s, nil
}

// listen passes the supervisor's replies on and waits for its end.
func (s *Server) listen(stdout io.Reader) {
	defer close(s.done)
	lines := json.NewDecoder(stdout)
	for {
		var r reply
		if lines.Decode(&r) != nil {
			break
		}
		s.replies <- r
	}
	close(s.replies)
	_ = s.cmd.Wait() // what went wrong has been a reply
}

// DSN is the URL to connect with, as psql and drivers take it. It stays the same across restarts.
func (s *Server) DSN() string { return s.dsn }

// Done is closed when the server's supervisor has ended: after Stop, or unexpectedly.
func (s *Server) Done() <-chan struct{} { return s.done }

// Stop disconnects all clients and stops the server. When it returns, the server's processes and its
// temporary data are gone. Stopping again does nothing.
func (s *Server) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.stdin.Close()
	var err error
	for r := range s.replies {
		if r.Error != "" {
			err = fmt.Errorf("stop development PostgreSQL: %w", r.err())
		}
	}
	<-s.done
	return err
}

// Halt stops the server and keeps its data and its port for Resume. Immediate is a crash: clients are
// cut off without a word, and the next start recovers from the log.
func (s *Server) Halt(immediate bool) error {
	if immediate {
		return s.command("halt immediate")
	}
	return s.command("halt fast")
}

// Resume starts a halted server again, with the same port and data.
func (s *Server) Resume() error { return s.command("resume") }

// Restart is Halt and Resume.
func (s *Server) Restart(immediate bool) error {
	if err := s.Halt(immediate); err != nil {
		return err
	}
	return s.Resume()
}

func (s *Server) command(line string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := io.WriteString(s.stdin, line+"\n"); err != nil {
		return fmt.Errorf("development PostgreSQL: %s: its supervisor is gone: %w", line, err)
	}
	r, ok := <-s.replies
	if !ok || r.Error != "" {
		return fmt.Errorf("development PostgreSQL: %s: %w", line, r.err())
	}
	return nil
}

func (r reply) err() error {
	if r.Error == "" {
		return errors.New("its supervisor has ended unexpectedly")
	}
	return errors.New(r.Error)
}

// DSN is the URL of the server that a program on this machine has started at a port.
func DSN(port int) string { return dsn(port, name) }

func dsn(port int, database string) string {
	return fmt.Sprintf("postgres://%s:%s@localhost:%d/%s", name, name, port, database)
}

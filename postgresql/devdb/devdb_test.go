//go:build !windows

package devdb

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

// programVariable makes the test binary a program that uses a server, until it is killed.
const programVariable = "DEVDB_TEST_PROGRAM"

func TestMain(m *testing.M) {
	Supervise()
	if os.Getenv(programVariable) != "" {
		s, err := Start(context.Background(), Options{})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(s.DSN())
		select {}
	}
	os.Exit(m.Run())
}

func run(t *testing.T, o Options) *Server {
	t.Helper()
	s, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Stop() })
	return s
}

func stop(t *testing.T, s *Server) {
	t.Helper()
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
}

// query runs one statement on a connection of its own.
func query[T any](t *testing.T, dsn, statement string) T {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var value T
	if err := conn.QueryRow(t.Context(), statement).Scan(&value); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	return value
}

func fill(t *testing.T, dsn string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), "create table kept (n int); insert into kept values (1), (2)"); err != nil {
		t.Fatal(err)
	}
}

func wantFilled(t *testing.T, dsn string) {
	t.Helper()
	if n := query[int](t, dsn, "select count(*) from kept"); n != 2 {
		t.Errorf("found %d rows, want the 2 that were inserted", n)
	}
}

// footprint is what a server must not leave behind.
type footprint struct {
	postmaster int
	data       string
}

func footprintOf(t *testing.T, dsn string) footprint {
	t.Helper()
	return footprint{
		postmaster: query[int](t, dsn, `select split_part(pg_read_file('postmaster.pid'), e'\n', 1)::int`),
		data:       query[string](t, dsn, "show data_directory"),
	}
}

func (f footprint) wantGone(t *testing.T) {
	t.Helper()
	if alive(f.postmaster) {
		t.Errorf("postmaster %d is alive, want it gone", f.postmaster)
	}
	if _, err := os.Lstat(filepath.Dir(f.data)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("temporary directory %s: %v, want it gone", filepath.Dir(f.data), err)
	}
}

// openDir is a temporary directory that every user can reach; that of testing is root's alone.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "devdb-test-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func TestStopLeavesNothing(t *testing.T) {
	t.Parallel()
	s := run(t, Options{})
	fill(t, s.DSN())
	wantFilled(t, s.DSN())
	left := footprintOf(t, s.DSN())
	conn, err := pgx.Connect(t.Context(), s.DSN())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background()) // only after Stop, which must not wait for clients

	stop(t, s)
	left.wantGone(t)
	select {
	case <-s.Done():
	default:
		t.Error("Done is open after Stop")
	}
	if err := s.Stop(); err != nil {
		t.Errorf("a second Stop says %v, want nothing", err)
	}
	if err := s.Restart(false); err == nil {
		t.Error("a stopped server restarts, want an error")
	}
}

func TestDSNWorksInPsql(t *testing.T) {
	psql, err := exec.LookPath("psql")
	if err != nil {
		t.Skip("no psql on this machine")
	}
	t.Parallel()
	s := run(t, Options{})
	output, err := exec.CommandContext(t.Context(), psql, s.DSN(), "-Atc",
		"select current_user, current_database(), current_setting('server_encoding'), datcollate from pg_database where datname = current_database()").CombinedOutput()
	if got, want := strings.TrimSpace(string(output)), "event_piper|event_piper|UTF8|C"; err != nil || got != want {
		t.Errorf("psql %s says %s (%v), want %s", s.DSN(), got, err, want)
	}
}

func TestDataDirSurvivesStop(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(openDir(t), "new", "data")
	s := run(t, Options{DataDir: dir})
	fill(t, s.DSN())
	if got := query[string](t, s.DSN(), "show fsync"); got != "on" {
		t.Errorf("fsync is %s for data that is kept, want on", got)
	}
	stop(t, s)

	s = run(t, Options{DataDir: dir})
	wantFilled(t, s.DSN())

	if _, err := Start(t.Context(), Options{DataDir: dir}); err == nil || !strings.Contains(err.Error(), "postmaster.pid") {
		t.Errorf("a second server on the same data says %v, want that there is one", err)
	}
	wantFilled(t, s.DSN())
}

func TestForeignDataDirIsRefusedAndUntouched(t *testing.T) {
	for name, file := range map[string]string{
		"anything":                       "notes.txt",
		"not PostgreSQL's":               below + "/notes.txt",
		"a version that cannot be had":   below + "/PG_VERSION",
		"PostgreSQL's, but not of devdb": "PG_VERSION",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := openDir(t)
			path := filepath.Join(dir, file)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte("8.4\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			before := tree(t, dir)
			s, err := Start(t.Context(), Options{DataDir: dir})
			if err == nil {
				_ = s.Stop()
				t.Fatal("started, want a refusal")
			}
			if message := err.Error(); !strings.Contains(message, dir) || strings.Contains(message, "\n") {
				t.Errorf("refused with %q, want one line that names %s", message, dir)
			}
			if after := tree(t, dir); !slices.Equal(before, after) {
				t.Errorf("directory is now %v, want it untouched: %v", after, before)
			}
		})
	}
}

// tree lists what is below dir, with owners, modes and times.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var entries []string
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil {
			owner := info.Sys().(*syscall.Stat_t)
			entries = append(entries, fmt.Sprint(path, info.Mode(), info.ModTime(), owner.Uid, owner.Gid))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

func TestPort(t *testing.T) {
	t.Parallel()
	wanted := FreePort()
	s := run(t, Options{Port: wanted})
	if want := dsn(wanted, name); s.DSN() != want {
		t.Fatalf("DSN is %s, want the port asked for: %s", s.DSN(), want)
	}
	other := run(t, Options{Port: wanted})
	if other.DSN() == s.DSN() {
		t.Errorf("two servers at %s, want another port for the second", s.DSN())
	}
	fill(t, other.DSN())
	wantFilled(t, other.DSN())
}

func TestAPortIsTakenWhenEitherAddressIs(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		listener, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			t.Logf("%s is not there to listen on: %v", host, err)
			continue
		}
		defer listener.Close()
		if port := listener.Addr().(*net.TCPAddr).Port; !taken(port) {
			t.Errorf("port %d is free, want it taken by the listener on %s", port, host)
		}
	}
}

func TestRestartKeepsPortAndData(t *testing.T) {
	t.Parallel()
	for _, immediate := range []bool{false, true} {
		t.Run(fmt.Sprintf("immediate=%t", immediate), func(t *testing.T) {
			t.Parallel()
			s := run(t, Options{})
			fill(t, s.DSN())
			before := footprintOf(t, s.DSN())
			if err := s.Restart(immediate); err != nil {
				t.Fatal(err)
			}
			wantFilled(t, s.DSN())
			after := footprintOf(t, s.DSN())
			if after.postmaster == before.postmaster || after.data != before.data {
				t.Errorf("was %+v, is now %+v, want another process on the same data", before, after)
			}

			if err := s.Halt(immediate); err != nil {
				t.Fatal(err)
			}
			if alive(after.postmaster) {
				t.Errorf("postmaster %d is alive after Halt", after.postmaster)
			}
			stop(t, s)
			after.wantGone(t)
		})
	}
}

func TestKilledProgramLeavesNothing(t *testing.T) {
	t.Parallel()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), programVariable+"=1")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	// The supervisor holds it too, so it ends when both have ended.
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		_ = cmd.Process.Kill()
		said, _ := io.ReadAll(stderr)
		t.Fatalf("read the program's DSN: %v: %s", err, said)
	}
	left := footprintOf(t, strings.TrimSpace(line))

	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, stderr); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	left.wantGone(t)
}

func TestTerminatedSupervisorLeavesNothingAndIsNoticed(t *testing.T) {
	t.Parallel()
	s := run(t, Options{})
	left := footprintOf(t, s.DSN())
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-s.Done()
	left.wantGone(t)
	if err := s.Restart(false); err == nil {
		t.Error("a server without supervisor restarts, want an error")
	}
}

func TestStartFailsInOneLine(t *testing.T) {
	t.Parallel()
	_, err := Start(t.Context(), Options{Parameters: map[string]string{"no_such_setting": "1"}})
	want := `development PostgreSQL: FATAL: unrecognized configuration parameter "no_such_setting"`
	if err == nil || err.Error() != want {
		t.Errorf("start says %v, want %s", err, want)
	}
}

func TestCancelledStart(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(openDir(t), "data")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Start(ctx, Options{DataDir: dir}); !errors.Is(err, context.Canceled) {
		t.Fatalf("start says %v, want %v", err, context.Canceled)
	}
	s := run(t, Options{DataDir: dir}) // nothing of the first one is in the way
	fill(t, s.DSN())
}

func TestStartNeedsSupervise(t *testing.T) {
	supervises.Store(false)
	defer supervises.Store(true)
	if _, err := Start(t.Context(), Options{}); err == nil || !strings.Contains(err.Error(), "devdb.Supervise") {
		t.Errorf("start says %v, want what the program lacks", err)
	}
}

func TestRootGetsAClearAnswerForADirectoryNobodyElseCanReach(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("not root")
	}
	t.Parallel()
	dir := filepath.Join(openDir(t), "private")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := Start(t.Context(), Options{DataDir: filepath.Join(dir, "data")})
	if err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("start says %v, want that %s is closed to the server's user", err, dir)
	}
}

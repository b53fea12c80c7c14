//go:build unix

package blackbox_test

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/event-piper/event-piper/functions/gateway/gatewaytest"
	"github.com/event-piper/event-piper/postgresql/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// patience bounds every wait for something that must happen. It is no expectation: a test that meets it
// has failed.
const patience = 60 * time.Second

const root = "../../.."

// binary returns the path of a program: stream, poll or bootstrap (the Lambda). All are built when the first
// is asked for, with the race detector if the tests have it.
func binary(t testing.TB, name string) string {
	t.Helper()
	dir, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}

var built = sync.OnceValues(func() (dir string, err error) {
	if err := dependOnSources(); err != nil {
		return "", err
	}
	if dir, err = os.MkdirTemp("", "event-piper-blackbox-"); err != nil {
		return "", err
	}
	if err := removeAtExit(dir); err != nil {
		return "", err
	}
	for _, args := range [][]string{
		{"-o", dir, "./cmd/stream", "./cmd/poll"},
		{"-o", filepath.Join(dir, "bootstrap"), "-tags", gatewaytest.BuildTags, "./functions/poll"},
		{"-o", filepath.Join(dir, "stream-bootstrap"), "-tags", gatewaytest.BuildTags, "./functions/stream"},
	} {
		args = append([]string{"build"}, args...)
		if race {
			args = append([]string{"build", "-race"}, args[1:]...)
		}
		cmd := exec.Command("go", args...)
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("go %v: %w\n%s", args, err, out)
		}
	}
	// The development PostgreSQL of stream runs as another user if this is root.
	return dir, os.Chmod(dir, 0o755)
})

// dependOnSources looks at what the binaries are built from: go test would answer from its cache when only
// that has changed, but for the files and directories it has seen a test look at.
func dependOnSources() error {
	for _, dir := range []string{"cmd", "core", "functions", "openapi", "postgresql"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, _ fs.DirEntry, err error) error {
			if err == nil {
				_, err = os.Stat(path)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// alive is closed by the end of this process, however it comes.
var alive io.WriteCloser

// removeAtExit has a directory removed when this process is gone.
func removeAtExit(dir string) (err error) {
	cmd := exec.Command("sh", "-c", `read _; rm -rf "$0"`, dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // spared by Ctrl-C
	if alive, err = cmd.StdinPipe(); err != nil {
		return err
	}
	return cmd.Start()
}

// eventually waits for something that nothing but asking again can tell.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("want %s, but not within %v", what, patience)
		}
	}
}

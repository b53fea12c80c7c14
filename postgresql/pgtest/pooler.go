//go:build unix

package pgtest

import (
	"fmt"
	"net"
	"net/url"
	"os"
	osexec "os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/event-piper/event-piper/postgresql/devdb"
)

// Pooler starts a PgBouncer in front of a database and returns the DSN that leads through it. Mode is session or
// transaction; more are lines for its configuration. Without PgBouncer the test is skipped, but never in CI.
func Pooler(t testing.TB, dsn, mode string, more ...string) string {
	t.Helper()
	program := "/usr/sbin/pgbouncer"
	if found, err := osexec.LookPath("pgbouncer"); err == nil {
		program = found
	} else if _, err := os.Stat(program); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("CI must have pgbouncer: apt-get install pgbouncer")
		}
		t.Skip("there is no pgbouncer: apt-get install pgbouncer")
	}
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	port := strconv.Itoa(devdb.FreePort())
	dir, err := os.MkdirTemp("", "event-piper-pgbouncer-") // where another user may look, as below t.TempDir it may not
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	password, _ := u.User.Password()
	config := fmt.Sprintf("[databases]\n* = host=127.0.0.1 port=%s\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = %s\n"+
		"unix_socket_dir =\nauth_type = plain\nauth_file = %s\npool_mode = %s\n", u.Port(), port, filepath.Join(dir, "users"), mode)
	for _, line := range more {
		config += line + "\n"
	}
	users := fmt.Sprintf("%q %q\n", u.User.Username(), password)
	for name, content := range map[string]string{"pgbouncer.ini": config, "users": users} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := osexec.Command(program, filepath.Join(dir, "pgbouncer.ini"))
	if os.Geteuid() == 0 { // PgBouncer refuses to run as root
		nobody, err := user.Lookup("nobody")
		if err != nil {
			t.Fatal(err)
		}
		uid, _ := strconv.ParseUint(nobody.Uid, 10, 32)
		gid, _ := strconv.ParseUint(nobody.Gid, 10, 32)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for deadline := time.Now().Add(10 * time.Second); ; {
		conn, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			_ = conn.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("pgbouncer does not listen: %v", err)
		}
		time.Sleep(10 * time.Millisecond) // it gives no sign when it listens
	}
	u.Host = "127.0.0.1:" + port
	return u.String()
}

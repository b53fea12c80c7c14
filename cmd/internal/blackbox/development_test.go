//go:build unix

package blackbox_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestDevelopmentDatabase starts stream with nothing configured, does what it prints, and stops it with
// Ctrl-C: nothing of it is left.
func TestDevelopmentDatabase(t *testing.T) {
	t.Parallel()
	p := start(t, "stream", "DEV_DATABASE_PORT=0")
	printed := strings.Join(p.stdout.list(), "\n")
	dsn := regexp.MustCompile(`(?m)^\s+(postgres://\S+)$`).FindStringSubmatch(printed)
	insert := regexp.MustCompile(`(?m)^\s+(psql postgres://.*)$`).FindStringSubmatch(printed)
	if dsn == nil || insert == nil || !strings.Contains(printed, "not for production") {
		t.Fatalf("want a warning, a connection string and a psql line, got:\n%s", printed)
	}
	session := mustOpen(t, p.addr, "toto", fromNow)
	if out, err := exec.Command("sh", "-c", insert[1]).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", insert[1], err, out)
	}
	if f, err := session.nextEvent(); err != nil || f != (frame{1, "insert", `{"foo":"bar"}`}) {
		t.Errorf("want the event of the printed line, got %+v (%v)", f, err)
	}

	db := connect(t, dsn[1])
	data := query[string](t, db, "show data_directory")
	processes := descendants(t, p.cmd.Process.Pid)
	if len(processes) < 3 {
		t.Errorf("want PostgreSQL's processes below stream, got %v", processes)
	}
	// A terminal sends Ctrl-C to all of its foreground processes.
	if err := syscall.Kill(-p.cmd.Process.Pid, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	p.exit(t, 0)
	if _, err := os.Stat(filepath.Dir(data)); !os.IsNotExist(err) {
		t.Errorf("want no temporary data left, got %s (%v)", filepath.Dir(data), err)
	}
	for _, pid := range processes {
		eventually(t, fmt.Sprintf("process %d to be gone", pid), func() bool { return syscall.Kill(pid, 0) != nil })
	}
}

// descendants lists the processes that a process has started, and theirs.
func descendants(t testing.TB, pid int) (pids []int) {
	t.Helper()
	out, err := exec.Command("ps", "-A", "-o", "pid=,ppid=").Output()
	if err != nil {
		t.Fatal(err)
	}
	children := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) == 2 {
			children[f[1]] = append(children[f[1]], f[0])
		}
	}
	for queue := children[strconv.Itoa(pid)]; len(queue) > 0; queue = queue[1:] {
		child, err := strconv.Atoi(queue[0])
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, child)
		queue = append(queue, children[queue[0]]...)
	}
	return pids
}

// TestDevelopmentDatabaseIgnoresTheEnvironment has variables in it that are about some other database.
func TestDevelopmentDatabaseIgnoresTheEnvironment(t *testing.T) {
	t.Parallel()
	p := start(t, "stream", "DEV_DATABASE_PORT=0", "PGSSLMODE=verify-full", "PGOPTIONS=-c no.such=1 -c search_path=nowhere",
		"PGTARGETSESSIONATTRS=standby", "PGSERVICEFILE=/nowhere", "PGUSER=somebody", "PGPASSWORD=else", "PGDATABASE=other", "PGCONNECT_TIMEOUT=x")
	dsn := regexp.MustCompile(`postgres://\S+`).FindString(strings.Join(p.stdout.list(), "\n"))
	id := connect(t, dsn).insert(t, "toto", "insert", `{}`)
	mustOpen(t, p.addr, "toto", 0).want(t, id)
	p.stop(t)
}

func TestDevelopmentDataSurvives(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	if err := os.Chmod(filepath.Dir(parent), 0o755); err != nil { // for the user that PostgreSQL runs as
		t.Fatal(err)
	}
	dir := filepath.Join(parent, "data")
	env := []string{"DEV_DATABASE_PORT=0", "DEV_DATA_DIR=" + dir}

	p := start(t, "stream", env...)
	printed := strings.Join(p.stdout.list(), "\n")
	dsn := regexp.MustCompile(`postgres://\S+`).FindString(printed)
	if !strings.Contains(printed, dir) {
		t.Errorf("want to be told where the data is kept, got:\n%s", printed)
	}
	id := connect(t, dsn).insert(t, "toto", "insert", `{"kept": true}`)
	p.stop(t)

	p = start(t, "stream", env...)
	mustOpen(t, p.addr, "toto", 0).want(t, id)
	p.stop(t)
}

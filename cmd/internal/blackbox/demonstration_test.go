package blackbox_test

import (
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestTheAncestorsDemonstration does what the README of the proof of concept shows, with curl and psql, and looks for what
// it says that one sees.
func TestTheAncestorsDemonstration(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"curl", "psql"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is missing", tool)
		}
	}
	p := start(t, "stream", "DEV_DATABASE_PORT=0")
	dsn := regexp.MustCompile(`postgres://\S+`).FindString(strings.Join(p.stdout.list(), "\n"))
	insert := func() {
		t.Helper()
		const row = `insert into events (type, timestamp, subscriber, payload) values ('insert', now(), 'toto', '{"foo": "bar"}');`
		if out, err := exec.Command("psql", dsn, "--no-psqlrc", "-c", row).CombinedOutput(); err != nil || string(out) != "INSERT 0 1\n" {
			t.Fatalf("insert: %v, %s", err, out)
		}
	}

	first := curl(t, p, `X-Consumer-Id: toto`)
	first.await(t, "id: 0", "event: heartbeat", "data: thump") // nothing but some heartbeat events
	insert()
	first.await(t, "", "id: 1", "event: insert", `data: {"foo":"bar"}`, "")

	second, other := curl(t, p, `X-Consumer-Id: toto`), curl(t, p, `X-Consumer-Id: titi`)
	for _, session := range []terminal{second, other} {
		session.await(t, "id: 1", "event: heartbeat", "data: thump")
	}
	for range 7 {
		insert()
	}
	replay := []string{
		"id: 6", "event: insert", `data: {"foo":"bar"}`, "",
		"id: 7", "event: insert", `data: {"foo":"bar"}`, "",
		"id: 8", "event: insert", `data: {"foo":"bar"}`, "",
	}
	last := replay[len(replay)-4:]
	first.await(t, last...)
	second.await(t, last...)
	curl(t, p, `X-Consumer-Id: toto`, `Last-Event-ID: 5`).await(t, replay...)
	curl(t, p, `X-Consumer-Id: toto`, `Last-Event-Id: 4`).await(t, append([]string{"id: 5", "event: insert", `data: {"foo":"bar"}`, ""}, replay...)...)
	if shown := other.text(); strings.Contains(shown, "insert") {
		t.Errorf("another consumer was shown\n%s", shown)
	}
}

// TestAStartThatIsStopped interrupts it while the development database is made, which is no failure.
func TestAStartThatIsStopped(t *testing.T) {
	t.Parallel()
	p := launch(t, "stream", nil, "DEV_DATABASE_PORT=0")
	eventually(t, "the development database to be started", func() bool {
		children, _ := exec.Command("pgrep", "-P", strconv.Itoa(p.cmd.Process.Pid)).Output() // fails if there are none
		return len(children) > 0
	})
	p.signal(t, syscall.SIGINT)
	p.exit(t, 0)
}

// terminal is what curl has shown.
type terminal struct{ *lines }

// curl asks for a stream as the README does. Its -N stands for a terminal, for which curl does not buffer.
func curl(t *testing.T, p *program, headers ...string) terminal {
	t.Helper()
	args := []string{"-v", "-N", p.url("/events")}
	for _, h := range headers {
		args = append(args, "-H", h)
	}
	shown := terminal{newLines()}
	cmd := exec.Command("curl", args...)
	cmd.Stdout = shown.lines
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	})
	return shown
}

func (s terminal) text() string { return strings.Join(s.list(), "\n") + "\n" }

// await waits until these lines were shown, one after the other.
func (s terminal) await(t *testing.T, want ...string) {
	t.Helper()
	s.lines.await(t, "curl to show "+strings.Join(want, "; "), func(string) bool {
		return strings.Contains("\n"+s.text(), "\n"+strings.Join(want, "\n")+"\n")
	})
}

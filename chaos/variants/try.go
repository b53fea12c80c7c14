package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// result is what came of a variant.
type result struct {
	found bool
	said  string // the seed that found it, or why it was not found
}

func (v variant) try(ctx context.Context, root string, seeds int) result {
	dir, err := os.MkdirTemp("", "event-piper-variants-")
	if err != nil {
		return result{said: err.Error()}
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(root, "core", v.file)
	source, err := os.ReadFile(path) //nolint:gosec // our own
	if err != nil {
		return result{said: err.Error()}
	}
	if n := strings.Count(string(source), v.old); n != 1 {
		return result{said: fmt.Sprintf("%q stands %d times in %s, want once", v.old, n, v.file)}
	}
	broken := filepath.Join(dir, "broken.go")
	if err := os.WriteFile(broken, []byte(strings.Replace(string(source), v.old, v.changed, 1)), 0o600); err != nil { //nolint:gosec // the folder is a temporary one of this run
		return result{said: err.Error()}
	}
	test, err := build(ctx, root, dir, map[string]string{path: broken})
	if err != nil {
		return result{said: err.Error()}
	}
	return simulate(ctx, test, seeds)
}

// build compiles the tests of core with some files in the place of others.
func build(ctx context.Context, root, dir string, replace map[string]string) (test string, err error) {
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": replace})
	if err != nil {
		return "", err
	}
	list := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(list, overlay, 0o600); err != nil {
		return "", err
	}
	test = filepath.Join(dir, "core.test")
	cmd := exec.CommandContext(ctx, "go", "test", "-c", "-vet=off", "-overlay", list, "-o", test, "./core") //nolint:gosec // our own
	cmd.Dir = root
	if output, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, output)
	}
	return test, nil
}

// endless is how long no seed may end, on a busy machine as well, before the one under way counts as one that never
// does: a seed takes milliseconds.
const endless = 20 * time.Second

var (
	begun  = regexp.MustCompile(`^=== RUN   TestSimulation/(\d+)`)
	failed = regexp.MustCompile(`^ *--- FAIL: TestSimulation/(\d+)`)
)

// simulate runs the simulation until a seed fails, panics or does not end.
func simulate(ctx context.Context, test string, seeds int) result {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	cmd := exec.CommandContext(ctx, test, "-test.run", "^TestSimulation$", "-test.v", "-test.timeout", "1h")
	cmd.Env = append(os.Environ(), fmt.Sprint("SEEDS=", seeds))
	output, err := cmd.StdoutPipe()
	if err != nil {
		return result{said: err.Error()}
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		return result{said: err.Error()}
	}
	hangs := errors.New("no seed ends")
	watchdog := time.AfterFunc(endless, func() { cancel(hangs) })
	defer watchdog.Stop()
	last, fell := "none", ""
	lines := bufio.NewScanner(output)
	lines.Buffer(nil, 16<<20) // a failure says all that it saw
	for lines.Scan() {
		if m := begun.FindSubmatch(lines.Bytes()); m != nil {
			last = string(m[1])
			watchdog.Reset(endless)
		}
		if m := failed.FindSubmatch(lines.Bytes()); m != nil && fell == "" {
			fell = string(m[1])
		}
	}
	err = errors.Join(lines.Err(), cmd.Wait())
	switch {
	case fell != "":
		return result{true, fell}
	case err == nil:
		return result{false, fmt.Sprintf("none of %d", seeds)}
	case errors.Is(context.Cause(ctx), hangs):
		return result{true, last + ", which does not end"}
	case ctx.Err() != nil:
		return result{false, "interrupted"}
	}
	return result{true, last + ", by a panic"}
}

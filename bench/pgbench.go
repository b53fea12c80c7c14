//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// findTool looks for a program of PostgreSQL on the path and where Debian puts it.
func findTool(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if len(found) == 0 {
		return "", fmt.Errorf("%s is not installed (Debian: apt-get install postgresql)", name)
	}
	return slices.Max(found), nil
}

var transactions = regexp.MustCompile(`tps = ([0-9.]+)`)

// pgbench runs a script with 32 clients and returns the transactions per second.
func pgbench(ctx context.Context, dsn, script string, length time.Duration) (float64, error) {
	path, err := findTool("pgbench")
	if err != nil {
		return 0, err
	}
	file, err := os.CreateTemp("", "event-piper-bench-*.sql")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.Remove(file.Name()) }()
	if _, err := file.WriteString(script); err != nil {
		return 0, err
	}
	if err := file.Close(); err != nil {
		return 0, err
	}
	seconds := strconv.Itoa(max(int(length.Seconds()), 1))
	//nolint:gosec // what was found on the machine
	output, err := exec.CommandContext(ctx, path, "-n", "-c", "32", "-j", "2", "-T", seconds, "-f", file.Name(), dsn).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("pgbench: %w\n%s", err, output)
	}
	m := transactions.FindSubmatch(output)
	if m == nil {
		return 0, fmt.Errorf("pgbench says no tps:\n%s", output)
	}
	return strconv.ParseFloat(string(m[1]), 64)
}

// Variants shows that the simulation of core finds what is wrong: it breaks core in one place after the other, as people
// break such code, runs the simulation over each, and prints how many seeds it took. A variant that survives is an error.
//
//	go run ./variants            in chaos/
//	go run ./variants -seeds 20000 wake     only those whose names contain a word
//
// The files are not touched: the compiler is given others in their place (go test -overlay).
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

const module = "github.com/event-piper/event-piper"

func main() {
	seeds := flag.Int("seeds", 20000, "how many seeds to try before a variant counts as not found")
	flag.Parse()
	if err := run(context.Background(), *seeds, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "variants:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, seeds int, words []string) error {
	output, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		return fmt.Errorf("find the sources: %w", err)
	}
	root := strings.TrimSpace(string(output))
	dir, err := os.MkdirTemp("", "event-piper-variants-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	fmt.Printf("| Variant | Found by seed |\n|---|---|\n")
	var survived []string
	for _, v := range variants {
		if !chosen(v.name, words) {
			continue
		}
		seed, err := v.try(ctx, root, dir, seeds)
		if err != nil {
			survived = append(survived, v.name)
			seed = err.Error()
		}
		if err == nil && seed == "" {
			survived = append(survived, v.name)
			seed = fmt.Sprintf("none of %d", seeds)
		}
		fmt.Printf("| %s | %s |\n", v.name, seed)
	}
	if len(survived) > 0 {
		return fmt.Errorf("not found: %s", strings.Join(survived, "; "))
	}
	return nil
}

func chosen(name string, words []string) bool {
	found := len(words) == 0
	for _, w := range words {
		found = found || strings.Contains(name, w)
	}
	return found
}

// try returns the seed that found the variant, or nothing.
func (v variant) try(ctx context.Context, root, dir string, seeds int) (string, error) {
	path := filepath.Join(root, "core", v.file)
	source, err := os.ReadFile(path) //nolint:gosec // our own
	if err != nil {
		return "", err
	}
	if n := strings.Count(string(source), v.old); n != 1 {
		return "", fmt.Errorf("%q stands %d times in %s, want once", v.old, n, v.file)
	}
	broken := filepath.Join(dir, "broken.go")
	text := strings.Replace(string(source), v.old, v.changed, 1)
	if err := os.WriteFile(broken, []byte(text), 0o600); err != nil { //nolint:gosec // the folder is a temporary one of this run
		return "", err
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {path: broken}})
	if err != nil {
		return "", err
	}
	list := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(list, overlay, 0o600); err != nil {
		return "", err
	}
	test := filepath.Join(dir, "core.test")
	build := exec.CommandContext(ctx, "go", "test", "-c", "-vet=off", "-overlay", list, "-o", test, "./core") //nolint:gosec // our own
	build.Dir = root
	if output, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, output)
	}
	ctx, cancel := context.WithTimeout(ctx, 100*time.Second)
	defer cancel()
	simulation := exec.CommandContext(ctx, test, "-test.run", "^TestSimulation$", "-test.v") //nolint:gosec // built above
	simulation.Env = append(os.Environ(), fmt.Sprint("SEEDS=", seeds))
	result, err := simulation.CombinedOutput()
	switch {
	case err == nil:
		return "", nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded) && len(begun.FindAll(result, hanging)) < hanging:
		return last(result) + ", which does not end", nil
	case ctx.Err() != nil:
		return "", nil // there was no time for more
	}
	if found := failed.FindSubmatch(result); found != nil {
		return string(found[1]), nil
	}
	return last(result) + ", by a panic", nil
}

// hanging is how many seeds a run does not get to in its time if one of them never ends.
const hanging = 1000

var (
	failed = regexp.MustCompile(`--- FAIL: TestSimulation/(\d+)`)
	begun  = regexp.MustCompile(`=== RUN   TestSimulation/(\d+)`)
)

// last is the seed that was begun last.
func last(result []byte) string {
	all := begun.FindAllSubmatch(result, -1)
	if len(all) == 0 {
		return "0"
	}
	return string(all[len(all)-1][1])
}

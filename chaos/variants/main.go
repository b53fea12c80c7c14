// Variants shows that the simulation of core finds what is wrong: it breaks core in one place after the other, as people
// break such code, runs the simulation over each, and prints how many seeds it took. A variant that survives is an error, and
// so is a violation in core as it is, which comes first.
//
//	go run ./variants            in chaos/
//	go run ./variants -seeds 20000 wake     only those whose names contain a word
//
// The files are not touched: the compiler is given others in their place (go test -overlay).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

const module = "github.com/event-piper/event-piper"

func main() {
	seeds := flag.Int("seeds", 20000, "how many seeds to try before a variant counts as not found")
	parallel := flag.Int("parallel", 2, "how many variants to try at a time")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *seeds, *parallel, flag.Args())
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "variants:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, seeds, parallel int, words []string) error {
	output, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		return fmt.Errorf("find the sources: %w", err)
	}
	root := strings.TrimSpace(string(output))
	if err := control(ctx, root); err != nil {
		return err
	}
	began := time.Now()
	tried := slices.DeleteFunc(slices.Clone(variants), func(v variant) bool { return !chosen(v.name, words) })
	results := make([]chan result, len(tried))
	slots := make(chan struct{}, parallel)
	var trying sync.WaitGroup
	defer trying.Wait()
	for i, v := range tried {
		results[i] = make(chan result, 1)
		trying.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			results[i] <- v.try(ctx, root, seeds)
		})
	}
	fmt.Printf("| Variant | Found by seed |\n|---|---|\n")
	var survived []string
	for i, v := range tried {
		r := <-results[i]
		if !r.found {
			survived = append(survived, v.name)
		}
		fmt.Printf("| %s | %s |\n", v.name, r.said)
	}
	fmt.Printf("\n%d of %d variants found in %v (load %s)\n", len(tried)-len(survived), len(tried), time.Since(began).Round(time.Second), load())
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

// controlSeeds are tried of core as it is: more than most variants need.
const controlSeeds = 5000

// control runs the simulation of core as it is, and says how fast it is.
func control(ctx context.Context, root string) error {
	dir, err := os.MkdirTemp("", "event-piper-variants-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	test, err := build(ctx, root, dir, nil)
	if err != nil {
		return err
	}
	began := time.Now()
	r := simulate(ctx, test, controlSeeds)
	if r.found || ctx.Err() != nil {
		return errors.Join(fmt.Errorf("core as it is fails: seed %s", r.said), ctx.Err())
	}
	took := time.Since(began)
	fmt.Printf("core as it is: %d seeds in %.1f s, which is %.0f a minute on %d processors (load %s)\n\n",
		controlSeeds, took.Seconds(), controlSeeds/took.Minutes(), runtime.NumCPU(), load())
	return nil
}

// load is the machine's, over a minute, where that can be told.
func load() string {
	content, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	minute, _, _ := strings.Cut(string(content), " ")
	return minute
}

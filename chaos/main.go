// Chaos tries to make Event Piper lose, repeat, reorder, misdeliver or alter an event: the real programs over a real
// PostgreSQL, with writers of every kind, clients that change servers and transports all the time, and one fault after
// the other. After each round it checks the whole history against the table.
//
//	go run . -for 60s              one round with a seed of its own
//	go run . -seed 7 -for 60s      the same draws again (not the same timing)
//	go run . -for 1h -round 5m     rounds of five minutes, each with the next seed
//	go run . -faults link,retention    only faults whose names contain one of these
//	go run . -together 2           two faults at a time
//	go run . -failover async -for 5m   a standby is promoted in each round, instead of faults
//	go run . -soak -for 1h         no faults, and a picture of what grows and what does not
//
// It needs Linux and a PostgreSQL installed or downloaded by devdb; as root it can fill a disk, and with PgBouncer
// installed it runs through that as well. The exit code is 0 if nothing was found, and 1 otherwise.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/event-piper/event-piper/postgresql/devdb"
)

// options are what the flags say.
type options struct {
	seed             uint64
	length, round    time.Duration
	faults, failover string
	together         int
	beside           string
	centrifugo       string
	writers, readers int
	pause            time.Duration
	keep, bin, plots string
	quiet            bool
}

func main() {
	devdb.Supervise()
	if err := run(); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}

func run() error {
	var o options
	flags := flag.NewFlagSet("chaos", flag.ContinueOnError)
	flags.Uint64Var(&o.seed, "seed", rand.Uint64N(1_000_000), "what all draws follow from")
	flags.DurationVar(&o.length, "for", time.Minute, "how long to make faults, in all")
	flags.DurationVar(&o.round, "round", 5*time.Minute, "how long a round is; each has a new database")
	flags.StringVar(&o.faults, "faults", "", "comma-separated parts of the names of the faults to make; all unless given")
	flags.IntVar(&o.together, "together", 1, "how many faults to make at a time, 1 or 2")
	flags.StringVar(&o.failover, "failover", "", "sync or async: instead of faults, one failover in each round, to a standby of this kind")
	flags.StringVar(&o.beside, "beside", "", "another way to read, to be checked as well: cursor (id > cursor), notify (NOTIFY with the event in it) or centrifugo (its PostgreSQL broker)")
	flags.StringVar(&o.centrifugo, "centrifugo", "", "the program of Centrifugo, for -beside centrifugo; make chaos installs and names it")
	flags.IntVar(&o.writers, "writers", 8, "writers")
	flags.IntVar(&o.readers, "readers", 12, "readers, of six consumers")
	flags.DurationVar(&o.pause, "pause", 20*time.Millisecond, "a writer's mean pause between transactions")
	flags.StringVar(&o.keep, "keep", "", "directory for the logs of all programs, kept; else they are kept only if something was found")
	flags.StringVar(&o.bin, "bin", "", "directory with stream, poll, bootstrap (functions/poll) and bootstrap-stream, to test them as they are; else they are built")
	soaks := flags.Bool("soak", false, "no faults, but for long (an hour unless -for says otherwise), and a look at what grows")
	flags.StringVar(&o.plots, "plots", ".", "directory for soak.png")
	flags.BoolVar(&o.quiet, "q", false, "print no line for each fault")
	if err := flags.Parse(os.Args[1:]); err != nil {
		return err
	}

	if given := map[string]bool{}; *soaks {
		flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
		if !given["for"] {
			o.length = time.Hour
		}
		if !given["readers"] {
			o.readers = 100
		}
	}
	if _, found := besides[o.beside]; !found && o.beside != "" {
		return fmt.Errorf("-beside takes cursor, notify or centrifugo, not %q", o.beside)
	}
	if o.beside == "centrifugo" && o.centrifugo == "" {
		return errors.New("-beside centrifugo takes the program from -centrifugo")
	}
	if o.together != 1 && o.together != 2 {
		return fmt.Errorf("-together takes 1 or 2, not %d", o.together)
	}
	switch o.failover {
	case "":
	case "sync", "async":
		o.round = failoverRound
	default:
		return fmt.Errorf("-failover takes sync or async, not %q", o.failover)
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	dir, err := os.MkdirTemp("", "event-piper-chaos-")
	if err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // PostgreSQL's user has to pass
		return err
	}
	bin := o.bin
	if bin == "" {
		bin = dir
		err = buildPrograms(ctx, bin)
	}
	if err != nil {
		return err
	}
	if *soaks {
		if err := soak(ctx, bin, filepath.Join(dir, "soak"), o); err != nil {
			return err
		}
		return os.RemoveAll(dir)
	}
	total := &report{}
	for n := 0; total.spent < o.length && ctx.Err() == nil; n++ {
		round := o
		round.seed += uint64(n)
		round.length = min(o.round, o.length-total.spent)
		logs := filepath.Join(dir, fmt.Sprintf("seed-%d", round.seed))
		if o.keep != "" {
			logs = filepath.Join(o.keep, fmt.Sprintf("seed-%d", round.seed))
		}
		result, err := runRound(ctx, bin, logs, round)
		total.add(result)
		if err != nil {
			total.print(os.Stdout)
			return fmt.Errorf("seed %d: %w (logs in %s)", round.seed, err, logs)
		}
		if len(result.found) > 0 {
			total.print(os.Stdout)
			return fmt.Errorf("seed %d: %d violations (logs in %s)", round.seed, len(result.found), logs)
		}
	}
	total.print(os.Stdout)
	return os.RemoveAll(dir)
}

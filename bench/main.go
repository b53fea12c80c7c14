//go:build linux

// Bench measures Event Piper as its users would: the stream program itself over a PostgreSQL of its own, with
// a load generator beside it, all on this machine.
//
//	go run ./bench                 every scenario
//	go run ./bench fanout idle     some of them
//	go run ./bench -short          shorter runs, for a first look
//
// It prints tables and judges nothing. CPU time is that of the processes, their kernel time included; on the
// loopback interface the sender pays for the receiver's share of TCP.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/event-piper/event-piper/postgresql/devdb"
)

// scenarios are in the order in which they run.
var scenarios = []struct {
	name string
	run  func(context.Context, *bench) error
}{
	{"writers", writers},
	{"quiet", quiet},
	{"fanout", fanout},
	{"idle", idleSessions},
	{"many", many},
	{"replay", replay},
	{"topics", topics},
	{"herd", herd},
	{"poll", polls},
	{"scaling", scaling},
	{"retention", retention},
	{"attacks", attacks},
}

// bench is what the scenarios share.
type bench struct {
	short    bool
	perf     string // the directory for profiles of the server, if they are wanted
	out      io.Writer
	dir      string // temporary
	stream   string // the program
	database *database
	scenario string // the one that is running
	recorded int    // profiles
}

func main() {
	devdb.Supervise()
	if len(os.Args) == 2 && os.Args[1] == "load" {
		if err := runLoad(syscall.Stdin, os.Stdout); !errors.Is(err, io.EOF) {
			fmt.Fprintln(os.Stderr, "load generator:", err)
			os.Exit(1)
		}
		return
	}
	if err := run(); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	var names []string
	for _, s := range scenarios {
		names = append(names, s.name)
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.Usage = func() {
		_, _ = fmt.Fprintf(flags.Output(), "Usage: bench [flags] [%s ...]\n", strings.Join(names, "|"))
		flags.PrintDefaults()
	}
	b := &bench{out: os.Stdout}
	flags.BoolVar(&b.short, "short", false, "shorter runs, for a first look")
	flags.StringVar(&b.perf, "perf", "", "directory for profiles of the server by perf(1)")
	limit := flags.Duration("timeout", time.Hour, "give up after this time")
	if err := flags.Parse(os.Args[1:]); err != nil {
		return err
	}
	for _, wanted := range flags.Args() {
		if !slices.Contains(names, wanted) {
			return fmt.Errorf("there is no scenario %q; there are %s", wanted, strings.Join(names, ", "))
		}
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, *limit)
	defer cancel()

	var err error
	if b.dir, err = os.MkdirTemp("", "event-piper-bench-"); err != nil {
		return err
	}
	defer func() { b.complain(os.RemoveAll(b.dir)) }()
	if b.stream, err = build(ctx, b.dir, "stream"); err != nil {
		return err
	}
	if b.database, err = startDatabase(ctx); err != nil {
		return err
	}
	defer b.database.stop()
	b.printMachine()
	for _, s := range scenarios {
		if flags.NArg() > 0 && !slices.Contains(flags.Args(), s.name) {
			continue
		}
		b.scenario = s.name
		start, others := time.Now(), othersCPU()
		if err := s.run(ctx, b); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		b.note("(%s took %.0f s, in which other processes used %.0f %% of a core)", s.name, time.Since(start).Seconds(),
			100*max((othersCPU()-others).Seconds(), 0)/time.Since(start).Seconds())
	}
	return nil
}

// complain says what went wrong where nothing can be done about it.
func (b *bench) complain(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
}

// note prints a remark below a table.
func (b *bench) note(format string, args ...any) {
	_, _ = fmt.Fprintf(b.out, "  "+format+"\n", args...)
}

// length is how long a run takes: a third in a short benchmark.
func (b *bench) length(full time.Duration) time.Duration {
	if b.short {
		return full / 3
	}
	return full
}

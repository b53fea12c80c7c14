// Command faults reads with every client module through a proxy that cuts, stalls, refuses and buffers, and through
// restarts of the service, while writers race. It prints a table, and fails unless every reader was handed every event
// once and in order.
//
//	faults STREAM WEB NAME=COMMAND...
//
// STREAM is the service's binary and WEB a folder that the proxy serves to browsers. Each command is a reader, split at
// spaces. It finds in its environment EVENT_PIPER_URL, and READER, which it sends as X-Reader with every request. It
// prints a line of JSON for the cursor at which it starts ({"start": 5}), for each event that a handler was called with
// ({"id": 6, "type": "…", "token": "…"}), and for a reset. One that runs several readers names each in "reader", and
// says {"end": true} of one that is gone. A line on its standard input asks it to exchange one for another.
package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/event-piper/event-piper/postgresql/devdb"
	"github.com/event-piper/event-piper/postgresql/migrations"
)

const consumer = "toto"

func main() {
	devdb.Supervise()
	if len(os.Args) < 4 {
		fmt.Fprintln(os.Stderr, "usage: faults STREAM WEB NAME=COMMAND...")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1], os.Args[2], os.Args[3:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		os.Exit(1)
	}
}

// A phase is a time with a fault, after which all readers must stream again.
type phase struct {
	name  string
	fault fault
	act   func(context.Context) error // during the phase, if anything
}

func run(ctx context.Context, stream, web string, commands []string) (err error) {
	db, err := devdb.Start(ctx, devdb.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Stop()) }()
	if _, _, err := migrations.Apply(ctx, db.DSN(), nil); err != nil {
		return err
	}
	service := &service{binary: stream, dsn: db.DSN()}
	if err := service.start(); err != nil {
		return err
	}
	defer service.kill()
	proxy, err := newProxy(service.url, web)
	if err != nil {
		return err
	}
	defer proxy.close()
	readers := newReaders(proxy)
	defer readers.stop()
	for _, command := range commands {
		name, line, ok := strings.Cut(command, "=")
		if !ok {
			return fmt.Errorf("%q names no command", command)
		}
		if err := readers.start(name, strings.Fields(line), proxy.url+"/events"); err != nil {
			return err
		}
	}
	if err := readers.await(ctx, "all readers have started", readers.started); err != nil {
		return err
	}

	writers := newWriters(db.DSN())
	defer func() { _ = writers.stop() }() // what it returns has been returned below, if it came so far
	table := newTable(readers)
	for _, p := range []phase{
		{name: "none"},
		{name: "cut inside a frame", fault: cut},
		{name: "closed early", fault: closeEarly},
		{name: "stalled", fault: stall},
		{name: "502", fault: badGateway},
		{name: "streams refused (403)", fault: refuseStreams},
		{name: "streams buffered", fault: buffer},
		{name: "restarted (SIGTERM)", act: func(ctx context.Context) error { return service.restart(ctx, syscall.SIGTERM) }},
		{name: "killed (SIGKILL)", act: func(ctx context.Context) error { return service.restart(ctx, syscall.SIGKILL) }},
		{name: "leading tab closed", act: func(context.Context) error { return readers.exchange() }},
	} {
		proxy.set(p.fault)
		if err := wait(ctx, 2*time.Second); err != nil {
			return err
		}
		if p.act != nil {
			if err := p.act(ctx); err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
		}
		if err := wait(ctx, 3*time.Second); err != nil {
			return err
		}
		proxy.set(none)
		if err := readers.await(ctx, "all readers stream after: "+p.name, readers.streaming); err != nil {
			return err
		}
		table.add(p.name)
	}
	if err := writers.stop(); err != nil {
		return err
	}
	rows, err := committed(ctx, db.DSN())
	if err != nil {
		return err
	}
	last := rows[len(rows)-1].ID
	late := readers.await(ctx, "all readers have the last event", func() bool { return readers.reached(last) })
	table.add("the writers stopped")
	return errors.Join(table.print(rows), late)
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// between returns a number from low to high.
func between(low, high int) int { return low + rand.N(high-low+1) }

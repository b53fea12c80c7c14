package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/event-piper/event-piper/functions/gateway/gatewaytest"
	"github.com/event-piper/event-piper/postgresql/devdb"
)

// world is all that takes part: the database, the programs, and a link for every pair that talks.
type world struct {
	dir      string
	database *database
	standby  *devdb.Server // of a failover
	links    *links
	bouncer  *program // nil where there is none
	lambdas  []*lambda
	targets  []*target
	hurried  atomic.Bool // writers have a statement timeout
	programs []*program
	said     *os.File // what clients of one server tell of their sessions
}

// lambda is a function behind a local API: that of polls, or that of streams.
type lambda struct {
	name     string
	database string // address
	settings []string
	streams  bool
	front    *gatewaytest.Front
	log      *os.File
}

// pids are the processes of its environments, oldest first.
func (l *lambda) pids() (list []int) {
	for _, e := range l.front.Environments() {
		list = append(list, e.PID())
	}
	return list
}

// programSettings make what takes ten seconds and more in production short, so that a round sees it often.
var programSettings = []string{"HEARTBEAT_INTERVAL=1s", "RETRY=200ms", "WRITE_TIMEOUT=3s", "DRAIN_TIME=1s", "LOG_LEVEL=info"}

func newWorld(ctx context.Context, bin, dir string) (w *world, err error) {
	w = &world{dir: dir, links: newLinks()}
	defer func() {
		if err != nil {
			w.close()
			w = nil
		}
	}()
	if w.database, err = startDatabase(ctx, dir); err != nil {
		return w, err
	}
	if w.bouncer, err = newBouncer(dir, w.database); err != nil {
		return w, err
	}
	if w.bouncer != nil {
		if err := w.bouncer.start(); err != nil {
			return w, err
		}
		if _, err := w.links.to("writers-pgbouncer", w.bouncer.address); err != nil {
			return w, err
		}
	}
	if _, err := w.links.to("writers-database", w.database.address()); err != nil {
		return w, err
	}
	for _, name := range []string{"stream-1", "stream-2", "poll"} {
		down, err := w.links.to(name+"-database", w.database.address())
		if err != nil {
			return w, err
		}
		if err := w.program(name, filepath.Join(bin, binaryOf(name)), down.address); err != nil {
			return w, err
		}
	}
	functions := []*lambda{
		{name: "lambda", database: w.database.address(), settings: []string{"POLL_WAIT=listen"}},
		{name: "lambda-stream", database: w.database.address(), settings: []string{"STREAM_TIME=6s"}, streams: true},
	}
	if w.bouncer != nil {
		functions = append(functions, &lambda{name: "lambda-pgbouncer", database: w.bouncer.address, settings: []string{"POLL_WAIT=interval"}})
	}
	for _, l := range functions {
		if err := w.lambda(ctx, bin, l); err != nil {
			return w, err
		}
	}
	return w, w.awaitUp(ctx)
}

// binaryOf is the binary that a program of this name is.
func binaryOf(name string) string {
	binary, _, _ := strings.Cut(name, "-")
	return binary
}

// program starts one with a link from the clients, over a database at one of these addresses.
func (w *world) program(name, binary string, database ...string) error {
	p, err := newProgram(w.dir, name, binary, append(programSettings, "DATABASE_URL="+w.database.dsn(database...))...)
	if err != nil {
		return err
	}
	w.programs = append(w.programs, p)
	front, err := w.links.to("clients-"+name, p.address)
	if err != nil {
		return err
	}
	w.targets = append(w.targets, &target{
		name: name, base: "http://" + front.address, direct: "http://" + p.address, streams: filepath.Base(binary) == "stream",
	})
	return p.start()
}

// lambda puts a function behind a local API: an HTTP API for polls, and a REST API for streams.
func (w *world) lambda(ctx context.Context, bin string, l *lambda) error {
	down, err := w.links.to(l.name+"-database", l.database)
	if err != nil {
		return err
	}
	l.log, err = os.OpenFile(filepath.Join(w.dir, l.name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	config := gatewaytest.Config{
		Bootstrap: filepath.Join(bin, "bootstrap"), Freeze: true, Limit: 6, Output: l.log,
		Log: slog.New(slog.NewJSONHandler(l.log, nil)),
		Env: slices.Concat(programSettings, l.settings, []string{"DATABASE_URL=" + w.database.dsn(down.address)}),
	}
	if l.streams {
		// Nobody tells a function that its client has left: it streams to nobody for a while.
		config.Bootstrap, config.REST, config.Limit = filepath.Join(bin, "bootstrap-stream"), true, 12
	}
	// An interrupted round is still judged: its servers go on until then.
	if l.front, err = gatewaytest.Start(context.WithoutCancel(ctx), config); err != nil {
		return err
	}
	w.lambdas = append(w.lambdas, l)
	link, err := w.links.to("clients-"+l.name, l.front.URL()[len("http://"):])
	if err != nil {
		return err
	}
	w.targets = append(w.targets, &target{
		name: l.name, base: "http://" + link.address, direct: l.front.URL(), streams: l.streams, only: l.streams, plain: true,
	})
	return nil
}

func (w *world) awaitUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for _, t := range w.targets {
		if t.only {
			continue // it has no health
		}
		if err := awaitUp(ctx, t.direct); err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
	}
	return nil
}

// mend makes everything what it was, whatever a fault has left.
func (w *world) mend(ctx context.Context) (err error) {
	for _, k := range w.links.all {
		err = errors.Join(err, k.heal(ctx))
	}
	for _, p := range w.programs {
		err = errors.Join(err, p.start())
	}
	if w.bouncer != nil {
		err = errors.Join(err, w.bouncer.start())
	}
	return err
}

func (w *world) close() {
	for _, l := range w.lambdas {
		l.front.Close()
		_ = l.log.Close()
	}
	for _, p := range w.programs {
		p.stop()
	}
	w.links.close()
	if w.said != nil {
		_ = w.said.Close()
	}
	if w.bouncer != nil {
		w.bouncer.kill()
	}
	if w.standby != nil {
		_ = w.standby.Stop() // it goes with its directory
	}
	if w.database != nil {
		w.database.stop()
	}
}

// random is a source of its own for everybody who draws, by the round's seed.
func random(seed, who uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, who)) }

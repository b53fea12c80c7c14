// Matrix uses real clients of Server-Sent Events against the running service, through a proxy that cuts their
// connections where it hurts, and says which of them lose events. run.sh builds the clients and starts it.
//
//	go run ./openapi/clients/matrix [-table FILE] [CLIENT...]
//
// It prints a table, and writes it to FILE. It fails if a client that reconnects loses an event, unless the client is
// known to (see known). It finds in its environment:
//
//	DATABASE_URL   a database with the schema
//	STREAM         the service's program
//	WORK           where run.sh has built the clients
//	CHROMIUM       a browser
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5/pgxpool"
)

func main() {
	table := flag.String("table", "", "where to write the table, too")
	flag.Parse()
	if err := run(context.Background(), *table, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "matrix:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, table string, names []string) error {
	wanted := clients
	if len(names) > 0 {
		wanted = slices.DeleteFunc(slices.Clone(clients), func(c client) bool { return !slices.Contains(names, c.name) })
		if len(wanted) != len(names) {
			return fmt.Errorf("there is no such client among %q", names)
		}
	}
	db, err := pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		return err
	}
	defer db.Close()
	service, err := startService(ctx)
	if err != nil {
		return err
	}
	defer service.stop()

	results := make([][]outcome, len(wanted))
	for _, s := range scenarios {
		if err := s.run(ctx, &world{service, db}, wanted, results); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	text := render(wanted, results)
	fmt.Print(text)
	if table != "" {
		if err := writeTable(table, text); err != nil {
			return err
		}
	}
	return verdict(wanted, results)
}

// run plays a scenario with all clients at once, each behind a proxy and with events of its own.
func (s scenario) run(ctx context.Context, w *world, wanted []client, results [][]outcome) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var playing sync.WaitGroup
	actors := make([]*actor, len(wanted))
	failures := make([]error, len(wanted))
	defer func() {
		for _, a := range actors {
			if a != nil {
				a.stop()
			}
		}
	}()
	for i, c := range wanted {
		a, err := newActor(ctx, w, c, fmt.Sprintf("%s %s %d", c.name, s.name, os.Getpid()))
		if err != nil {
			return err
		}
		actors[i] = a
	}
	for i, a := range actors {
		playing.Go(func() { failures[i] = s.before(ctx, a) })
	}
	playing.Wait()
	if s.between != nil {
		if err := s.between(ctx, w, actors); err != nil {
			return err
		}
	}
	for i, a := range actors {
		playing.Go(func() {
			err := failures[i]
			if err == nil && s.after != nil {
				err = s.after(ctx, a)
			}
			results[i] = append(results[i], a.outcome(ctx, err))
		})
	}
	playing.Wait()
	return nil
}

// verdict is an error that names the clients which lost events, and are not known to.
func verdict(wanted []client, results [][]outcome) error {
	var errs []error
	for i, c := range wanted {
		for j, o := range results[i] {
			if why := o.complaint(); why != "" && known[c.name][scenarios[j].name] == "" {
				errs = append(errs, fmt.Errorf("%s, %s: %s\n%s", c.name, scenarios[j].name, why, o.log))
			}
		}
	}
	return errors.Join(errs...)
}

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/event-piper/event-piper/core/settings"
	"github.com/event-piper/event-piper/core/web"
	"github.com/event-piper/event-piper/postgresql"
	"github.com/event-piper/event-piper/postgresql/awslogin"
	"github.com/event-piper/event-piper/postgresql/awslogin/awsaccount"
)

// pruning is the command that deletes old events.
type pruning struct {
	databaseURL      string
	listenURL        string
	login            awslogin.Config
	olderThan, every time.Duration
	web              web.Config
}

func (p *pruning) define(s *settings.Set) {
	const century = 100 * 365 * 24 * time.Hour
	s.Section("Retention")
	s.Prefix(prefix)
	s.Duration(&p.olderThan, "OLDER_THAN", 0, settings.Between(0, century), "Age above which events are deleted, such as 720h. It must be given.")
	s.Duration(&p.every, "EVERY", 0, settings.Between(0, century), "Time from the end of one run to the next; unless given there is one run.")
	s.Prefix("")
	s.Secret(&p.databaseURL, "DATABASE_URL", "PostgreSQL connection string of the owner of the table; what it leaves out is taken from libpq's PG* variables.")
	s.Secret(&p.listenURL, "DATABASE_LISTEN_URL", "The same database without a pooler in transaction mode, which is used instead if it is given.")
	p.login.Define(s, &p.databaseURL, &p.listenURL)
	p.web.DefineLog(s)
	s.Check(prefix+"OLDER_THAN", func() error {
		if p.olderThan <= 0 {
			return errors.New("is not given, and there is no age that is right for everybody: say --older-than 720h")
		}
		return nil
	})
	s.Check("DATABASE_URL", func() error {
		if !postgresql.Named(p.databaseURL) && !p.login.Named() {
			return errors.New("is not set")
		}
		return nil
	})
}

func runPrune(args []string) error {
	var p pruning
	s := settings.New("stream prune", "Deletes old events in short transactions, while others insert and read. Consumers with an older cursor are told.")
	p.define(s)
	if err := s.Parse(args, os.Getenv); err != nil {
		return err
	}
	log := web.Logger(p.web.LogFormat, p.web.LogLevel, os.Stderr)
	stop, _, release := web.Signals(context.Background())
	defer release()
	for {
		err := p.once(stop, log)
		switch {
		case stop.Err() != nil:
			return nil // what was deleted stays so, and the next run goes on from there
		case p.every == 0:
			return err
		case err != nil:
			log.Warn("cannot prune now", "error", err, "again_in", p.every)
		}
		select {
		case <-time.After(p.every):
		case <-stop.Done():
			return nil
		}
	}
}

func (p *pruning) once(ctx context.Context, log *slog.Logger) error {
	var progress func(postgresql.Pruned)
	if web.IsTerminal(os.Stdout) {
		progress = func(done postgresql.Pruned) {
			fmt.Printf("\rpruned %d events, %.1f MB of payloads, through id %d", done.Events, float64(done.Bytes)/1e6, done.Through)
		}
	}
	start := time.Now()
	dsn, login, err := p.login.Open(ctx, cmp.Or(p.listenURL, p.databaseURL), awsaccount.Find)
	if err != nil {
		return err
	}
	done, err := postgresql.Prune(ctx, dsn, login, p.olderThan, log, progress)
	if progress != nil && done.Events > 0 {
		fmt.Println()
	}
	if errors.Is(err, postgresql.ErrPruning) {
		log.Info("nothing pruned", "reason", err)
		return nil
	}
	if err == nil || done.Events > 0 {
		log.Info("pruned", "events", done.Events, "bytes", done.Bytes, "through", done.Through, "took", time.Since(start).Round(time.Millisecond))
	}
	return err
}

package main

import (
	"cmp"
	"context"
	"log/slog"
	"os"

	"github.com/event-piper/event-piper/cmd/internal/tail"
	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/core/settings"
	"github.com/event-piper/event-piper/core/web"
	"github.com/event-piper/event-piper/postgresql"
	"github.com/event-piper/event-piper/postgresql/awslogin"
	"github.com/event-piper/event-piper/postgresql/awslogin/awsaccount"
)

// source is the database that tail reads without a service.
type source struct {
	databaseURL, listenURL string
	login                  awslogin.Config
}

// runTail prints a consumer's events as they come.
func runTail(args []string) error {
	c := tail.Config{}
	var database source
	var types []string
	s := settings.New("stream tail", `Prints a consumer's events as they come, one a line: id, type and data between tabs.
It reconnects with its cursor until it is interrupted. It asks the service at --url or, without one, reads the
database of DATABASE_URL or, without either, asks the service at http://localhost:4000.`)
	s.Takes("[consumer]")
	s.Prefix(prefix)
	s.String(&c.URL, "URL", "", "Where the service is.")
	s.Secret(&c.Token, "TOKEN", "Bearer token to send to it, for AUTH=jwt.")
	s.String(&c.After, "AFTER", "", "Cursor to start from, 0 for the beginning; from now on unless given.")
	s.List(&types, "TYPE", "Types of events; all unless given.")
	s.Choice(&c.Format, "FORMAT", "payload", []string{"payload", "event", "cloudevents"}, "What an event's data is.")
	s.Prefix("")
	s.Section("Database")
	s.When(func() bool { return c.URL == "" })
	s.Secret(&database.databaseURL, "DATABASE_URL", "PostgreSQL connection string; what it leaves out is taken from libpq's PG* variables.")
	s.Secret(&database.listenURL, "DATABASE_LISTEN_URL", "The same database without a pooler in transaction mode, which is used instead if it is given.")
	database.login.Define(s, &database.databaseURL, &database.listenURL)
	s.String(&c.Source, "CLOUDEVENTS_SOURCE", "event-piper", "Source of the events in the format of CloudEvents, a URI reference.")
	s.Check(prefix+"AFTER", func() (err error) {
		if c.After != "" {
			_, err = core.ParseCursor(c.After)
		}
		return err
	})
	s.Check(prefix+"TYPE", func() (err error) {
		c.Types, err = core.ParseTypes(types)
		return err
	})
	if err := s.Parse(args, os.Getenv); err != nil {
		return err
	}
	c.Consumer = s.Arg(0)
	if c.Format == "payload" {
		c.Format = "" // what a service sends that knows no formats
	}
	stop, _, release := web.Signals(context.Background())
	defer release()
	if c.URL == "" && database.named() {
		if err := core.CheckName(c.Consumer); err != nil {
			return settings.Usage("to read a database takes a consumer, and its name %w", err)
		}
		poller, err := database.open(stop)
		if err != nil {
			return err
		}
		defer poller.Close()
		c.Poller = poller
	}
	c.URL = cmp.Or(c.URL, "http://localhost:4000")
	return tail.Run(stop, c, os.Stdout, os.Stderr)
}

func (d *source) named() bool { return postgresql.Named(d.databaseURL) || d.login.Named() }

// open connects, so that a database that cannot be read is said at once.
func (d *source) open(ctx context.Context) (*core.Direct, error) {
	dsn, login, err := d.login.Open(ctx, cmp.Or(d.listenURL, d.databaseURL), awsaccount.Find)
	if err != nil {
		return nil, err
	}
	connect, err := postgresql.Single(postgresql.Config{URL: dsn, Name: "event-piper tail", Login: login}, false)
	if err != nil {
		return nil, err
	}
	poller := core.NewDirect(connect, slog.New(slog.DiscardHandler)) // tail tells itself of an outage
	if err := poller.Ping(ctx); err != nil {
		poller.Close()
		return nil, err
	}
	return poller, nil
}

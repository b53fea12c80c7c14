package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/event-piper/event-piper/cmd/internal/doctor"
	"github.com/event-piper/event-piper/cmd/internal/service"
	"github.com/event-piper/event-piper/core/settings"
	"github.com/event-piper/event-piper/postgresql"
	"github.com/event-piper/event-piper/postgresql/awslogin"
	"github.com/event-piper/event-piper/postgresql/awslogin/awsaccount"
)

// runDoctor looks at a database, a service, or both, and says what to do about what it finds.
func runDoctor(args []string) error {
	var c doctor.Config
	var database postgresql.Config
	var login awslogin.Config
	s := settings.New("stream doctor", `Looks at the database, if one is named, and at the service at URL and what is in front of it, if one is given.
The exit code is 1 if there is something to mend.`)
	s.Takes("[URL]")
	named := func() bool { return postgresql.Named(database.URL) || login.Named() }
	s.When(func() bool { return named() || s.Arg(0) == "" })
	s.Secret(&database.URL, "DATABASE_URL", "PostgreSQL connection string of the service.")
	s.Secret(&database.ListenURL, "DATABASE_LISTEN_URL", "The same database without a pooler in transaction mode.")
	login.Define(s, &database.URL, &database.ListenURL)
	s.When(nil)
	s.Prefix(prefix)
	s.String(&c.Consumer, "CONSUMER", "doctor", "Consumer to ask as.")
	s.Secret(&c.Token, "TOKEN", "Bearer token to send instead, for AUTH=jwt.")
	s.Duration(&c.Watch, "WATCH", 15*time.Second, settings.Between(time.Second, time.Hour), "How long to stay on a stream; longer finds longer idle timeouts.")
	if err := s.Parse(args, os.Getenv); err != nil {
		return err
	}
	c.URL = s.Arg(0)
	if c.URL == "" && !named() {
		return settings.Usage("doctor takes DATABASE_URL or DATABASE_SECRET_ARN, the URL of a service, or both")
	}
	problems := 0
	show := func(of string, findings []postgresql.Finding) {
		for _, f := range findings {
			mark := "ok  "
			if f.Problem {
				mark = "mend"
				problems++
			}
			fmt.Printf("%s  %s: %s\n", mark, of, service.OneLine(f.Text))
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second+c.Watch)
	defer cancel()
	if named() {
		database.Name, database.Pagers = "event-piper doctor", 1
		var err error
		if database.URL, database.Login, err = login.Open(ctx, database.URL, awsaccount.Find); err != nil {
			show("database", []postgresql.Finding{{Problem: true, Text: err.Error()}})
		} else {
			show("database", postgresql.Examine(ctx, database))
		}
	}
	if c.URL != "" {
		show("service", doctor.Visit(ctx, c))
	}
	if problems > 0 {
		return errors.New("there is something to mend")
	}
	return nil
}

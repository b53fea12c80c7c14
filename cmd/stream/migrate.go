package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/event-piper/event-piper/core/settings"
	"github.com/event-piper/event-piper/postgresql"
	"github.com/event-piper/event-piper/postgresql/awslogin"
	"github.com/event-piper/event-piper/postgresql/awslogin/awsaccount"
	"github.com/event-piper/event-piper/postgresql/migrations"
)

// runMigrate creates the schema, or brings it up to date.
func runMigrate(args []string) error {
	var databaseURL, listenURL string
	var login awslogin.Config
	s := settings.New("stream migrate", "Creates the schema, or brings it up to date, while others insert and read. It takes the owner of the table.")
	s.Secret(&databaseURL, "DATABASE_URL", "PostgreSQL connection string of the owner; what it leaves out is taken from libpq's PG* variables.")
	s.Secret(&listenURL, "DATABASE_LISTEN_URL", "The same database without a pooler in transaction mode, which is used instead if it is given.")
	login.Define(s, &databaseURL, &listenURL)
	if err := s.Parse(args, os.Getenv); err != nil {
		return err
	}
	if !postgresql.Named(databaseURL) && !login.Named() {
		return errors.New("migrate: DATABASE_URL is not set")
	}
	dsn, as, err := login.Open(context.Background(), cmp.Or(listenURL, databaseURL), awsaccount.Find)
	if err != nil {
		return err
	}
	from, to, err := migrations.Apply(context.Background(), dsn, as)
	if err != nil {
		return err
	}
	if from == to {
		fmt.Printf("the schema is up to date at version %d\n", to)
		return nil
	}
	fmt.Printf("the schema is at version %d now, it was at %d\n", to, from)
	return nil
}

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/event-piper/event-piper/core/settings"
	"github.com/event-piper/event-piper/postgresql"
	"github.com/event-piper/event-piper/postgresql/awslogin"
	"github.com/event-piper/event-piper/postgresql/awslogin/awsaccount"
	"github.com/event-piper/event-piper/postgresql/devdb"
)

// runInsert inserts one event, for people and scripts on machines without psql.
func runInsert(args []string) error {
	var dsn string
	var login awslogin.Config
	s := settings.New("stream insert", `Inserts one event. The payload is JSON; - reads it from standard input.
Where no database is named, it goes to the development PostgreSQL of "stream".`)
	s.Takes("consumer", "type", "payload")
	s.Secret(&dsn, "DATABASE_URL", "PostgreSQL connection string; what it leaves out is taken from libpq's PG* variables.")
	login.Define(s, &dsn, nil)
	if err := s.Parse(args, os.Getenv); err != nil {
		return err
	}
	payload := s.Arg(2)
	if payload == "" {
		return settings.Usage("insert takes a consumer, a type and a payload: stream insert toto order.created '{\"order\": 17}'")
	}
	if payload == "-" {
		text, err := io.ReadAll(os.Stdin)
		if err != nil {
			return fmt.Errorf("read the payload: %w", err)
		}
		payload = string(text)
	}
	if !json.Valid([]byte(payload)) {
		return settings.Usage("the payload is not JSON: %.100s", payload)
	}
	if !postgresql.Named(dsn) && !login.Named() {
		forgetEnvironment()
		dsn = devdb.DSN(devDatabasePort)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	dsn, as, err := login.Open(ctx, dsn, awsaccount.Find)
	if err != nil {
		return err
	}
	return postgresql.Insert(ctx, dsn, as, s.Arg(0), s.Arg(1), payload)
}

package main

import (
	"context"
	"os"
	"strings"

	"github.com/event-piper/event-piper/cmd/internal/tail"
	"github.com/event-piper/event-piper/core/settings"
	"github.com/event-piper/event-piper/core/web"
)

// runTail prints a consumer's events as they come.
func runTail(args []string) error {
	c := tail.Config{}
	var types []string
	s := settings.New("stream tail", `Prints a consumer's events as they come, one a line: id, type and data between tabs.
It reconnects with its cursor until it is interrupted.`)
	s.Takes("consumer")
	s.String(&c.URL, "URL", "http://localhost:4000", "Where the service is.")
	s.Secret(&c.Token, "TOKEN", "Bearer token to send, for AUTH=jwt.")
	s.String(&c.After, "AFTER", "", "Cursor to start from, 0 for the beginning; from now on unless given.")
	s.List(&types, "TYPE", "Types of events; all unless given.")
	s.Choice(&c.Format, "FORMAT", "payload", []string{"payload", "event", "cloudevents"}, "What an event's data is.")
	if err := s.Parse(args, os.Getenv); err != nil {
		return err
	}
	c.Consumer, c.Types = s.Arg(0), strings.Join(types, ",")
	if c.Format == "payload" {
		c.Format = "" // what a service sends that knows no formats
	}
	stop, _, release := web.Signals(context.Background())
	defer release()
	return tail.Run(stop, c, os.Stdout, os.Stderr)
}

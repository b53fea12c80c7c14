package main

import (
	"context"

	"github.com/event-piper/event-piper/cmd/internal/service"
	"github.com/event-piper/event-piper/core/console"
	"github.com/event-piper/event-piper/postgresql"
)

// hasConsole is asked once it is known which database is used.
func (c *config) hasConsole() bool {
	return c.console == "on" || c.console == "auto" && c.devDSN != ""
}

// registerConsole adds the page, which may insert into a development database alone: a connection for each event.
func (c *config) registerConsole(s *service.Service) {
	page := console.Config{
		Version: s.Version, Hub: s.Hub, Tokens: c.Auth.Mode == "jwt",
		Database: c.devDSN, Refused: postgresql.ErrRefused,
	}
	if c.devDSN != "" {
		c.Web.KeepBodies = true
		page.Insert = func(ctx context.Context, subscriber, typ, payload string) error {
			return postgresql.Insert(ctx, c.devDSN, nil, subscriber, typ, payload)
		}
	}
	console.Register(s.Mux, page)
}

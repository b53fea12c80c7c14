// Poll is GET /events/poll as an AWS Lambda, behind an API Gateway HTTP API or a Function URL.
//
// Settings come from the environment: DATABASE_URL, POLL_WAIT, and those of authentication, browsers and logging
// that the containers have, too. An environment holds a connection for each poll that it answers at a time, which is one
// unless AWS_LAMBDA_MAX_CONCURRENCY says more, and listens only while a poll waits.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/core/auth"
	"github.com/event-piper/event-piper/core/emf"
	"github.com/event-piper/event-piper/core/health"
	"github.com/event-piper/event-piper/core/settings"
	"github.com/event-piper/event-piper/core/web"
	"github.com/event-piper/event-piper/functions/gateway"
	"github.com/event-piper/event-piper/openapi"
	"github.com/event-piper/event-piper/postgresql"
	"github.com/event-piper/event-piper/postgresql/awslogin"
)

type config struct {
	databaseURL string
	login       awslogin.Config
	pollWait    string
	auth        auth.Config
	web         web.Config
	metrics     emf.Log
	events      openapi.Settings
	maxPayload  int
}

func (c *config) define(s *settings.Set) {
	s.Section("Database")
	s.Secret(&c.databaseURL, "DATABASE_URL", "PostgreSQL connection string; what it leaves out is taken from libpq's PG* variables.")
	c.login.Define(s, &c.databaseURL, nil)
	s.Choice(&c.pollWait, "POLL_WAIT", "listen", []string{"listen", "interval"}, "listen: LISTEN while a poll waits; interval: read again and again, for a pooler without LISTEN.")
	c.events.Define(s)
	s.Int(&c.maxPayload, "MAX_PAYLOAD_BYTES", maxPayload, settings.Between(1<<10, maxPayload), "Largest payload that is delivered; of a larger one its consumer is told (410).")
	c.auth.Define(s)
	c.web.DefineHandler(s)
	c.metrics.Define(s)
}

// maxPayload is the largest payload that fits into Lambda's answer with what is around it: 6 MB after its encoding as
// JSON.
const maxPayload = 4 << 20

func main() {
	handler, closePoller, err := newHandler(context.Background(), os.Args[1:], os.Getenv)
	if err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			_, _ = fmt.Fprintf(os.Stderr, "poll: %v\n", err) // nowhere else to say it
		}
		os.Exit(settings.ExitCode(err))
	}
	lambda.StartWithOptions(handler, lambda.WithEnableSIGTERM(closePoller))
}

// newHandler puts the function together.
func newHandler(ctx context.Context, args []string, getenv func(string) string) (handler any, closePoller func(), err error) {
	var c config
	s := settings.New("poll", "Answers long-polls of events out of PostgreSQL, as an AWS Lambda.")
	c.define(s)
	if err := s.Parse(args, getenv); err != nil {
		return nil, nil, err
	}
	if !postgresql.Named(c.databaseURL) && !c.login.Named() {
		return nil, nil, errors.New("DATABASE_URL is not set")
	}
	log := web.Logger(c.web.LogFormat, c.web.LogLevel, os.Stderr)
	authenticator, err := c.auth.Open(ctx, log)
	if err != nil {
		return nil, nil, err
	}
	dsn, login, err := c.login.Open(ctx, c.databaseURL, awslogin.Function)
	if err != nil {
		return nil, nil, err
	}
	connect, err := postgresql.Single(postgresql.Config{
		URL: dsn, Name: "event-piper lambda", MaxPayload: c.maxPayload, Login: login,
	}, c.pollWait == "interval")
	if err != nil {
		return nil, nil, err
	}
	poller := core.NewDirect(connect, log)
	c.web.Done = func(a *web.Access, took time.Duration) {
		c.metrics.Write(append(emf.Answer(a.Status, a.Events),
			emf.Milliseconds("Wait", took), emf.Count("ReplacedConnections", poller.TakeReplaced()))...)
	}
	mux := http.NewServeMux()
	h := health.Health{Down: func(r *http.Request) string {
		if err := poller.Ping(r.Context()); err != nil {
			log.Warn("events cannot be read", "error", err)
			return "events cannot be read"
		}
		return ""
	}}
	h.Register(mux)
	openapi.Register(mux, openapi.Config{Poller: web.CountEvents(poller), Authenticate: c.web.Authenticate(authenticator, func(string) {}), Log: log, Settings: c.events})
	answer := web.Handler(c.web, mux, log)
	if c.auth.Mode == "gateway" {
		answer = gateway.Claimed(c.auth.JWT.ConsumerClaim, answer, log)
	}
	return gateway.Handler(answer, mux, log), poller.Close, nil
}

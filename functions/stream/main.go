// Stream is GET /events as an AWS Lambda: Server-Sent Events through an API Gateway REST API whose integration streams
// responses, or a Function URL that does.
//
// A stream takes an environment, and a connection of PostgreSQL, for as long as it lasts. It ends itself after
// STREAM_TIME, before the function's timeout would cut it off, and tells its client when to come back. Nothing of it is
// left when the function returns: the connection that listened is closed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/core/auth"
	"github.com/event-piper/event-piper/core/emf"
	"github.com/event-piper/event-piper/core/settings"
	"github.com/event-piper/event-piper/core/sse"
	"github.com/event-piper/event-piper/core/web"
	"github.com/event-piper/event-piper/functions/gateway"
	"github.com/event-piper/event-piper/openapi"
	"github.com/event-piper/event-piper/postgresql"
	"github.com/event-piper/event-piper/postgresql/awslogin"
)

type config struct {
	databaseURL string
	login       awslogin.Config
	maxPayload  int
	streamTime  time.Duration
	sse         sse.Config
	events      openapi.Settings
	auth        auth.Config
	web         web.Config
	metrics     emf.Log
}

func (c *config) define(s *settings.Set) {
	between := settings.Between[time.Duration]
	s.Section("Database")
	s.Secret(&c.databaseURL, "DATABASE_URL", "PostgreSQL connection string; what it leaves out is taken from libpq's PG* variables.")
	c.login.Define(s, &c.databaseURL, nil)
	s.Section("Streams")
	s.Duration(&c.streamTime, "STREAM_TIME", 10*time.Minute, between(time.Second, 15*time.Minute), "Time after which a stream ends and its client comes back; nine tenths of what the function's timeout leaves at most.")
	s.Duration(&c.sse.Heartbeat, "HEARTBEAT_INTERVAL", 4*time.Second, between(10*time.Millisecond, time.Minute), "Silence after which a stream gets a heartbeat, up to a tenth sooner.")
	s.Duration(&c.sse.WriteTimeout, "WRITE_TIMEOUT", 30*time.Second, between(10*time.Millisecond, time.Hour), "Time after which a stream ends whose client takes nothing.")
	s.Duration(&c.sse.Retry, "RETRY", 2*time.Second, between(time.Millisecond, time.Hour), "About how long clients are told to wait before they reconnect.")
	s.Int(&c.maxPayload, "MAX_PAYLOAD_BYTES", 16<<20, settings.Between(1<<10, 1<<30), "Largest payload that is delivered; of a larger one its consumer is told (reset).")
	c.events.Define(s)
	c.auth.Define(s)
	c.web.DefineHandler(s)
	c.metrics.Define(s)
}

func main() {
	handler, err := newHandler(context.Background(), os.Args[1:], os.Getenv)
	if err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			_, _ = fmt.Fprintf(os.Stderr, "stream: %v\n", err) // nowhere else to say it
		}
		os.Exit(settings.ExitCode(err))
	}
	lambda.Start(handler)
}

// newHandler puts the function together.
func newHandler(ctx context.Context, args []string, getenv func(string) string) (handler any, err error) {
	var c config
	s := settings.New("stream", "Streams events out of PostgreSQL, as an AWS Lambda.")
	c.define(s)
	if err := s.Parse(args, getenv); err != nil {
		return nil, err
	}
	if !postgresql.Named(c.databaseURL) && !c.login.Named() {
		return nil, errors.New("DATABASE_URL is not set")
	}
	log := web.Logger(c.web.LogFormat, c.web.LogLevel, os.Stderr)
	authenticator, err := c.auth.Open(ctx, log)
	if err != nil {
		return nil, err
	}
	dsn, login, err := c.login.Open(ctx, c.databaseURL, awslogin.Function)
	if err != nil {
		return nil, err
	}
	c.sse.MaxTopics, c.sse.Source, c.sse.Plain = c.events.MaxTopics, c.events.Source, true
	f := &function{
		config: c, log: log, authenticate: c.web.Authenticate(authenticator, func(string) {}),
		database: postgresql.Config{
			URL: dsn, Name: "event-piper lambda stream", Pagers: 1, MaxPayload: c.maxPayload, Login: login, Log: log,
		},
	}
	c.web.Done = func(a *web.Access, took time.Duration) {
		c.metrics.Write(append(emf.Answer(a.Status, a.Events), emf.Milliseconds("StreamTime", took))...)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /events", f)
	return gateway.Stream(web.Handler(c.web, mux, log), mux, log), nil
}

// function answers each request with a hub of its own, which lives as long as the request: an environment may be
// frozen between two, and must not listen then.
type function struct {
	config
	log          *slog.Logger
	database     postgresql.Config
	authenticate func(http.Handler) http.Handler
}

// limits are those of one stream.
var limits = core.Limits{Sessions: 1, SessionsPerConsumer: 1, Pagers: 1, TailBytes: 8 << 20, BufferBytes: 64 << 20}

func (f *function) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	store, err := postgresql.Open(r.Context(), f.database)
	if err != nil {
		panic(err) // its settings were those of the start
	}
	defer store.Close()
	hub := core.NewHub(store, limits, f.log)
	streams, err := sse.NewServer(f.sse, hub, f.log, nil)
	if err != nil {
		panic(err) // only the event loop, which it has not, could fail
	}
	defer streams.Close()
	follow := func(next http.Handler) http.Handler {
		return f.authenticate(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer f.run(r.Context(), hub, streams)()
			next.ServeHTTP(w, r)
		}))
	}
	streams.Handler(follow).ServeHTTP(w, r)
}

// run starts the hub, and what ends the stream in time. Without a database the hub has not started, and the stream is
// turned away. What it returns stops both and waits for them.
func (f *function) run(ctx context.Context, hub *core.Hub, streams *sse.Server) (stop func()) {
	lasts := f.streamTime
	if deadline, ok := ctx.Deadline(); ok {
		lasts = min(lasts, time.Until(deadline)*9/10)
	}
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	failed := make(chan struct{})
	running.Go(func() {
		defer close(failed)
		if err := hub.Run(ctx); err != nil {
			f.log.Warn("events cannot be read", "error", err)
		}
	})
	running.Go(func() {
		select {
		case <-time.After(lasts):
			streams.Drain(ctx)
		case <-ctx.Done():
		}
	})
	select {
	case <-hub.Started():
	case <-failed:
	}
	return func() {
		cancel()
		running.Wait()
	}
}

// Package service is what the stream and the poll container have in common: settings, the hub over
// PostgreSQL, authentication, and the order in which they start and stop.
package service

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/core/auth"
	"github.com/event-piper/event-piper/core/emf"
	"github.com/event-piper/event-piper/core/health"
	"github.com/event-piper/event-piper/core/metrics"
	"github.com/event-piper/event-piper/core/settings"
	"github.com/event-piper/event-piper/core/tracing"
	"github.com/event-piper/event-piper/core/web"
	"github.com/event-piper/event-piper/openapi"
	"github.com/event-piper/event-piper/postgresql"
	"github.com/event-piper/event-piper/postgresql/awslogin"
	"github.com/event-piper/event-piper/postgresql/awslogin/awsaccount"
)

// Version is set by the linker.
var Version = ""

// version is what the linker set, or else what the Go command recorded: a tag, a commit, or "(devel)".
func version() string {
	if info, ok := debug.ReadBuildInfo(); Version == "" && ok {
		return info.Main.Version
	}
	return Version
}

// PrintVersion is for --version.
func PrintVersion(w io.Writer, program string) error {
	_, err := fmt.Fprintf(w, "%s %s, %s %s/%s\n", program, version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}

// Config is the settings of both containers.
type Config struct {
	// DatabaseURL is a libpq connection string; what it leaves out comes from libpq's PG* variables.
	DatabaseURL string
	// ListenURL leads to the same database for the connection that listens, if DatabaseURL leads to a pooler.
	ListenURL  string
	Login      awslogin.Config
	Web        web.Config
	Auth       auth.Config
	Limits     core.Limits
	Events     openapi.Settings
	CloudWatch emf.Log
	maxPayload int
}

// Define defines the settings; port is the default one.
func (c *Config) Define(s *settings.Set, port int) {
	s.Section("Database")
	s.Secret(&c.DatabaseURL, "DATABASE_URL", "PostgreSQL connection string; what it leaves out is taken from libpq's PG* variables.")
	s.Secret(&c.ListenURL, "DATABASE_LISTEN_URL", "The same database without a pooler in transaction mode, for the one connection that listens; DATABASE_URL unless given.")
	c.Login.Define(s, &c.DatabaseURL, &c.ListenURL)
	s.Int(&c.Limits.Pagers, "REPLAY_CONNECTIONS", 4, settings.Between(1, 1000), "Connections, besides the one that follows, that replays may borrow for a page at a time.")

	s.Section("Sessions")
	s.Int(&c.Limits.Sessions, "MAX_SESSIONS", 10_000, settings.Between(1, 10_000_000), "Streams, waiting polls and answers being sent that this instance holds at a time (503 above).")
	s.Int(&c.Limits.SessionsPerConsumer, "MAX_SESSIONS_PER_CONSUMER", 2_000, settings.Between(1, 10_000_000), "Of these, for one consumer (429 above).")
	s.Int(&c.Limits.TailBytes, "TAIL_BYTES", 32<<20, settings.Between(1<<10, 1<<40), "Memory for recent events, which are delivered without the database.")
	s.Duration(&c.Limits.HeldBackDown, "HELD_BACK_DOWN", 5*time.Minute, settings.Between(0, 24*time.Hour),
		"Time for which one open transaction may hold back the events of all before the health check says DOWN; 0 is for ever.")
	s.Int(&c.Limits.BufferBytes, "BUFFER_BYTES", 64<<20, settings.Between(1<<20, 1<<40), "Memory for what was read and waits for clients; a quarter of it for one consumer (429 above, 503 in all).")
	s.Int(&c.maxPayload, "MAX_PAYLOAD_BYTES", 16<<20, settings.Between(1<<10, 1<<30), "Largest payload that is delivered; of a larger one its consumer is told (reset, 410).")

	c.Events.Define(s)
	c.Auth.Define(s)
	c.Web.Define(s, port)
	c.CloudWatch.Define(s)
}

// Service is a container's parts, ready for its routes to be added.
type Service struct {
	Log     *slog.Logger
	Version string
	Hub     *core.Hub
	Health  *health.Health
	Metrics *metrics.Metrics
	Mux     *http.ServeMux
	// Poller answers polls from the hub.
	Poller core.Poller
	// Deliveries is told what is delivered; nil if nobody wants to know.
	Deliveries *tracing.Deliveries
	// Authenticate puts the consumer into a request's context or refuses the request.
	Authenticate func(http.Handler) http.Handler
	// Drain ends streams while the service stops, and Close what is left of them; both may be nil.
	Drain func(ctx context.Context)
	Close func()
}

// Exit reports an error in one line and returns the exit code that belongs to it.
func Exit(program string, stderr io.Writer, err error) int {
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		_, _ = fmt.Fprintf(stderr, "%s: %s\n", program, OneLine(err.Error())) // nowhere else to say it
	}
	return settings.ExitCode(err)
}

// OneLine joins the lines of an error: pgx gives one to each attempt at each address.
func OneLine(text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return strings.ReplaceAll(strings.Join(slices.Compact(lines), "; "), ":; ", ": ")
}

// Probe is the command health: it asks the instance that runs on this machine with these settings whether it is ready.
func Probe(program string, port int, args []string) error {
	var c web.Config
	s := settings.New(program+" health", "Asks the instance on this machine whether it is ready. The exit code is 0 if it is, else 1.")
	c.DefineAddress(s, port)
	if err := s.Parse(args, os.Getenv); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	u := url.URL{Scheme: "http", Host: net.JoinHostPort("localhost", strconv.Itoa(c.Port)), Path: "/manage/health"}
	switch {
	case c.ManagePort != 0:
		u.Host = net.JoinHostPort(c.ManageHost(), strconv.Itoa(c.ManagePort))
	case c.Address != "":
		u.Host = net.JoinHostPort(c.Address, strconv.Itoa(c.Port))
	}
	if c.TLSCertFile != "" && c.ManagePort == 0 {
		u.Scheme = "https"
	}
	return health.Probe(ctx, u.String())
}

// Program is what is different between the containers.
type Program struct {
	// Name is what the database connections call themselves.
	Name string
	// Database, if set, provides the database that Config names none of, for a service that listens at addr. It
	// returns the connection string and what takes the database away again.
	Database func(ctx context.Context, addr net.Addr, log *slog.Logger) (dsn string, stop func(), err error)
	// Routes adds the program's own routes. It must not block.
	Routes func(s *Service) error
}

// Run serves until the process is told to stop.
func Run(c *Config, p Program) error {
	log := web.Logger(c.Web.LogFormat, c.Web.LogLevel, os.Stderr)
	stop, kill, release := web.Signals(context.Background())
	defer release()
	if err := checkOpenFiles(c.Limits, log); err != nil {
		return err
	}

	if p.Database != nil {
		c.Web.KeepToThisMachine()
	}
	if c.Web.MaxConnections == 0 {
		c.Web.MaxConnections = c.Limits.Sessions + 1000
	}
	server, err := web.Listen(stop, c.Web, log)
	if err != nil {
		return err
	}
	defer func() { _ = server.Close() }() // fails only if it is closed already

	manage, err := listenManage(stop, c.Web, log)
	if err != nil {
		return err
	}
	if manage != nil {
		defer func() { _ = manage.server.Close() }() // fails only if it is closed already
	}

	authenticator, err := c.Auth.Open(kill, log)
	if err != nil {
		return err
	}
	dsn := c.DatabaseURL
	if p.Database != nil {
		var remove func()
		dsn, remove, err = p.Database(stop, server.Addr(), log)
		switch {
		case err != nil && stop.Err() != nil:
			return nil // whoever told it to stop knows why it does
		case err != nil:
			return err
		}
		defer remove()
	}
	dsn, login, err := c.Login.Open(stop, dsn, awsaccount.Find)
	if err != nil {
		return err
	}
	log.Info("starting "+p.Name, "version", version(), "auth", c.Auth.Mode, "database", postgresql.Place(dsn), "address", server.Addr().String())
	store, err := postgresql.Open(kill, postgresql.Config{
		URL: dsn, ListenURL: c.ListenURL, Login: login, Name: p.Name, Pagers: c.Limits.Pagers, MaxPayload: c.maxPayload, Log: log,
	})
	if err != nil {
		return err
	}
	defer store.Close()

	hub := core.NewHub(store, c.Limits, log)
	following, unfollow := context.WithCancel(kill)
	failed, ended := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(ended)
		failed <- hub.Run(following)
	}()
	defer func() { unfollow(); <-ended }()
	select {
	case <-hub.Started():
	case err := <-failed:
		return err
	case <-stop.Done():
		return nil
	}

	defer c.CloudWatch.Every(time.Minute, reported(hub))()

	deliveries, err := tracing.Open(kill, p.Name, version(), log)
	if err != nil {
		return err
	}
	defer deliveries.Close()

	m := metrics.New(version())
	m.Hub(hub)
	s := &Service{
		Log: log, Version: version(), Hub: hub, Mux: http.NewServeMux(), Metrics: m,
		Health:       &health.Health{Down: func(*http.Request) string { return hub.Down() }},
		Authenticate: c.Web.Authenticate(authenticator, m.Refused),
		Deliveries:   deliveries, Poller: deliveries.Poller(web.CountEvents(hub)),
	}
	forOperators := s.Mux
	if manage != nil {
		forOperators = manage.mux
		sessionRoutes(manage.mux, hub)
	}
	s.Health.Register(forOperators)
	forOperators.Handle("GET "+web.MetricsPath, m.Handler())
	if err := p.Routes(s); err != nil {
		return err
	}

	server.NotReady = s.Health.Stop
	server.Drain = func(ctx context.Context) {
		hub.Drain()
		if s.Drain != nil {
			s.Drain(ctx)
		}
	}
	if s.Close != nil {
		defer s.Close()
	}
	if manage != nil {
		log.Info("management is served", "address", manage.server.Addr().String())
		defer manage.start(kill)()
	}
	return server.Serve(stop, kill, web.Handler(c.Web, s.Mux, log))
}

// reported returns what goes to CloudWatch: how many sessions an instance has is what a service of them is scaled by.
func reported(hub *core.Hub) func() []emf.Value {
	var before core.Stats
	return func() []emf.Value {
		now := hub.Stats()
		heldBack := time.Duration(0)
		if !now.HeldBack.IsZero() {
			heldBack = time.Since(now.HeldBack)
		}
		values := []emf.Value{
			emf.Count("Sessions", now.Sessions), emf.Count("EventsRead", now.EventsRead-before.EventsRead), emf.Milliseconds("HeldBack", heldBack),
		}
		before = now
		return values
	}
}

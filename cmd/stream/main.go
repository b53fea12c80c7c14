// Stream pushes events out of PostgreSQL: as Server-Sent Events on GET /events, and by long-polling on
// GET /events/poll.
//
//	stream            serve; without DATABASE_URL, over a development PostgreSQL of its own
//	stream migrate    bring the schema of DATABASE_URL up to date, and end
//	stream prune      delete the events older than --older-than, once or --every so often
//	stream health     ask the instance on this machine whether it is ready; exit code 0 or 1
//	stream tail       print a consumer's events as they come
//	stream doctor     look at the database and at a service from outside, and say what to mend
//	stream insert     insert one event, where psql is not installed
//	stream version    print the version
//	stream --help     every setting with its default
//
// It needs a PostgreSQL primary and holds one connection to it, and a few more while somebody replays.
//
// SIGTERM or SIGINT stop it in order: not ready for LAME_DUCK, then no new connections and all streams
// ended over DRAIN_TIME. A second signal stops it at once. The exit code is 0 after an orderly stop, 1 for
// anything that keeps it from serving, 2 for a wrong command line.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/event-piper/event-piper/cmd/internal/service"
	"github.com/event-piper/event-piper/core/settings"
	"github.com/event-piper/event-piper/core/sse"
	"github.com/event-piper/event-piper/openapi"
	"github.com/event-piper/event-piper/postgresql"
	"github.com/event-piper/event-piper/postgresql/devdb"
	"github.com/event-piper/event-piper/postgresql/migrations"
)

func main() {
	devdb.Supervise()
	os.Exit(service.Exit("stream", os.Stderr, run(os.Args[1:])))
}

type config struct {
	service.Config
	sse     sse.Config
	dataDir string
	dbPort  int
	console string // a setting
	devDSN  string // of the development database; "" with another
}

func (c *config) define(s *settings.Set) {
	s.Section("Streams")
	s.Duration(&c.sse.Heartbeat, "HEARTBEAT_INTERVAL", 4*time.Second, settings.Between(10*time.Millisecond, time.Hour), "Silence after which a stream gets a heartbeat, up to a tenth sooner.")
	s.Duration(&c.sse.WriteTimeout, "WRITE_TIMEOUT", 30*time.Second, settings.Between(10*time.Millisecond, time.Hour), "Time after which a stream ends whose client takes nothing.")
	s.Duration(&c.sse.Retry, "RETRY", 2*time.Second, settings.Between(time.Millisecond, time.Hour), "About how long clients are told to wait before they reconnect.")
	c.Define(s, servicePort)
	s.Section("Console")
	s.Choice(&c.console, "CONSOLE", "auto", []string{"auto", "on", "off"}, "The page /console, which asks nobody who they are, shows all sessions and ends them; auto is on with a development database alone.")
	s.Section("Development database")
	s.String(&c.dataDir, "DEV_DATA_DIR", "", "Directory for the data of the development PostgreSQL; temporary unless given.")
	s.Int(&c.dbPort, "DEV_DATABASE_PORT", devDatabasePort, settings.Between(0, 65535), "Its port; a free one if it is taken.")
}

// servicePort is where the service listens, and devDatabasePort the development PostgreSQL, unless told otherwise.
const (
	servicePort     = 4000
	devDatabasePort = 15432
)

// prefix begins the environment variables of commands whose names are too common to stand alone.
const prefix = "EVENT_PIPER_"

func run(args []string) error {
	command, args := service.Command(args)
	switch command {
	case "": // to serve, below
	case "migrate":
		return runMigrate(args)
	case "health":
		return service.Probe("stream", servicePort, args)
	case "prune":
		return runPrune(args)
	case "tail":
		return runTail(args)
	case "doctor":
		return runDoctor(args)
	case "insert":
		return runInsert(args)
	case "version":
		return service.PrintVersion(os.Stdout, "stream")
	default:
		return service.UnknownCommand("stream", command, "migrate", "health", "prune", "tail", "insert", "doctor", "version", "help")
	}
	var c config
	s := settings.New("stream", `Pushes events out of PostgreSQL: Server-Sent Events and long-polling.
"stream migrate" brings the schema up to date, "stream prune" deletes old events, "stream health" asks a
running one whether it is ready, "stream tail" prints events as they come, "stream insert" inserts one,
"stream version" prints the version.`)
	c.define(s)
	if err := s.Parse(args, os.Getenv); err != nil {
		return err
	}
	program := service.Program{Name: "event-piper stream", Routes: c.routes}
	if !postgresql.Named(c.DatabaseURL) && !c.Login.Named() {
		forgetEnvironment()
		program.Database = c.startDevelopment
	}
	return service.Run(&c.Config, program)
}

// forgetEnvironment keeps libpq's variables, which are about some other database, from the development one.
func forgetEnvironment() {
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "PG") {
			_ = os.Unsetenv(name) // fails for no name that there is
		}
	}
}

func (c *config) routes(s *service.Service) error {
	c.sse.MaxTopics, c.sse.Source = c.Events.MaxTopics, c.Events.Source
	c.sse.Delivered = s.Deliveries.Func("sse")
	streams, err := sse.NewServer(c.sse, s.Hub, s.Log, s.Metrics.Observe)
	if err != nil {
		return err
	}
	s.Mux.Handle("GET /events", streams.Handler(s.Authenticate))
	openapi.Register(s.Mux, openapi.Config{Poller: s.Poller, Authenticate: s.Authenticate, Log: s.Log, Settings: c.Events, Streams: true})
	s.Metrics.Streams(streams.Stats())
	if c.hasConsole() {
		c.registerConsole(s)
	}
	s.Drain = streams.Drain
	s.Close = streams.Close
	return nil
}

// startDevelopment starts a PostgreSQL for trying things out, and says what to paste.
func (c *config) startDevelopment(ctx context.Context, addr net.Addr, log *slog.Logger) (dsn string, stop func(), err error) {
	db, err := devdb.Start(ctx, devdb.Options{DataDir: c.dataDir, Port: c.dbPort, Log: log})
	if err != nil {
		return "", nil, fmt.Errorf("no DATABASE_URL, and no development PostgreSQL either: %w", err)
	}
	stop = func() {
		if err := db.Stop(); err != nil {
			log.Error("cannot stop the development PostgreSQL", "error", err)
		}
	}
	if _, _, err := migrations.Apply(ctx, db.DSN(), nil); err != nil {
		stop()
		return "", nil, err
	}
	_, port, _ := net.SplitHostPort(addr.String()) // the address of a listener always has a port
	kept := "its data is gone when it stops; DEV_DATA_DIR keeps it"
	if c.dataDir != "" {
		kept = "its data is kept in " + c.dataDir
	}
	c.devDSN = db.DSN()
	page := ""
	if c.hasConsole() {
		page = fmt.Sprintf("\nWatch events in a browser:\n\n    http://localhost:%s/console\n", port)
	}
	fmt.Printf(`
DATABASE_URL is not set: this is a development PostgreSQL, not for production.
Its only user is a superuser, and %s.

    %s
%s
Receive events in one terminal:

    curl -v localhost:%s/events -H "X-Consumer-Id: toto"

Insert one in another:

    psql %s -c "insert into events (type, timestamp, subscriber, payload) values ('insert', now(), 'toto', '{\"foo\": \"bar\"}')"

or, without psql:

    %s insert toto insert '{"foo": "bar"}' --database-url %s

`, kept, db.DSN(), page, port, db.DSN(), os.Args[0], db.DSN())
	return db.DSN(), stop, nil
}

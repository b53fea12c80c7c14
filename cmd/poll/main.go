// Poll answers long-polls of events out of PostgreSQL on GET /events/poll.
//
//	poll            serve
//	poll health     ask the instance on this machine whether it is ready; exit code 0 or 1
//	poll version    print the version
//	poll --help     every setting with its default
//
// It needs a PostgreSQL primary with the schema that `stream migrate` makes, and holds one connection to it,
// and a few more while somebody replays. Signals and exit codes are those of stream.
package main

import (
	"errors"
	"os"

	"github.com/event-piper/event-piper/cmd/internal/service"
	"github.com/event-piper/event-piper/core/settings"
	"github.com/event-piper/event-piper/openapi"
	"github.com/event-piper/event-piper/postgresql"
)

func main() { os.Exit(service.Exit("poll", os.Stderr, run(os.Args[1:]))) }

// port is where poll listens unless told otherwise.
const port = 4001

func run(args []string) error {
	command, args := service.Command(args)
	switch command {
	case "": // to serve, below
	case "health":
		return service.Probe("poll", port, args)
	case "version":
		return service.PrintVersion(os.Stdout, "poll")
	default:
		return service.UnknownCommand("poll", command, "health", "version", "help")
	}
	var c service.Config
	s := settings.New("poll", "Answers long-polls of events out of PostgreSQL. `poll health` asks a running one whether it is ready, `poll version` prints the version.")
	c.Define(s, port)
	if err := s.Parse(args, os.Getenv); err != nil {
		return err
	}
	if !postgresql.Named(c.DatabaseURL) && !c.Login.Named() {
		return errors.New("DATABASE_URL is not set")
	}
	return service.Run(&c, service.Program{Name: "event-piper poll", Routes: func(s *service.Service) error {
		openapi.Register(s.Mux, openapi.Config{Poller: s.Poller, Authenticate: s.Authenticate, Log: s.Log, Settings: c.Events})
		return nil
	}})
}

package postgresql_test

import (
	"testing"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/core/coretest"
	"github.com/event-piper/event-piper/postgresql"
	"github.com/event-piper/event-piper/postgresql/pgtest"
)

func TestPollers(t *testing.T) {
	config := func(dsn string) postgresql.Config {
		return postgresql.Config{URL: dsn, Name: "event-piper test", Pagers: 2, MaxPayload: coretest.MaxPayload}
	}
	for name, poller := range map[string]func(*testing.T, string) core.Poller{
		"hub": func(t *testing.T, dsn string) core.Poller {
			return coretest.RunHub(t, openWith(t, config(dsn)))
		},
		"direct":             func(t *testing.T, dsn string) core.Poller { return directWith(t, config(dsn), false) },
		"direct by interval": func(t *testing.T, dsn string) core.Poller { return directWith(t, config(dsn), true) },
	} {
		t.Run(name, func(t *testing.T) {
			coretest.TestPoller(t, func(t *testing.T) coretest.Polling {
				dsn := pgtest.New(t)
				return coretest.Polling{Poller: poller(t, dsn), Table: harness(t, dsn).Table}
			})
		})
	}
}

func TestRacingWritersLoseNothingWithoutAHub(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	race := race(t)
	race.Poller = func() (core.Poller, func()) {
		d := direct(t, dsn, false)
		return d, d.Close
	}
	if err := race.Run(t.Context(), harness(t, dsn)); err != nil {
		t.Fatal(err)
	}
}

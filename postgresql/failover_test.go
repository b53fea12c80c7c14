package postgresql_test

import (
	"context"
	"errors"
	"net/url"
	"os"
	osexec "os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/core/coretest"
	"github.com/event-piper/event-piper/postgresql/devdb"
	"github.com/event-piper/event-piper/postgresql/migrations"
	"github.com/event-piper/event-piper/postgresql/pgtest"
)

// standby copies a server's data as they are, and returns the copy as a standby that gets nothing more.
func standby(t *testing.T, primary *devdb.Server) *devdb.Server {
	t.Helper()
	data := query[string](t, connect(t, primary.DSN()), "show data_directory")
	if err := primary.Halt(false); err != nil {
		t.Fatal(err)
	}
	place, err := os.MkdirTemp("", "event-piper-standby-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(place) })
	if output, err := osexec.CommandContext(t.Context(), "cp", "-a", data, filepath.Join(place, "pgdata")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	if output, err := osexec.CommandContext(t.Context(), "chown", "--reference="+data, place).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	if err := os.WriteFile(filepath.Join(place, "pgdata", "standby.signal"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := primary.Resume(); err != nil {
		t.Fatal(err)
	}
	copied, err := devdb.Start(t.Context(), devdb.Options{DataDir: place})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := copied.Stop(); err != nil {
			t.Error(err)
		}
	})
	return copied
}

// either leads to whichever of two servers is there, the first before the second.
func either(t *testing.T, first, second *devdb.Server) string {
	t.Helper()
	u, err := url.Parse(first.DSN())
	if err != nil {
		t.Fatal(err)
	}
	other, err := url.Parse(second.DSN())
	if err != nil {
		t.Fatal(err)
	}
	u.Host += "," + other.Host
	return u.String()
}

// In each, the ids that the old primary had given are passed by the new one before the instance comes to it.
func TestAFailoverIsToldIfItLostEvents(t *testing.T) {
	t.Parallel()
	for name, lost := range map[string]int{"a standby that had got everything": 0, "a standby that was behind": 3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			primary := pgtest.Server(t, nil)
			if _, _, err := migrations.Apply(t.Context(), primary.DSN(), nil); err != nil {
				t.Fatal(err)
			}
			before := func(n int) {
				conn := connect(t, primary.DSN())
				defer func() { _ = conn.Close(context.Background()) }()
				for range n {
					exec(t, conn, insert)
				}
			}
			before(5)
			if lost == 0 {
				before(3)
			}
			copied := standby(t, primary)
			hub := coretest.RunHub(t, open(t, either(t, primary, copied)))
			before(lost)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			woken := make(chan struct{}, 1)
			session, err := hub.Open("toto", 4, nil, func() {
				select {
				case woken <- struct{}{}:
				default:
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			defer session.Close()
			take := func(through int64) (ids []int64, reset *core.ResetError) {
				t.Helper()
				for {
					events, err := session.Take(nil, 100, 1<<20)
					for _, e := range events {
						ids = append(ids, e.ID)
					}
					if errors.As(err, &reset) || session.Cursor() >= through {
						return ids, reset
					}
					if len(events) > 0 {
						continue
					}
					select {
					case <-woken:
					case <-ctx.Done():
						t.Fatalf("got %v, the cursor is %d, want it to come to %d", ids, session.Cursor(), through)
					}
				}
			}
			if ids, reset := take(8); !slices.Equal(ids, []int64{5, 6, 7, 8}) || reset != nil {
				t.Fatalf("before the failover: %v and %v, want 5 to 8", ids, reset)
			}
			conn := connect(t, copied.DSN())
			exec(t, conn, "select pg_promote()")
			for range 6 {
				exec(t, conn, insert)
			}
			newest := query[int64](t, conn, "select max(id) from events")
			if newest <= 8 {
				t.Fatalf("the new primary has come to %d, want it past 8", newest)
			}
			if err := primary.Halt(true); err != nil {
				t.Fatal(err)
			}
			ids, reset := take(newest)
			switch {
			case lost > 0 && (len(ids) > 0 || reset == nil || reset.Reason != core.Ahead || reset.Newest != newest):
				t.Errorf("got %v and %v, want a reset to %d", ids, reset, newest)
			case lost == 0 && (len(ids) != 6 || reset != nil):
				t.Errorf("got %v and %v, want six events", ids, reset)
			}
			exec(t, conn, insert)
			if ids, reset := take(newest + 1); !slices.Equal(ids, []int64{newest + 1}) || reset != nil {
				t.Errorf("afterwards got %v and %v, want the next", ids, reset)
			}
		})
	}
}

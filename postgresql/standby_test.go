package postgresql_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/postgresql/migrations"
	"github.com/event-piper/event-piper/postgresql/pgtest"
)

// One that lags behind would end a page where the primary does, with the last events missing.
func TestAStandbyIsRefused(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t, nil)
	if _, _, err := migrations.Apply(t.Context(), server.DSN(), nil); err != nil {
		t.Fatal(err)
	}
	conn := connect(t, server.DSN())
	exec(t, conn, insert)
	dir := query[string](t, conn, "show data_directory")
	if err := server.Halt(false); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "standby.signal"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := server.Resume(); err != nil {
		t.Fatal(err)
	}

	store := open(t, server.DSN())
	poller := direct(t, server.DSN(), true)
	page := func(known int64) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := store.Pages(ctx, []core.PageQuery{{Addresses: []string{"toto"}, Limit: 10}}, core.Mark{ID: known})
			return err
		}
	}
	for what, read := range map[string]func(context.Context) error{
		"follow": func(ctx context.Context) error {
			f, err := store.Follow(ctx)
			if err == nil {
				f.Close()
			}
			return err
		},
		"a page":                             page(0),
		"a page up to a position of another": page(1),
		"a poll": func(ctx context.Context) error {
			_, err := poller.Poll(ctx, core.Poll{Consumer: "toto", Limit: 10})
			return err
		},
	} {
		if err := read(t.Context()); err == nil || !strings.Contains(err.Error(), "standby") {
			t.Errorf("%s: %v, want an error that names the standby", what, err)
		}
	}
}

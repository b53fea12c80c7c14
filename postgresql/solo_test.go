package postgresql_test

import (
	"log/slog"
	"testing"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/postgresql"
	"github.com/event-piper/event-piper/postgresql/pgtest"
)

// Or two events that could be answered with one by one would be too much for the function together, again and again.
func TestAnEventThatDoesNotFitStartsTheNextBatch(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	conn := connect(t, dsn)
	for _, bytes := range []int{500_000, 4_200_000, 10} {
		exec(t, conn, "insert into events (type, subscriber, payload) values ('insert', 'toto', to_json(repeat('x', $1)))", bytes)
	}
	solo, err := postgresql.OpenSolo(dsn, "event-piper test", false, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(solo.Close)
	for id := int64(1); id <= 3; id++ {
		batch, err := solo.Poll(t.Context(), core.Poll{Consumer: "toto", After: id - 1, Limit: 10})
		if err != nil || len(batch.Events) != 1 || batch.Events[0].ID != id || batch.Cursor != id || batch.More != (id < 3) {
			t.Fatalf("after %d: %d events, cursor %d, more %t (%v); want event %d alone", id-1, len(batch.Events), batch.Cursor, batch.More, err, id)
		}
	}
}

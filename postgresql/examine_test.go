package postgresql_test

import (
	"strings"
	"testing"

	"github.com/event-piper/event-piper/postgresql"
	"github.com/event-piper/event-piper/postgresql/pgtest"
)

func problems(t *testing.T, dsn string) string {
	t.Helper()
	var texts []string
	for _, f := range postgresql.Examine(t.Context(), postgresql.Config{URL: dsn, Name: "event-piper test", Pagers: 1}) {
		if f.Problem {
			texts = append(texts, f.Text)
		}
	}
	return strings.Join(texts, "\n")
}

func TestExamineFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	if got := problems(t, dsn); got != "" {
		t.Errorf("a database that is well: found %q", got)
	}
	conn := connect(t, dsn)
	exec(t, conn, `insert into events (type, "timestamp", subscriber, payload) values ('insert', '-infinity', 'toto', '1')`)
	if got := problems(t, dsn); got != "" {
		t.Errorf("an event of no time: found %q", got)
	}
	exec(t, conn, "insert into events (id, type, subscriber, payload) overriding system value values (0, 'insert', 'toto', '1')")
	if got := problems(t, dsn); !strings.Contains(got, "ids below 1") {
		t.Errorf("an event that no cursor leads to: found %q", got)
	}
	exec(t, conn, "insert into events (id, type, subscriber, payload) overriding system value values (9, 'insert', 'toto', '1')")
	if got := problems(t, dsn); !strings.Contains(got, "above the sequence, up to 9") {
		t.Errorf("an event that is ahead of the sequence: found %q", got)
	}
	exec(t, conn, "select setval('events_id_seq', 9)")
	if got := problems(t, dsn); strings.Contains(got, "above") {
		t.Errorf("after the cure: found %q", got)
	}
	exec(t, conn, "alter table events alter id set cache 50")
	if got := problems(t, dsn); !strings.Contains(got, "caches 50 ids") {
		t.Errorf("ids drawn ahead: found %q", got)
	}
	if got := problems(t, pgtest.Empty(t)); !strings.Contains(got, "migrate") {
		t.Errorf("no schema: found %q", got)
	}
}

package postgresql_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/postgresql/pgtest"
)

// An application reads the position, then its state, and then what is sent after the position. Each writer's transaction
// changes the state and inserts an event that says so.
func TestStateAndTheStreamAfterItsPositionHaveNoGap(t *testing.T) {
	t.Parallel()
	const writers, transactions = 8, 60
	dsn := pgtest.New(t)
	reader, store := connect(t, dsn), open(t, dsn)
	exec(t, reader, "create table state (n bigint primary key)")
	var running atomic.Int32
	var all sync.WaitGroup
	t.Cleanup(all.Wait)
	for w := range writers {
		conn := connect(t, dsn)
		running.Add(1)
		all.Go(func() {
			defer running.Add(-1)
			for i := range transactions {
				n := w*transactions + i
				sql := fmt.Sprintf("insert into state values (%d)", n)
				event := fmt.Sprintf("insert into events (type, subscriber, payload) values ('insert', 'toto', '%d')", n)
				end := "commit"
				if rand.N(5) == 0 {
					end = "rollback"
				}
				if rand.N(2) == 0 {
					sql, event = event, sql
				}
				for _, sql := range []string{"begin", sql, "select pg_sleep(random() / 200)", event, "select pg_sleep(random() / 200)", end} {
					if _, err := conn.Exec(t.Context(), sql); err != nil {
						t.Errorf("%s: %v", sql, err)
						return
					}
				}
			}
		})
	}
	type handout struct {
		position int64
		state    map[string]bool
	}
	var handouts []handout
	for running.Load() > 0 {
		h := handout{query[int64](t, reader, "select events_position()"), map[string]bool{}}
		for _, n := range query[[]string](t, reader, "select coalesce(array_agg(n::text), '{}') from state") {
			h.state[n] = true
		}
		handouts = append(handouts, h)
	}
	all.Wait()
	events := history(t, store, "toto")
	between := 0
	for _, h := range handouts {
		if h.position > 0 && h.position < events[len(events)-1].ID {
			between++
		}
		for _, e := range events {
			if e.ID <= h.position && !h.state[string(e.Payload)] {
				t.Fatalf("event %d is at or below the position %d, and what it says is not in the state", e.ID, h.position)
			}
		}
	}
	if between == 0 {
		t.Error("no position lies between the first event and the last")
	}
	if got, want := query[int64](t, reader, "select events_position()"), events[len(events)-1].ID; got != want {
		t.Errorf("with nobody writing the position is %d, want the last event's id %d", got, want)
	}
}

func TestThePositionIsWhatAPollSays(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	owner, late := connect(t, dsn), connect(t, dsn)
	store := open(t, dsn)
	asking := map[string]*pgx.Conn{
		"the owner": owner,
		"a writer":  connect(t, role(t, dsn, "writer", "grant insert on events to ROLE")),
		"a reader":  connect(t, role(t, dsn, "reader", "grant select on events to ROLE")),
	}
	for _, step := range []string{
		"select 1", insert, "begin", insert, "rollback", insert, "begin", insert, "commit", "delete from events", "begin", "savepoint s",
		insert, "rollback to s", "commit",
	} {
		exec(t, late, step)
		pages, err := store.Pages(t.Context(), []core.PageQuery{{Addresses: []string{"toto"}, Limit: 1}}, core.Mark{})
		if err != nil {
			t.Fatal(err)
		}
		for who, conn := range asking {
			if got := query[int64](t, conn, "select events_position()"); got != pages[0].Newest {
				t.Errorf("after %s, %s is told %d, want %d", step, who, got, pages[0].Newest)
			}
		}
	}
}

func TestThePositionIsBelowWhatTheTransactionItselfInserted(t *testing.T) {
	t.Parallel()
	conn := connect(t, pgtest.New(t))
	exec(t, conn, insert)
	exec(t, conn, "begin; "+insert)
	if got := query[int64](t, conn, "select events_position()"); got != 1 {
		t.Errorf("the position is %d, want 1", got)
	}
	exec(t, conn, "commit")
}

func TestThePositionIsRefusedWhereTheSnapshotMayBeOlder(t *testing.T) {
	t.Parallel()
	conn := connect(t, pgtest.New(t))
	for _, level := range []string{"repeatable read", "serializable"} {
		exec(t, conn, "begin isolation level "+level)
		refused(t, conn, "25001", "select events_position()")
		exec(t, conn, "rollback")
	}
	exec(t, conn, "begin isolation level read uncommitted") // which PostgreSQL takes for read committed
	query[int64](t, conn, "select events_position()")
	exec(t, conn, "rollback")
}

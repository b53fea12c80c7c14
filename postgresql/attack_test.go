package postgresql_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/postgresql/pgtest"
)

// writerGrants are what roles.sql gives to writers.
const writerGrants = `grant insert (type, "timestamp", subscriber, payload, amends, traceparent) on events to ROLE`

// Everything of the schema: what runs with its owner's rights, and who else may do what.
func TestNobodyHasMoreRightsThanIntended(t *testing.T) {
	t.Parallel()
	conn := connect(t, pgtest.New(t))
	got := query[[]string](t, conn, `
		select array_agg(line order by line collate "C") from (
			select format('function %s%s, owner %s: %s', oid::regprocedure, case when prosecdef then ' with the owner''s rights' end,
				case when proowner = 'event_piper'::regrole or proowner = current_user::regrole then 'ours' else proowner::regrole::text end,
				case when proacl is null or array_to_string(proacl, ' ') ~ '(^| )=X' then 'public executes' else 'nobody else' end) as line
			from pg_proc where pronamespace = 'public'::regnamespace
			union all
			select format('%s %s: %s', case relkind when 'r' then 'table' when 'S' then 'sequence' when 'v' then 'view' else relkind::text end,
				relname, coalesce((select string_agg(privilege_type, ', ') from aclexplode(relacl) where grantee = 0), 'nobody else'))
			from pg_class where relnamespace = 'public'::regnamespace and relkind not in ('i', 't')
			union all
			select format('domain %s: %s', typname, coalesce((select string_agg(privilege_type, ', ') from aclexplode(typacl) where grantee = 0), 'default'))
			from pg_type where typnamespace = 'public'::regnamespace and typtype = 'd'
			union all
			select format('trigger %s on %s runs %s, enabled %s', tgname, tgrelid::regclass, tgfoid::regproc, tgenabled) from pg_trigger
		) all_of_it`)
	want := []string{
		"domain event_name: default",
		"domain event_type: default",
		"function events_after_delete() with the owner's rights, owner ours: nobody else",
		"function events_after_truncate() with the owner's rights, owner ours: nobody else",
		"function events_before_insert() with the owner's rights, owner ours: nobody else",
		"function events_before_truncate() with the owner's rights, owner ours: nobody else",
		"function events_before_update(), owner ours: nobody else",
		"function events_newest(bigint,regclass,regclass), owner ours: public executes",
		"function events_position() with the owner's rights, owner ours: public executes",
		"function events_position_unused(), owner ours: public executes",
		"function events_redact(bigint,text), owner ours: nobody else",
		"function events_redact(regclass,bigint,text), owner ours: nobody else",
		"function events_refuse(text,text,text), owner ours: nobody else",
		"function events_watermark(), owner ours: public executes",
		"sequence events_id_seq: nobody else",
		"table events: nobody else",
		"table events_pruned: nobody else",
		"table events_schema_version: nobody else",
		"trigger events_after_delete on events runs events_after_delete, enabled O",
		"trigger events_after_truncate on events runs events_after_truncate, enabled O",
		"trigger events_before_insert on events runs events_before_insert, enabled A",
		"trigger events_before_truncate on events runs events_before_truncate, enabled O",
		"trigger events_before_update on events runs events_before_update, enabled O",
		"view events_present: SELECT",
		"view events_writers: SELECT",
	}
	if !slices.Equal(got, want) {
		t.Errorf("the schema has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// The functions run with their owner's rights, on whatever table a trigger of it is on.
func TestATriggerFunctionIsNotToBeAttachedToAnotherTable(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	nobody, owner := connect(t, role(t, dsn, "nobody", "")), connect(t, dsn)
	for _, conn := range []*pgx.Conn{nobody, owner} {
		exec(t, conn, "create temp table trap (id bigint, type text, subscriber text, amends bigint)")
	}
	exec(t, owner, "insert into trap values (1, 'x', 'toto')")
	for function, test := range map[string]struct{ on, do string }{
		"events_after_delete":    {"after delete on trap referencing old table as deleted", "delete from trap"},
		"events_before_truncate": {"before truncate on trap", "truncate trap"},
		"events_after_truncate":  {"after truncate on trap", "truncate trap"},
		"events_before_insert":   {"before insert on trap", "insert into trap values (1)"},
		"events_before_update":   {"before update on trap", "update trap set id = 2"},
	} {
		each := " for each statement execute function public."
		if function == "events_before_update" {
			each = " for each row execute function public."
		}
		sql := "create trigger trap " + test.on + each + function + "()"
		refused(t, nobody, noPrivilege, sql)
		if function == "events_before_insert" || function == "events_before_update" {
			continue // which do nothing with what is in the table
		}
		exec(t, owner, sql)
		if _, err := owner.Exec(t.Context(), test.do); err == nil {
			t.Errorf("%s runs for another table", function)
		}
		exec(t, owner, "drop trigger trap on trap")
	}
	if n := query[int](t, owner, "select count(*) from events_pruned"); n != 0 {
		t.Errorf("%d consumers are marked, want none", n)
	}
}

func TestAWriterDoesNotChooseIds(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	writer := connect(t, role(t, dsn, "writer", writerGrants))
	refused(t, writer, noPrivilege,
		"insert into events (id, type, subscriber, payload) overriding system value values (5, 'insert', 'toto', '{}')")
	if _, err := writer.CopyFrom(t.Context(), pgx.Identifier{"events"}, []string{"id", "type", "subscriber", "payload"},
		pgx.CopyFromRows([][]any{{int64(5), "insert", "toto", "{}"}})); err == nil {
		t.Error("COPY with ids succeeded")
	}
	exec(t, writer, insert)
	exec(t, writer, `insert into events (type, "timestamp", subscriber, payload, amends, traceparent)
		values ('insert', now(), 'toto', '{}', 1, null)`)
}

// Who may only connect can take any advisory lock, but not the lock that an insert takes on the table.
func TestAdvisoryLocksOfOthersHoldNothingBack(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	nobody, writer := connect(t, role(t, dsn, "nobody", "")), connect(t, role(t, dsn, "writer", writerGrants))
	f := follow(t, dsn)
	for _, lock := range []string{
		"select pg_advisory_lock_shared(x'4550000000000000'::bigint)", "select pg_advisory_lock(x'4550000000000001'::bigint)",
		"begin; select pg_advisory_xact_lock_shared(x'4553000000000000'::bigint)",
	} {
		exec(t, nobody, lock)
	}
	exec(t, writer, insert)
	exec(t, writer, insert) // at the key that is held exclusively
	r, err := f.Read(t.Context(), 0, []string{"toto"})
	if err != nil || len(r.Events) != 2 || r.Writers != 0 {
		t.Errorf("read %d events beside %d writers (%v), want 2 beside none", len(r.Events), r.Writers, err)
	}
}

func TestAWriterWhoseKeysAreTakenFindsAnother(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	conn, other := connect(t, dsn), connect(t, dsn)
	nobody := connect(t, role(t, dsn, "nobody", ""))
	for range 30 {
		exec(t, conn, insert)
	}
	for _, test := range []struct {
		lock string
		want int64
	}{
		{"select pg_advisory_lock(x'4550000000000000'::bigint | 30)", 29},
		{"select pg_advisory_lock(x'4550000000000000'::bigint | n) from generate_series(25, 30) n", 24},
		{"select pg_advisory_lock(x'4550000000000000'::bigint | n) from generate_series(0, 30) n", 0},
	} {
		exec(t, nobody, test.lock)
		exec(t, conn, "begin")
		exec(t, conn, insert)
		exec(t, conn, insert)
		if got := query[int64](t, other, "select watermark from events_watermark()"); got != test.want {
			t.Errorf("after %s the watermark is %d, want %d", test.lock, got, test.want)
		}
		exec(t, conn, "rollback")
		exec(t, conn, "select setval('events_id_seq', 30)")
	}
}

func TestTheDoorbellTakenByOthersStopsNobody(t *testing.T) {
	t.Parallel()
	for _, lock := range []string{
		"select pg_advisory_lock($1)",        // held
		"select pg_advisory_lock_shared($1)", // held shared, while another queues for it
	} {
		dsn := pgtest.New(t)
		nobody := role(t, dsn, "nobody", "")
		conn, holder, queues := connect(t, dsn), connect(t, nobody), connect(t, nobody)
		exec(t, holder, lock, int64(doorbell))
		ctx, cancel := context.WithCancel(t.Context())
		queued := make(chan struct{})
		go func() {
			defer close(queued)
			_, _ = queues.Exec(ctx, "select pg_advisory_lock($1)", int64(doorbell)) // until it is cancelled
		}()
		for query[int](t, conn, advisoryLocks+" and not granted") == 0 {
			continue
		}

		f := follow(t, dsn)
		got := 0
		for n := range 20 {
			if n == 10 {
				exec(t, conn, insert)
			}
			start := time.Now()
			r, err := f.Read(t.Context(), 0, []string{"toto"})
			if err == nil {
				err = f.Wait(t.Context(), t.Context())
			}
			if err != nil {
				t.Fatalf("%s: %v", lock, err)
			}
			if took := time.Since(start); took > 900*time.Millisecond {
				t.Errorf("%s: waited for %v, want a cadence well below the safety read's second", lock, took)
			}
			got = len(r.Events)
		}
		if got != 1 {
			t.Errorf("%s: %d events, want 1", lock, got)
		}

		poller := direct(t, dsn, false)
		batch, err := poller.Poll(t.Context(), core.Poll{Consumer: "toto", After: 1, Limit: 1, Wait: 200 * time.Millisecond})
		if err != nil || len(batch.Events) != 0 {
			t.Errorf("%s: a poll got %+v (%v), want nothing after its wait", lock, batch, err)
		}
		poller.Close()
		cancel()
		<-queued
	}
}

func TestARepairedSequenceIsWhereItWas(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	conn := connect(t, dsn)
	f, store := follow(t, dsn), open(t, dsn)
	for range 3 {
		exec(t, conn, insert)
	}
	for range 2 { // the second time an event has been inserted since
		n := query[int64](t, conn, "select max(id) from events")
		exec(t, conn, "select setval('events_id_seq', max(id) + 1, false) from events")
		r, err := f.Read(t.Context(), 0, []string{"toto"})
		if err != nil || r.Sequence != n || r.Position != n {
			t.Errorf("the follower read up to %d of %d (%v), want %d of both", r.Position, r.Sequence, err, n)
		}
		pages, err := store.Pages(t.Context(), []core.PageQuery{{Addresses: []string{"toto"}, After: n, Limit: 1}}, core.Mark{})
		if err != nil || pages[0].Newest != n || pages[0].Ahead {
			t.Errorf("a page says newest %d, ahead %t (%v), want %d and not", pages[0].Newest, pages[0].Ahead, err, n)
		}
		if got := query[int64](t, conn, "select events_position()"); got != n {
			t.Errorf("the position is %d, want %d", got, n)
		}
		exec(t, conn, "begin; "+insert)
		if got := query[int64](t, connect(t, dsn), "select watermark from events_watermark()"); got != n {
			t.Errorf("with a writer in flight the watermark is %d, want %d", got, n)
		}
		exec(t, conn, "commit")
	}
}

// A queue of notifications that is full fails every commit that notifies.
func TestNobodyRingsWhenTheQueueOfNotificationsFillsUp(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	conn, armed, listener := connect(t, dsn), connect(t, dsn), connect(t, dsn)
	exec(t, armed, "select pg_advisory_lock_shared($1)", int64(doorbell))
	exec(t, listener, "listen new_events; listen done")
	// A tenth of the queue is 0.8 GB. Here one in a hundred thousand, 80 KB, will do.
	function := query[string](t, conn, "select pg_get_functiondef('events_before_insert'::regproc)")
	hasty := strings.Replace(function, "0.1::", "0.00001::", 1)
	if hasty == function {
		t.Fatal("the function does not look at the queue")
	}
	exec(t, conn, hasty)

	nobody := role(t, dsn, "nobody", "")
	holder := connect(t, nobody)
	exec(t, holder, "listen other")
	exec(t, holder, "begin")
	exec(t, connect(t, nobody), "select count(pg_notify('other', n || repeat('x', 7900))) from generate_series(1, 100) n")
	exec(t, conn, insert)
	if rings(t, listener, conn) {
		t.Error("a writer rings into a queue that nobody empties")
	}
	if err := holder.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, "the queue to be emptied", func() bool {
		exec(t, conn, insert)
		return rings(t, listener, conn)
	})
}

package postgresql_test

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/postgresql/migrations"
	"github.com/event-piper/event-piper/postgresql/pgtest"
)

func follow(t *testing.T, dsn string) core.Follower {
	t.Helper()
	f, err := open(t, dsn).Follow(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

// doorbell is the lock that writers look at.
const doorbell = 0x4551 << 48

// advisoryLocks counts those of the database.
const advisoryLocks = `select count(*) from pg_locks where locktype = 'advisory'
	and database = (select oid from pg_database where datname = current_database())`

// rings reports whether a notification has come, or comes before the one that the test itself sends.
func rings(t *testing.T, listener, conn *pgx.Conn) bool {
	t.Helper()
	exec(t, conn, "select pg_notify('done', '')")
	rung := false
	for {
		n, err := listener.WaitForNotification(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if n.Channel == "done" {
			return rung
		}
		if n.Channel != "new_events" || n.Payload != "" {
			t.Errorf("notified on %q with %q, want new_events with nothing", n.Channel, n.Payload)
		}
		rung = true
	}
}

func TestWritersRingOnlyIfSomebodyIsArmed(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	conn, listener, armed := connect(t, dsn), connect(t, dsn), connect(t, dsn)
	exec(t, listener, "listen new_events; listen done")
	for _, test := range []struct {
		what   string
		before func()
		insert string
		want   bool
	}{
		{"nobody is armed", func() {}, insert, false},
		{"somebody is", func() { exec(t, armed, "select pg_advisory_lock_shared($1)", int64(doorbell)) }, insert, true},
		{"the doorbell is off", func() {}, "begin; set local event_piper.doorbell = off; " + insert + "; commit", false},
		{"it was off in another transaction", func() {}, insert, true},
		{"the insert is rolled back", func() {}, "begin; " + insert + "; rollback", false},
		{"a savepoint is rolled back and the next insert not", func() {},
			"begin; savepoint s; " + insert + "; rollback to s; " + insert + "; commit", true},
		{"a savepoint is rolled back", func() {}, "begin; savepoint s; " + insert + "; rollback to s; commit", false},
		{"nobody is armed any more", func() { exec(t, armed, "select pg_advisory_unlock_shared($1)", int64(doorbell)) }, insert, false},
	} {
		test.before()
		if _, err := conn.Exec(t.Context(), test.insert, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatalf("%s: %v", test.what, err)
		}
		if got := rings(t, listener, conn); got != test.want {
			t.Errorf("%s: rings %t, want %t", test.what, got, test.want)
		}
	}
	if n := query[int](t, conn, advisoryLocks); n != 0 {
		t.Errorf("%d advisory locks are left behind, want none", n)
	}
}

func TestAnIdleFollowerIsArmedAndRung(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	conn := connect(t, dsn)
	f := follow(t, dsn)
	if _, err := f.Read(t.Context(), 0, nil); err != nil {
		t.Fatal(err)
	}
	if err := f.Wait(t.Context(), t.Context()); err != nil { // the first arms, and asks for another read
		t.Fatal(err)
	}
	if n := query[int](t, conn, advisoryLocks+" and granted and mode = 'ShareLock'"); n != 1 {
		t.Errorf("%d shared advisory locks, want the follower's", n)
	}
	f.Close()
	for query[int](t, conn, "select count(*) from pg_stat_activity where application_name = 'event-piper test' and datname = current_database()") > 0 {
		if t.Context().Err() != nil {
			t.Fatal("the follower's connection has not ended")
		}
	}
	if n := query[int](t, conn, advisoryLocks); n != 0 {
		t.Errorf("%d advisory locks after the follower has gone, want none", n)
	}
}

func TestASettingOfTheWriterDoesNotHideIt(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	conn, other := connect(t, dsn), connect(t, dsn)
	for _, forge := range []string{
		"set event_piper.writer = '1'", "set event_piper.writer = '-1'", "set event_piper.writer = '281474976710655'", "set event_piper.writer = ''",
		// The id of the transaction before, as a session that remembers it would say.
		"select set_config('event_piper.writer', pg_current_xact_id()::text, false)",
	} {
		exec(t, conn, forge)
		exec(t, conn, "begin")
		exec(t, conn, insert)
		if n := query[int](t, other, "select writers from events_watermark()"); n != 1 {
			t.Errorf("after %s: %d writers, want 1", forge, n)
		}
		exec(t, conn, "commit")
	}
}

// Loaders, and tools that replicate, turn off the triggers that are not told to run always.
func TestAWriterThatIsAReplicaIsSeen(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	conn := connect(t, dsn)
	exec(t, conn, "set session_replication_role = replica")
	exec(t, conn, "begin; "+insert)
	exec(t, connect(t, dsn), insert)
	r, err := follow(t, dsn).Read(t.Context(), 0, []string{"toto"})
	if err != nil || r.Writers != 1 || r.Watermark != 0 || len(r.Events) != 0 {
		t.Errorf("beside an open transaction: %d events, %d writers, watermark %d (%v), want none, one, and 0",
			len(r.Events), r.Writers, r.Watermark, err)
	}
	exec(t, conn, "commit")
}

func TestASavepointReleasesTheWritersLockAndTheNextInsertTakesItAgain(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	conn, other := connect(t, dsn), connect(t, dsn)
	for _, step := range []struct {
		sql  string
		want int
	}{
		{"begin", 0}, {"savepoint a", 0}, {insert, 1}, {"rollback to a", 0}, {insert, 1}, {insert, 1},
		{"savepoint b", 1}, {insert, 1}, {"rollback to b", 1}, {"rollback to a", 0}, {"release a", 0},
		{"savepoint c", 0}, {insert, 1}, {"release c", 1}, {insert, 1}, {"commit", 0},
		{"begin", 0}, {"do $$ begin " + insert + "; raise 'no'; exception when others then end $$", 0}, {insert, 1}, {"rollback", 0},
	} {
		exec(t, conn, step.sql)
		if got := query[int](t, other, "select writers from events_watermark()"); got != step.want {
			t.Errorf("after %s: %d writers, want %d", step.sql, got, step.want)
		}
	}
}

// Or a transaction that goes on inserting nothing, beside others that insert, would fill the cluster's table of locks.
func TestInsertsOfNothingTakeFewLocks(t *testing.T) {
	t.Parallel()
	for _, armed := range []bool{false, true} {
		dsn := pgtest.New(t)
		conn, other := connect(t, dsn), connect(t, dsn)
		exec(t, other, insert)
		if armed {
			exec(t, connect(t, dsn), "select pg_advisory_lock_shared($1)", int64(doorbell))
		}
		exec(t, conn, "begin")
		for range 20 {
			exec(t, conn, "insert into events (type, subscriber, payload) select 'insert', 'toto', '{}' where false")
			exec(t, other, insert)
		}
		if n := query[int](t, other, "select writers from events_watermark()"); n == 0 || n > 2 {
			t.Errorf("with the doorbell armed %t: %d locks, want 1 or 2", armed, n)
		}
		exec(t, conn, "commit")
	}
}

func TestWritersInAnotherDatabaseHoldNothingBack(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	other := connect(t, pgtest.New(t))
	exec(t, other, "begin; "+insert)
	conn := connect(t, dsn)
	exec(t, conn, insert)
	if n := query[int64](t, conn, "select watermark from events_watermark()"); n != 1 {
		t.Errorf("watermark %d, want 1", n)
	}
}

// role makes a role of a database and returns the DSN to be it.
func role(t *testing.T, dsn, name, grants string) string {
	t.Helper()
	conn := connect(t, dsn)
	database := query[string](t, conn, "select current_database()")
	name += "_" + database
	exec(t, conn, "create role "+name+" login password 'secret'")
	t.Cleanup(func() {
		conn, err := pgx.Connect(context.Background(), dsn)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close(context.Background())
		if _, err := conn.Exec(context.Background(), "drop owned by "+name+" cascade; drop role "+name); err != nil {
			t.Error(err)
		}
	})
	exec(t, conn, strings.ReplaceAll(grants, "ROLE", name))
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(name, "secret")
	return u.String()
}

func TestAWriterNeedsNoRightButToInsert(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	writer := connect(t, role(t, dsn, "writer", "grant insert on events to ROLE"))
	exec(t, writer, insert)
	if _, err := writer.CopyFrom(t.Context(), pgx.Identifier{"events"}, []string{"type", "subscriber", "payload"},
		pgx.CopyFromRows([][]any{{"insert", "toto", "{}"}})); err != nil {
		t.Errorf("copy: %v", err)
	}
	for _, sql := range []string{
		"select * from events", "delete from events", "update events set type = 'x'", "truncate events",
		"select * from events_pruned", "insert into events_pruned values ('toto', 5)", "select nextval('events_id_seq')",
		"insert into events (id, type, subscriber, payload) overriding system value values (1000, 'insert', 'toto', '{}') returning id",
	} {
		_, err := writer.Exec(t.Context(), sql)
		var refused *pgconn.PgError
		if !errors.As(err, &refused) || refused.Code != "42501" {
			t.Errorf("%s: %v, want permission denied", sql, err)
		}
	}
	if got := len(history(t, open(t, dsn), "toto")); got != 2 {
		t.Errorf("%d events are delivered, want 2", got)
	}
}

func TestAReaderNeedsNoRightButToSelect(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	reader := role(t, dsn, "reader",
		"grant select on events, events_pruned, events_schema_version to ROLE; grant select on sequence events_id_seq to ROLE")
	f := follow(t, reader)
	exec(t, connect(t, dsn), insert)
	r, err := f.Read(t.Context(), 0, []string{"toto"})
	if err != nil || len(r.Events) != 1 {
		t.Errorf("read %d events (%v), want 1", len(r.Events), err)
	}
	if got := len(history(t, open(t, reader), "toto")); got != 1 {
		t.Errorf("history has %d events, want 1", got)
	}
}

// What a writer puts first in its search path must not run with the rights of the functions' owner.
func TestAHostileSearchPathIsNotLookedAt(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	hostile := connect(t, role(t, dsn, "hostile", "grant insert, delete, select, truncate on events to ROLE; create schema authorization ROLE"))
	owner := connect(t, dsn)
	schema := query[string](t, hostile, "select current_user")
	exec(t, hostile, "set search_path = "+schema+", pg_catalog, public")
	const trap = ` language plpgsql as $$ begin
		if current_user <> session_user then raise 'executed as %', current_user; end if; return `
	for _, f := range []string{
		"coalesce(text, text) returns text" + trap + "''; end $$",
		"current_setting(text, boolean) returns text" + trap + "''; end $$",
		"set_config(text, text, boolean) returns text" + trap + "''; end $$",
		"pg_current_xact_id() returns xid8" + trap + "'1'; end $$",
		"pg_try_advisory_xact_lock_shared(bigint) returns boolean" + trap + "true; end $$",
		"pg_try_advisory_lock(bigint) returns boolean" + trap + "true; end $$",
		"pg_advisory_unlock(bigint) returns boolean" + trap + "true; end $$",
		"pg_notify(text, text) returns void" + trap + "; end $$",
		"pg_sequence_last_value(regclass) returns bigint" + trap + "1000000; end $$",
		"same(text, text) returns boolean" + trap + "true; end $$",
		"either(bigint, bigint) returns bigint" + trap + "0; end $$",
		"length(text) returns int" + trap + "1; end $$",
	} {
		exec(t, hostile, "create function "+schema+"."+f)
	}
	exec(t, hostile, "create operator "+schema+".= (leftarg = text, rightarg = text, function = "+schema+".same)")
	exec(t, hostile, "create operator "+schema+".<> (leftarg = text, rightarg = text, function = "+schema+".same)")
	exec(t, hostile, "create operator "+schema+".| (leftarg = bigint, rightarg = bigint, function = "+schema+".either)")
	exec(t, hostile, "create table "+schema+".events_pruned (subscriber text primary key, through bigint)")
	exec(t, hostile, "create table "+schema+".events (like public.events)")
	exec(t, hostile, "create temp table events_pruned (subscriber text primary key, through bigint)")

	exec(t, hostile, "begin")
	exec(t, hostile, "insert into public.events (type, subscriber, payload) values ('insert', 'toto', '{}'), ('insert', 'toto', '{}')")
	if n := query[int](t, owner, "select writers from events_watermark()"); n != 1 {
		t.Errorf("%d writers, want 1", n)
	}
	exec(t, hostile, "commit")
	exec(t, hostile, "delete from public.events where id operator(pg_catalog.=) 1")
	if through := query[int64](t, owner, "select through from events_pruned where subscriber = 'toto'"); through != 1 {
		t.Errorf("pruned through %d, want 1", through)
	}
	exec(t, hostile, "truncate public.events")
	if through := query[int64](t, owner, "select through from events_pruned where subscriber = 'toto'"); through != 2 {
		t.Errorf("pruned through %d, want 2", through)
	}
}

// Where everybody may create functions beside ours, one of the same name and type as a built-in must not stand in
// for it.
func TestAFunctionInOurSchemaDoesNotStandInForABuiltInOne(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	owner := connect(t, dsn)
	hostile := connect(t, role(t, dsn, "hostile", "grant insert on events to ROLE; grant create on schema public to ROLE"))
	const trap = " language plpgsql as $$ begin raise 'executed as %', current_user; end $$"
	for _, f := range []string{
		"trap(bigint, bigint) returns bigint",
		"pg_sequence_last_value(regclass) returns bigint", "pg_column_size(json) returns int", "pg_column_compression(json) returns text",
		"array_length(text[], int) returns int", "unnest(bigint[]) returns setof bigint", "pg_is_in_recovery() returns boolean",
		// These fit better than what is meant, if the types are not said.
		"trap(bigint[], bigint[]) returns bigint[]", "trap(event_name, text) returns boolean", "trap(oid, regclass) returns boolean",
		"pg_sequence_last_value(oid) returns bigint", "pg_sequence_last_value(text) returns bigint",
	} {
		exec(t, hostile, "create function public."+f+trap)
	}
	exec(t, hostile, "create aggregate public.min(bigint[]) (sfunc = public.trap, stype = bigint[], initcond = '{}')")
	for _, operator := range []string{"=", "<>", "<", ">", "<=", ">="} {
		exec(t, hostile, "create operator public."+operator+" (leftarg = event_name, rightarg = text, function = public.trap)")
	}
	exec(t, hostile, "create operator public.= (leftarg = oid, rightarg = regclass, function = public.trap)")
	for _, name := range []string{"max", "min"} {
		exec(t, hostile, "create aggregate public."+name+"(bigint) (sfunc = public.trap, stype = bigint, initcond = '0')")
	}
	exec(t, hostile, insert)
	exec(t, owner, insert)
	f := follow(t, dsn)
	if r, err := f.Read(t.Context(), 0, []string{"toto"}); err != nil || len(r.Events) != 2 {
		t.Errorf("read %d events (%v), want 2", len(r.Events), err)
	}
	bare, err := f.Read(t.Context(), 0, nil)
	if err == nil {
		_, err = f.FillPayloads(t.Context(), bare.Events)
	}
	if err != nil {
		t.Errorf("fill payloads: %v", err)
	}
	if got := len(history(t, open(t, dsn), "toto")); got != 2 {
		t.Errorf("history has %d events, want 2", got)
	}
	exec(t, owner, "delete from events")
}

// A writer reads the sequence a moment before it takes its lock. When others draw and commit in between, and are
// read, the watermark then steps back behind them for as long as the writer's transaction is open.
const stepBackBehind2 = "lock table events in row exclusive mode; select pg_advisory_xact_lock_shared(x'4550000000000000'::bigint | 1)"

func TestAReadDoesNotStepBackWithTheWatermark(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	conn, late := connect(t, dsn), connect(t, dsn)
	f := follow(t, dsn)
	exec(t, conn, insert)
	exec(t, conn, insert)
	exec(t, late, "begin")
	for _, step := range []struct {
		before               string
		position             int64
		events               int
		watermark, sinceRead int64
	}{
		{"select 1", 2, 2, 2, 0},
		{stepBackBehind2, 2, 0, 1, 2},
		{"select 1", 2, 0, 1, 2},
		{"commit", 3, 1, 3, 2},
	} {
		exec(t, late, step.before)
		if step.before == stepBackBehind2 {
			exec(t, conn, insert)
		}
		r, err := f.Read(t.Context(), step.sinceRead, []string{"toto"})
		if err != nil || r.Position != step.position || len(r.Events) != step.events || r.Watermark != step.watermark {
			t.Errorf("after %q: %d events up to %d, watermark %d (%v); want %d up to %d, watermark %d",
				step.before, len(r.Events), r.Position, r.Watermark, err, step.events, step.position, step.watermark)
		}
	}
}

func TestAPageHonoursAPositionThatWasReadBefore(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	conn, late := connect(t, dsn), connect(t, dsn)
	store := open(t, dsn)
	exec(t, conn, insert)
	exec(t, conn, insert)
	exec(t, late, "begin")
	exec(t, late, stepBackBehind2)
	for known, want := range map[int64]int{0: 1, 2: 2} {
		pages, err := store.Pages(t.Context(), []core.PageQuery{{Addresses: []string{"toto"}, Limit: 10}}, core.Mark{ID: known})
		if err != nil || len(pages[0].Events) != want || pages[0].Next != int64(want) {
			t.Errorf("with position %d known: %d events up to %d (%v), want %d", known, len(pages[0].Events), pages[0].Next, err, want)
		}
	}
}

// A position that a follower read before the database was replaced by an older one says nothing of the ids drawn anew.
func TestAPageRefusesAPositionThatTheDatabaseHasNotReached(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	exec(t, connect(t, dsn), insert)
	if pages, err := open(t, dsn).Pages(t.Context(), []core.PageQuery{{Addresses: []string{"toto"}, Limit: 10}}, core.Mark{ID: 2}); err == nil {
		t.Errorf("with position 2 known and one id drawn: %+v, want an error", pages)
	}
}

func TestAPreparedTransactionHoldsTheWatermark(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t, map[string]string{"max_prepared_transactions": "5"})
	if _, _, err := migrations.Apply(t.Context(), server.DSN(), nil); err != nil {
		t.Fatal(err)
	}
	f := follow(t, server.DSN())
	conn, armed := connect(t, server.DSN()), connect(t, server.DSN())
	exec(t, armed, "select pg_advisory_lock_shared($1)", int64(doorbell))

	exec(t, conn, "begin; "+insert)
	if _, err := conn.Exec(t.Context(), "prepare transaction 'rings'"); err == nil {
		t.Error("a transaction that notifies was prepared; PostgreSQL used to refuse")
	}
	exec(t, conn, "begin; set local event_piper.doorbell = off; "+insert)
	exec(t, conn, "prepare transaction 'silent'")
	exec(t, conn, insert)
	r, err := f.Read(t.Context(), 0, nil)
	if err != nil || len(r.Events) != 0 || r.Writers != 1 || r.OldestWriter != 0 {
		t.Errorf("read %+v (%v), want nothing, held back by a writer without a process", r, err)
	}
	exec(t, conn, "commit prepared 'silent'")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for len(r.Events) != 2 && err == nil {
		if r, err = f.Read(ctx, 0, nil); err == nil {
			err = f.Wait(ctx, ctx)
		}
	}
	if err != nil {
		t.Errorf("after the commit: %v", err)
	}
}

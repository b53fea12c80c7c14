package postgresql_test

import (
	"strings"
	"testing"

	"github.com/event-piper/event-piper/postgresql/pgtest"
)

// A writer cannot get at what others insert by changing the table, nor by standing beside it.
func TestAWriterChangesNothingOfTheTable(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	writer := connect(t, role(t, dsn, "writer", writerGrants+"; create schema authorization ROLE"))
	schema := query[string](t, writer, "select current_user")
	exec(t, writer, "create table "+schema+".part (id bigint)")
	for _, sql := range []string{
		"create table SCHEMA.child () inherits (public.events)",
		"alter table SCHEMA.part inherit public.events",
		"alter table public.events attach partition SCHEMA.part default",
		"create rule quiet as on insert to public.events do instead nothing",
		"create trigger mine before insert on public.events for each row execute function suppress_redundant_updates_trigger()",
		"alter table public.events disable trigger events_before_insert",
		"alter table public.events enable row level security",
		"create policy mine on public.events using (true)",
		"alter domain public.event_type drop constraint event_type_is_a_name_and_not_reserved",
		"create cast (text as public.event_name) without function",
		"set session_replication_role = replica",
		"create event trigger mine on ddl_command_start execute function event_trigger()",
		"set role pg_write_all_data",
		"create or replace view public.events_writers as select 0::bigint as before, 0 as pid",
	} {
		sql = strings.ReplaceAll(sql, "SCHEMA", schema)
		if _, err := writer.Exec(t.Context(), sql); err == nil {
			t.Errorf("%s: done, want it refused", sql)
		}
	}
	exec(t, writer, insert)
	if got := len(history(t, open(t, dsn), "toto")); got != 1 {
		t.Errorf("%d events are delivered, want 1", got)
	}
}

// Whoever inserts for others does so as a writer that is seen, and a temporary table of the same name is another table.
func TestAWriterInDisguiseIsSeen(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	owner, other := connect(t, dsn), connect(t, dsn)
	database := query[string](t, owner, "select current_database()")
	user := connect(t, role(t, dsn, "user", ""))
	writer := connect(t, role(t, dsn, "writer", writerGrants+"; create schema authorization ROLE"))
	exec(t, writer, `create function writer_`+database+`.send() returns void language sql security definer
		as $$ insert into public.events (type, subscriber, payload) values ('insert', 'toto', '{}') $$`)
	exec(t, writer, `grant usage on schema writer_`+database+` to public`)
	exec(t, user, "create temp table events (type text, subscriber text, payload text)")
	for _, step := range []struct {
		sql     string
		writers int
	}{
		{"insert into events values ('insert', 'toto', '{}')", 0}, // its own
		{"select writer_" + database + ".send()", 1},
	} {
		exec(t, user, "begin")
		exec(t, user, step.sql)
		if got := query[int](t, other, "select writers from events_watermark()"); got != step.writers {
			t.Errorf("%s: %d writers, want %d", step.sql, got, step.writers)
		}
		exec(t, user, "commit")
	}
	exec(t, owner, "set role writer_"+database)
	exec(t, owner, "begin; "+insert)
	if got := query[int](t, other, "select writers from events_watermark()"); got != 1 {
		t.Errorf("after set role: %d writers, want 1", got)
	}
	exec(t, owner, "commit; reset role")
	if got := len(history(t, open(t, dsn), "toto")); got != 2 {
		t.Errorf("%d events are delivered, want 2", got)
	}
}

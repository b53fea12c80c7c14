package postgresql

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// selectHiding returns what would hide events from this reader without an error, or let some appear late, in the order of
// what to mend first.
const selectHiding = `
	select complaint
	from (
		select c.*, relnamespace::regnamespace || '.' || quote_ident(relname) as name, c.relname = 'events' as log, c.relkind in ('r', 'p') as is_table,
			(select tgenabled from pg_trigger where tgrelid = c.oid and tgname = 'events_before_insert') as trigger
		from pg_class c where c.oid in (to_regclass('events'), to_regclass('events_pruned'))
	) c
	cross join lateral (values
		(1, log and (not is_table or trigger is null), format(
			'%s is not the table of Event Piper, which would have the trigger events_before_insert: is another schema ahead in the search_path?', name)),
		(2, not is_table, format('%s is a view, but the table itself is read', name)),
		(3, not has_table_privilege(c.oid, 'select') and not (
			select bool_and(has_column_privilege(c.oid, attnum, 'select')) from pg_attribute where attrelid = c.oid and attnum > 0 and not attisdropped),
			format('permission denied for table %s: grant select on it to %I (see postgresql/roles.sql)', name, current_user)),
		(4, is_table and row_security_active(c.oid), format(
			'row-level security hides rows of %s from %2$I: alter role %2$I bypassrls, or alter table %1$s disable row level security', name, current_user)),
		(5, log and trigger in ('D', 'R'), format(
			'the trigger that keeps events in order is disabled: alter table %s enable trigger events_before_insert', name)),
		(6, relispartition, format(
			'%s is a partition of another table, and inserts through that pass its trigger by: detach it', name)),
		(7, relkind = 'r' and exists (select from pg_inherits where inhparent = c.oid), format(
			'%s inherits from %s, and inserts there pass its trigger by: alter table %1$s no inherit %2$s',
			(select inhrelid::regclass from pg_inherits where inhparent = c.oid limit 1), name)),
		(8, is_table and exists (select from pg_rewrite where ev_class = c.oid and is_instead), format(
			'the rule %s replaces what is written to %s: drop it',
			(select quote_ident(rulename) from pg_rewrite where ev_class = c.oid and is_instead limit 1), name)),
		(9, log and exists (select from pg_subscription_rel join pg_subscription s on s.oid = srsubid where srrelid = c.oid and subenabled), format(
			'the subscription %s writes to %s, and its rows pass the trigger by: alter subscription %1$s disable',
			(select quote_ident(subname) from pg_subscription_rel join pg_subscription s on s.oid = srsubid where srrelid = c.oid and subenabled limit 1), name)),
		(10, log and not exists (select from pg_depend d join pg_rewrite r on r.oid = objid
			where d.classid = 'pg_rewrite'::regclass::oid and ev_class = to_regclass('events_writers')::oid
				and refclassid = 'pg_class'::regclass::oid and refobjid = c.oid),
			format('%s took the place of the table that the functions of Event Piper look at, and the order of its events is not kept: '
				'rename that one back, and insert into it what is to stay', name))
	) p (n, found, complaint)
	where found
	order by log desc, n
	limit 1`

// checkVisible refuses a database that would hide events from this reader.
func checkVisible(ctx context.Context, conn *pgx.Conn) error {
	complaint, err := ask(ctx, conn, selectHiding)
	if err == nil && complaint != "" {
		err = errors.New(complaint)
	}
	return err
}

// checkSearchPath tells a schema that is there but not looked into from one that is missing.
func checkSearchPath(ctx context.Context, conn *pgx.Conn) error {
	complaint, err := ask(ctx, conn, `
		select case when has_schema_privilege(n.oid, 'usage')
			then format('Event Piper is in the schema %1$I, and the search_path is %2$s: set search_path=%1$I in DATABASE_URL, or alter role %3$I set search_path = %1$I',
				nspname, current_setting('search_path'), current_user)
			else format('permission denied for schema %1$I: grant usage on schema %1$I to %2$I', nspname, current_user) end
		from pg_class c join pg_namespace n on n.oid = relnamespace
		where relname = 'events_schema_version' and relkind = 'r' and to_regclass('events_schema_version') is null
		order by nspname
		limit 1`)
	if err == nil && complaint != "" {
		err = errors.New(complaint)
	}
	return err
}

// ask returns the text that a query answers with, if it does.
func ask(ctx context.Context, conn *pgx.Conn, query string) (answer string, err error) {
	var batch pgx.Batch
	batch.Queue(query).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			if err := rows.Scan(&answer); err != nil {
				return err
			}
		}
		return rows.Err()
	})
	if err := sendRead(ctx, conn, &batch); err != nil {
		return "", fmt.Errorf("look at the schema: %w", err)
	}
	return answer, nil
}

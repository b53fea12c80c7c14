-- Least privilege: three roles without a login, to be granted to the users of applications and services. Run
-- it as the owner of the table, after `stream migrate`:
--
--   psql "$DATABASE_URL" -f postgresql/roles.sql
--
-- Roles belong to the whole cluster: where they exist already, for another database, they get the rights here, too.
--
-- The owner itself is whoever ran `stream migrate`; it alone can change the schema, and delete what
-- retention no longer keeps.

\set ON_ERROR_STOP on
begin;

-- Until PostgreSQL 15 everybody might create objects in the schema public, beside the functions that are trusted there.
select format('revoke create on schema %I from public', current_schema()) \gexec

-- Applications: events are appended and never changed. The triggers do the rest with the owner's rights.
do $$ begin create role event_piper_writer nologin; exception when duplicate_object then null; end $$;
grant insert on events to event_piper_writer;

-- stream, poll and the Lambda.
do $$ begin create role event_piper_reader nologin; exception when duplicate_object then null; end $$;
grant select on events, events_pruned, events_schema_version to event_piper_reader;
grant select on sequence events_id_seq to event_piper_reader;

commit;

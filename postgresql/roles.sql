-- Least privilege: three roles without a login, to be granted to the users of applications and services. Run
-- it as the owner of the table, after `stream migrate`:
--
--   psql "$DATABASE_URL" -f postgresql/roles.sql
--
-- Roles belong to the whole cluster: where they exist already, for another database, they get the rights here, too. To make
-- them takes CREATEROLE; an owner without it asks an administrator for them first, and runs this then.
--
-- The owner itself is whoever ran `stream migrate`; it alone can change the schema, and delete what
-- retention no longer keeps.

\set ON_ERROR_STOP on
begin;

-- Until PostgreSQL 15 everybody might create objects in the schema public, beside the functions that are trusted there.
-- Only the schema's owner can take that back: for another, PostgreSQL warns here, and an administrator has to do it.
select format('revoke create on schema %I from public', current_schema()) \gexec

-- Applications: events are appended and never changed. The triggers do the rest with the owner's rights.
-- The columns are named, and id is not: who may choose ids can break everybody's later inserts by those, and insert
-- behind the readers.
select 'create role event_piper_writer nologin' where to_regrole('event_piper_writer') is null \gexec
select format('grant usage on schema %I to event_piper_writer', current_schema()) \gexec
grant insert (type, "timestamp", subscriber, payload, amends, traceparent) on events to event_piper_writer;
grant execute on function events_position() to event_piper_writer;

-- stream, poll and the Lambda.
select 'create role event_piper_reader nologin' where to_regrole('event_piper_reader') is null \gexec
select format('grant usage on schema %I to event_piper_reader', current_schema()) \gexec
grant select on events, events_pruned, events_schema_version to event_piper_reader;
grant select on sequence events_id_seq to event_piper_reader;
grant execute on function events_watermark(), events_newest(bigint, regclass, regclass), events_position(), events_position_unused() to event_piper_reader;

commit;

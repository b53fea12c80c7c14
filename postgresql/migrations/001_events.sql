-- The table that applications insert into, in the transaction that made the event true.

-- What the functions refer to is looked for where this migration puts it, whatever the caller's search path is.
-- pg_catalog, which is not named, comes first: nothing made in this schema can stand in for a function of it.
select set_config('search_path', format('%I, pg_temp', current_schema()), true);

-- A type and a subscriber go into lines of a Server-Sent Event and of a log: a line break in one would forge
-- the next. A domain rather than a check of the table, because PostgreSQL keeps a domain's check compiled for the
-- life of a connection and reads a table's checks anew for every statement; and as few functions in it as will do,
-- because each is set up for every statement.
create domain event_name as text
    constraint event_name_has_1_to_255_characters_and_no_control_characters
        check (length(value) <= 255 and value ~ '^[^\u0001-\u001f\u007f-\u009f]+$');

create table events (
    -- 48 bits: exact as a JSON number in every language, and it fits the lock keys below.
    id           bigint generated always as identity (maxvalue 281474976710655) primary key,
    type         event_name not null,
    "timestamp"  timestamptz not null default now(),
    subscriber   event_name not null,
    -- json, not jsonb: the order of keys and the digits of numbers stay as they were written.
    payload      json not null
);

create index events_subscriber_id_idx on events (subscriber, id);

comment on table events is
    'Event Piper: insert a row, and its subscriber receives it over HTTP once the transaction has committed.';

-- How far retention has deleted, for each consumer that lost events by it: a reader with an older cursor is
-- told so instead of being served a gap.
create table events_pruned (
    subscriber  text primary key,
    through     bigint not null
);

create index events_pruned_through_idx on events_pruned (through);

create function events_after_delete() returns trigger
    language plpgsql security definer set search_path from current as $$
begin
    insert into events_pruned (subscriber, through)
        select d.subscriber, max(d.id) from deleted d group by d.subscriber order by d.subscriber
        on conflict (subscriber) do update set through = greatest(events_pruned.through, excluded.through);
    return null;
end $$;

create trigger events_after_delete after delete on events
    referencing old table as deleted
    for each statement execute function events_after_delete();

create function events_before_truncate() returns trigger
    language plpgsql security definer set search_path from current as $$
begin
    -- What committed after the transaction's only snapshot would go without a mark.
    if current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
        raise exception 'events are truncated at isolation level read committed, not %', current_setting('transaction_isolation');
    end if;
    insert into events_pruned (subscriber, through)
        select e.subscriber, max(e.id) from events e group by e.subscriber order by e.subscriber
        on conflict (subscriber) do update set through = greatest(events_pruned.through, excluded.through);
    return null;
end $$;

create trigger events_before_truncate before truncate on events
    for each statement execute function events_before_truncate();

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

-- The types of a stream's own frames, which a browser cannot tell from an event's.
create domain event_type as text
    constraint event_type_has_1_to_255_characters_and_no_control_characters
        check (length(value) <= 255 and value ~ '^[^\u0001-\u001f\u007f-\u009f]+$')
    constraint event_type_is_not_reserved
        check (value not in ('heartbeat', 'reset'));

-- W3C Trace Context: https://www.w3.org/TR/trace-context/#traceparent-header-field-values
create domain event_traceparent as text
    constraint event_traceparent_is_one_of_w3c_trace_context
        check (value ~ '^(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$');

create table events (
    -- 48 bits: exact as a JSON number in every language, and it fits the lock keys below.
    id           bigint generated always as identity (maxvalue 281474976710655) primary key,
    type         event_type not null,
    "timestamp"  timestamptz not null default now(),
    subscriber   event_name not null,
    -- json, not jsonb: the order of keys and the digits of numbers stay as they were written.
    payload      json not null,
    -- The earlier event of the same subscriber that this one corrects.
    amends       bigint,
    traceparent  event_traceparent
);

create index events_subscriber_id_idx on events (subscriber, id);
create index events_amends_idx on events (amends) where amends is not null;

comment on table events is
    'Event Piper: insert a row, and its subscriber receives it over HTTP once the transaction has committed.';

-- A constraint of the table would be set up for every statement, and a foreign key queue a check for every row and
-- keep retention from deleting what was amended. This runs for rows that amend alone, and for ids
-- that are no position, which only who may choose ids can insert.
create function events_before_amend() returns trigger
    language plpgsql security definer set search_path from current as $$
begin
    if tg_relid <> 'events'::regclass then
        raise exception 'this function is for the table of events alone';
    end if;
    if new.id <= 0 then
        raise exception 'the id of an event is above 0, not %', new.id using errcode = 'check_violation', column = 'id', table = 'events';
    end if;
    -- As id is generated before, no event that is there can be a later one, but what sets ids itself may look ahead.
    if not exists (select from events e where e.id = new.amends and e.id < new.id and e.subscriber::text = new.subscriber::text) then
        raise exception 'there is no earlier event % of this subscriber to amend', new.amends
            using errcode = 'foreign_key_violation', column = 'amends', table = 'events';
    end if;
    return new;
end $$;

create trigger events_before_amend before insert on events
    for each row when (new.amends is not null or new.id <= 0) execute function events_before_amend();

-- Readers keep what they have read, in the order of ids and by subscriber: they would not follow.
create function events_before_update() returns trigger
    language plpgsql security definer set search_path from current as $$
begin
    raise exception 'events are appended and not changed'
        using errcode = 'restrict_violation',
            hint = 'Insert an event that amends the other, or empty its payload by events_redact(id, reason).';
end $$;

create trigger events_before_update
    before update of id, type, "timestamp", subscriber, amends, traceparent on events
    for each statement execute function events_before_update();

-- Empties the payload of an event, for the owner, and tells who reads its subscriber by an event that amends it, whose id
-- it returns. The position stays, so that no cursor is affected.
create function events_redact(_id bigint, _reason text default null) returns bigint
    language plpgsql volatile set search_path from current as $$
declare
    _subscriber text;
    _redaction bigint;
begin
    update events set payload = 'null' where id = _id returning subscriber into _subscriber;
    if not found then
        raise exception 'there is no event %', _id using errcode = 'no_data_found';
    end if;
    insert into events (type, subscriber, payload, amends)
        values ('redacted', _subscriber, json_build_object('reason', _reason), _id)
        returning id into _redaction;
    return _redaction;
end $$;

revoke execute on function events_redact(bigint, text) from public;

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
    if tg_relid <> 'events'::regclass then
        raise exception 'this function is for the table of events alone';
    end if;
    insert into events_pruned (subscriber, through)
        select d.subscriber::text, max(d.id) from deleted d group by d.subscriber::text order by d.subscriber::text
        on conflict (subscriber) do update set through = greatest(events_pruned.through, excluded.through);
    return null;
end $$;

create trigger events_after_delete after delete on events
    referencing old table as deleted
    for each statement execute function events_after_delete();

create function events_before_truncate() returns trigger
    language plpgsql security definer set search_path from current as $$
begin
    if tg_relid <> 'events'::regclass then
        raise exception 'this function is for the table of events alone';
    end if;
    -- What committed after the transaction's only snapshot would go without a mark.
    if current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
        raise exception 'events are truncated at isolation level read committed, not %', current_setting('transaction_isolation');
    end if;
    insert into events_pruned (subscriber, through)
        select e.subscriber::text, max(e.id) from events e group by e.subscriber::text order by e.subscriber::text
        on conflict (subscriber) do update set through = greatest(events_pruned.through, excluded.through);
    return null;
end $$;

create trigger events_before_truncate before truncate on events
    for each statement execute function events_before_truncate();

revoke execute on function events_before_amend(), events_before_update(), events_after_delete(), events_before_truncate() from public;

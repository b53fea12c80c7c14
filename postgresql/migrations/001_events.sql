-- The table that applications insert into, in the transaction that made the event true.

-- What the functions refer to is looked for where this migration puts it, whatever the caller's search path is.
-- pg_catalog, which is not named, comes first: nothing made in this schema can stand in for a function of it.
select set_config('search_path', format('%I, pg_temp', current_schema()), true);

-- A type and a subscriber go into lines of a Server-Sent Event and of a log: a line break in one would forge
-- the next. A domain rather than a check of the table, because PostgreSQL keeps a domain's check compiled for the
-- life of a connection and reads a table's checks anew for every statement; and as few functions in it as will do,
-- because each is set up for every statement.
--
-- Collated "C", which is bytes: the index by subscriber is the cheaper to keep, and no update of an operating system's
-- collations breaks it.
create domain event_name as text collate "C"
    constraint event_name_has_1_to_255_characters_and_no_control_characters
        check (length(value) <= 255 and value ~ '^[^\u0001-\u001f\u007f-\u009f]+$');

-- The types of a stream's own frames are reserved, because a browser cannot tell them from an event's.
create domain event_type as text collate "C"
    constraint event_type_is_a_name_and_not_reserved
        check (length(value) <= 255 and value not in ('heartbeat', 'reset') and value ~ '^[^\u0001-\u001f\u007f-\u009f]+$');

create table events (
    -- 48 bits: exact as a JSON number in every language, and it fits the lock keys below.
    id           bigint generated always as identity (maxvalue 281474976710655) primary key,
    type         event_type not null,
    "timestamp"  timestamptz not null default now(),
    subscriber   event_name not null,
    -- json, not jsonb: the order of keys and the digits of numbers stay as they were written.
    payload      json not null,
    -- The earlier event of the same subscriber that this one corrects. What is not that amends nothing, for who reads:
    -- a trigger that refuses it costs every insert 4 %, and a foreign key keeps retention from what was amended.
    amends       bigint,
    -- W3C Trace Context. Its form is looked at where it is handed on, because a check would cost every insert.
    traceparent  text
);

create index events_subscriber_id_idx on events (subscriber, id);
-- Hashed, because such an index leaves out nulls without a predicate, which would be set up for every insert.
create index events_amends_idx on events using hash (amends);

comment on table events is
    'Event Piper: insert a row, and its subscriber receives it over HTTP once the transaction has committed.';

-- Functions in SQL have their bodies parsed here and now: what they refer to stays the same, whatever the caller's search
-- path is and whatever the schema is called later. They hand tables on to others by their oid, because PostgreSQL goes
-- through all that depends on the column id with each insert that it plans.

-- Readers keep what they have read, in the order of ids and by subscriber: they would not follow.
create function events_before_update() returns trigger
    language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    if (new.id, new.type::text, new."timestamp", new.subscriber::text, new.amends, new.traceparent)
        is distinct from (old.id, old.type::text, old."timestamp", old.subscriber::text, old.amends, old.traceparent)
    then
        raise exception 'events are appended and not changed'
            using errcode = 'restrict_violation',
                hint = 'Insert an event that amends the other, or empty its payload by events_redact(id, reason).';
    end if;
    return new;
end $$;

create trigger events_before_update before update on events
    for each row execute function events_before_update();

create function events_redact(_events regclass, _id bigint, _reason text) returns bigint
    language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    _subscriber text;
    _redaction bigint;
begin
    execute format('update %s set payload = ''null'' where id = $1 returning subscriber', _events) into _subscriber using _id;
    if _subscriber is null then
        raise exception 'there is no event %', _id using errcode = 'no_data_found';
    end if;
    execute format('
        insert into %s (type, subscriber, payload, amends) values (''redacted'', $1, json_build_object(''reason'', $2), $3)
        returning id', _events) into _redaction using _subscriber, _reason, _id;
    return _redaction;
end $$;

-- Empties the payload of an event, for the owner, and tells who reads its subscriber by an event that amends it, whose id
-- it returns. The position stays, so that no cursor is affected.
create function events_redact(_id bigint, _reason text default null) returns bigint
    language sql volatile
    begin atomic
        select events_redact('events', _id, _reason);
    end;

revoke execute on function events_redact(regclass, bigint, text), events_redact(bigint, text) from public;

-- How far retention has deleted, for each consumer that lost events by it: a reader with an older cursor is
-- told so instead of being served a gap. Where consumers come and go, the oldest marks of those without any event become one,
-- of the subscriber '', which stands for everybody who has no mark.
create table events_pruned (
    subscriber  text collate "C" primary key,
    through     bigint not null
);

create index events_pruned_through_idx on events_pruned (through);

-- Tables are named by the trigger's own schema, whatever that is called by now.
create function events_after_delete() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if tg_table_name <> 'events' then
        raise exception 'this function is for the table of events alone';
    end if;
    execute format('
        insert into %I.events_pruned as p (subscriber, through)
        select d.subscriber::text, max(d.id) from deleted d group by d.subscriber::text order by d.subscriber::text
        on conflict (subscriber) do update set through = greatest(p.through, excluded.through)', tg_table_schema);
    return null;
end $$;

create trigger events_after_delete after delete on events
    referencing old table as deleted
    for each statement execute function events_after_delete();

create function events_before_truncate() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if tg_table_name <> 'events' then
        raise exception 'this function is for the table of events alone';
    end if;
    -- What committed after the transaction's only snapshot would go without a mark.
    if current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
        raise exception 'events are truncated at isolation level read committed, not %', current_setting('transaction_isolation');
    end if;
    execute format('
        insert into %I.events_pruned as p (subscriber, through)
        select e.subscriber::text, max(e.id) from %1$I.events e group by e.subscriber::text order by e.subscriber::text
        on conflict (subscriber) do update set through = greatest(p.through, excluded.through)', tg_table_schema);
    return null;
end $$;

create trigger events_before_truncate before truncate on events
    for each statement execute function events_before_truncate();

-- TRUNCATE … RESTART IDENTITY draws the ids once more from the first. Marks that are above the sequence by then would tell of
-- every new event that it had been deleted.
create function events_after_truncate() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if tg_table_name <> 'events' then
        raise exception 'this function is for the table of events alone';
    end if;
    execute format('
        delete from %I.events_pruned where through > (select case when is_called then last_value else last_value - 1 end from %s)',
        tg_table_schema, pg_get_serial_sequence(quote_ident(tg_table_schema) || '.events', 'id'));
    return null;
end $$;

create trigger events_after_truncate after truncate on events
    for each statement execute function events_after_truncate();

revoke execute on function events_before_update(), events_after_delete(), events_before_truncate(), events_after_truncate() from public;

-- Order. Ids are drawn at insert and become visible at commit, in any order, so a reader that goes by
-- "id > cursor" alone skips the event of a transaction that commits late. Readers therefore never read past
-- the watermark: the highest id at or below which nothing can appear any more.
--
-- Advisory lock keys carry a namespace in the high 16 bits:
--   x4550  a writer in flight; the low 48 bits hold the sequence's position before it drew its first id
--   x4551  the doorbell: every follower that wants to be rung holds it, shared

-- What the functions refer to is looked for where this migration puts it, whatever the caller's search path is.
-- pg_catalog, which is not named, comes first: nothing made in this schema can stand in for a function of it.
select set_config('search_path', format('%I, pg_temp', current_schema()), true);

-- Runs before the statement draws its first id. It is most of what an insert pays for us, hence its form:
-- conditions and assignments, which PL/pgSQL evaluates without starting the executor, and for a lone insert a single
-- one, because each is set up for every transaction; names qualified, operators too, because a search path set for
-- the function would cost as much again; constants in place; and "return new", which is null here, because "return
-- null" would be one more expression.
--
-- A transaction takes the lock with its first insert. If that is the first it writes at all, it has no id yet, and
-- gets it now instead of with its row, because it may insert none; to remember the lock as well would cost a lone insert
-- more than the lock. From the second insert on a transaction-local setting remembers it, which carries the transaction's
-- id, so that no session-wide SET can forge it, and is undone with a savepoint, as the lock is. A second lock does no
-- harm: the lower one counts.
--
-- NOTIFY makes all notifying commits of the cluster queue for one lock: a writer rings only if a follower waits.
do $migration$
begin
    execute format($function$
create function events_before_insert() returns trigger
    language plpgsql security definer as $$
declare
    _done pg_catalog.text;
begin
    -- A lone insert while nobody waits. In all other cases this is begun anew below. CASE, because the lock must be
    -- taken before the doorbell is looked at, and AND promises no order.
    if (case when pg_catalog.pg_current_xact_id_if_assigned() is null then
        case when pg_catalog.pg_try_advisory_xact_lock_shared(
            x'4550000000000000'::pg_catalog.int8
            operator(pg_catalog.|) pg_catalog.pg_sequence_last_value(%1$L::pg_catalog.regclass))
        then
            case when pg_catalog.pg_try_advisory_lock(x'4551000000000000'::pg_catalog.int8)
            then pg_catalog.pg_advisory_unlock(x'4551000000000000'::pg_catalog.int8)
                and pg_catalog.pg_current_xact_id() is not null
            end
        end
    end)
    then
        return new;
    end if;

    if coalesce(pg_catalog.current_setting('event_piper.writer', true), '')
        operator(pg_catalog.=) pg_catalog.pg_current_xact_id()::pg_catalog.text
    then
        return new;
    end if;
    _done := pg_catalog.set_config('event_piper.writer', pg_catalog.pg_current_xact_id()::pg_catalog.text, true);

    -- Nobody ever takes this lock exclusively, so nobody waits and the attempt cannot fail. A sequence that nothing
    -- was drawn from yet has no last value.
    if not pg_catalog.pg_try_advisory_xact_lock_shared(
        x'4550000000000000'::pg_catalog.int8
        operator(pg_catalog.|) coalesce(pg_catalog.pg_sequence_last_value(%1$L::pg_catalog.regclass), 0))
    then
        raise exception 'the writer lock of Event Piper is held exclusively';
    end if;

    if (case when pg_catalog.pg_try_advisory_lock(x'4551000000000000'::pg_catalog.int8)
        then pg_catalog.pg_advisory_unlock(x'4551000000000000'::pg_catalog.int8) end)
    then
        return new;
    end if;
    if coalesce(pg_catalog.current_setting('event_piper.doorbell', true), '') operator(pg_catalog.<>) 'off' then
        perform pg_catalog.pg_notify('new_events', '');
    end if;
    return new;
end $$ $function$, (
        select format('%I.%I', n.nspname, c.relname)
        from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
        where c.oid = pg_get_serial_sequence('events', 'id')::regclass));
end $migration$;

create trigger events_before_insert before insert on events
    for each statement execute function events_before_insert();

revoke execute on function events_before_insert() from public;

-- The writers in flight: what each one's lock says, and the process id of its backend. A name for what pg_locks shows
-- to everybody.
create view events_writers as
    select (classid::bigint & 65535::bigint) << 32 | objid::bigint as before, pid
    from pg_locks
    where locktype = 'advisory' and objsubid = 1 and classid::bigint >> 16 = x'4550'::bigint
        and database = (select oid from pg_database where datname = current_database());

grant select on events_writers to public;

-- The sequence's position and the watermark. Its two statements must stay two, in this order: an id up to
-- sequence_position was drawn before the locks are looked at, so its writer either still holds its lock, and
-- the watermark is below it, or has ended, and the next statement's snapshot sees what it committed.
-- PostgreSQL releases a transaction's locks after it has made the commit visible.
create function events_watermark(
        out sequence_position bigint, out watermark bigint, out writers int, out oldest_writer int)
    language plpgsql volatile set search_path from current as $$
begin
    -- With one snapshot for the whole transaction the rows would be older than the watermark.
    if current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
        raise exception 'events are read at isolation level read committed, not %', current_setting('transaction_isolation');
    end if;
    -- The locks of the primary's writers are not to be seen on a standby.
    if pg_is_in_recovery() then
        raise exception 'events are read from the primary, and this server is a standby';
    end if;

    sequence_position := pg_sequence_last_value(pg_get_serial_sequence('events', 'id')::regclass);
    if sequence_position is null then
        if not has_sequence_privilege(pg_get_serial_sequence('events', 'id'), 'select') then
            raise exception 'permission denied for the sequence of events.id';
        end if;
        sequence_position := 0;
    end if;

    select least(sequence_position, min(w.before)), count(*)::int, (pg_catalog.array_agg(w.pid order by w.before))[1]
        into watermark, writers, oldest_writer
        from events_writers w;
end $$;

-- The newest position at or below a watermark: the id of a committed event, never one that was only drawn,
-- because a crash may hand out again an id that no commit has made durable.
create function events_newest(_watermark bigint) returns bigint
    language sql volatile set search_path from current
    as $$ select greatest(
        coalesce((select max(id) from events where id <= _watermark), 0),
        coalesce((select max(through) from events_pruned where through <= _watermark), 0)) $$;

-- The newest position, for an application that hands out state and then a stream: position first, state in a later snapshot.
-- What is at or below it is in the state, and the stream sends the rest. For every role that may name it: pg_locks shows
-- about as much to everybody.
create function events_position() returns bigint
    language plpgsql volatile security definer set search_path from current as $$
begin
    if current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
        raise exception 'events_position() at isolation level % may be newer than what the transaction can see',
                current_setting('transaction_isolation')
            using errcode = 'active_sql_transaction',
                hint = 'Ask for the position first, in a transaction of its own, and begin this one after it.';
    end if;
    return (select events_newest(w.watermark) from events_watermark() w);
end $$;

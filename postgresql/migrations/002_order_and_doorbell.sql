-- Order. Ids are drawn at insert and become visible at commit, in any order, so a reader that goes by
-- "id > cursor" alone skips the event of a transaction that commits late. Readers therefore never read past
-- the watermark: the highest id at or below which nothing can appear any more.
--
-- Advisory lock keys carry a namespace in the high 16 bits:
--   x4550  a writer in flight; the low 48 bits hold the sequence's position before it drew its first id
--   x4551  the doorbell: every follower that wants to be rung holds it, shared
--   x4552  retention: the one worker that deletes
--   x4553  a writer in flight that found the keys of x4550 taken; it stands for position 0

-- What the functions refer to is looked for where this migration puts it, whatever the caller's search path is.
-- pg_catalog, which is not named, comes first: nothing made in this schema can stand in for a function of it.
select set_config('search_path', format('%I, pg_temp', current_schema()), true);

-- Before the first id is drawn, and after setval(…, n, false), which says that n is the next, a sequence has no last value.
create function events_position_unused() returns bigint
    language sql volatile
    begin atomic
        select case when is_called then last_value else last_value - 1 end from events_id_seq;
    end;

-- Runs before the statement draws its first id. It is most of what an insert pays for us, hence its form:
-- conditions and assignments, which PL/pgSQL evaluates without starting the executor, and for a lone insert only
-- two, because each is set up for every transaction; names qualified, operators too, because a search path set for
-- the function would cost as much again; constants in place; and "return new", which is null here, because "return
-- null" would be one more expression.
--
-- A transaction takes the lock with its first insert. If that is the first it writes at all, it has no id yet, and
-- gets it now instead of with its row, because it may insert none; to remember the lock as well would cost a lone insert
-- more than the lock. From the second insert on a transaction-local setting remembers what the lock holds, and is undone
-- with a savepoint, as the lock is. The same lock is taken again, which is cheap, and proves that it is held: a setting
-- that was forged can only hold back more. A second lock does no harm: the lower one counts.
--
-- Whoever holds the key exclusively is no writer: a lower one will do as well, and if some of those are held, too, one that
-- nobody can guess and that stands for 0.
--
-- NOTIFY makes all notifying commits of the cluster queue for one lock: a writer rings only if a follower waits. A full queue of
-- notifications fails every commit that notifies, and any role of the cluster can fill it: by a session that listens and stays in a
-- transaction. So nobody rings when a tenth is taken, and followers find the event by their safety read. To ask for it also
-- frees what nobody needs any more, which PostgreSQL does not do once the queue is full.
do $migration$
begin
    execute format($function$
create function events_before_insert() returns trigger
    language plpgsql security definer as $$
declare
    _sequence pg_catalog.regclass;
    _held pg_catalog.text;
    _position pg_catalog.int8;
    _before pg_catalog.int8;
    _key pg_catalog.int8;
begin
    -- The name below is looked up once for a connection. Where the schema has been renamed, it is another's.
    if tg_table_schema operator(pg_catalog.=) %1$L::pg_catalog.name then
        -- A lone insert while nobody waits. In all other cases this is begun anew below. CASE, because the lock must be
        -- taken before the doorbell is looked at, and AND promises no order.
        if (case when pg_catalog.pg_current_xact_id_if_assigned() is null then
            case when pg_catalog.pg_try_advisory_xact_lock_shared(
                x'4550000000000000'::pg_catalog.int8
                operator(pg_catalog.|) pg_catalog.pg_sequence_last_value(%2$L::pg_catalog.regclass))
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
        _sequence := %2$L::pg_catalog.regclass;
    else
        _sequence := pg_catalog.pg_get_serial_sequence(
            pg_catalog.quote_ident(tg_table_schema) operator(pg_catalog.||) '.' operator(pg_catalog.||) pg_catalog.quote_ident(tg_table_name),
            'id')::pg_catalog.regclass;
    end if;

    _position := pg_catalog.pg_sequence_last_value(_sequence);
    if _position is null then
        execute 'select case when is_called then last_value else last_value operator(pg_catalog.-) 1 end from '
            operator(pg_catalog.||) _sequence::pg_catalog.text into _position;
    end if;
    _held := pg_catalog.current_setting('event_piper.writer', true);
    _before := greatest(0, least(_position, case when _held operator(pg_catalog.<>) '' then _held::pg_catalog.int8 end));
    _key := x'4550000000000000'::pg_catalog.int8 operator(pg_catalog.|) _before;
    while not pg_catalog.pg_try_advisory_xact_lock_shared(_key) loop
        _before := _before operator(pg_catalog.-) 1;
        _key := case when _before operator(pg_catalog.>=) greatest(0, _position operator(pg_catalog.-) 10)
            then x'4550000000000000'::pg_catalog.int8 operator(pg_catalog.|) _before
            else x'4553000000000000'::pg_catalog.int8 operator(pg_catalog.|)
                (pg_catalog.random() operator(pg_catalog.*) 281474976710655::pg_catalog.float8)::pg_catalog.int8
        end;
    end loop;
    if _held operator(pg_catalog.=) _before::pg_catalog.text then
        return new;
    end if;
    _held := pg_catalog.set_config('event_piper.writer', _before::pg_catalog.text, true);

    if (case when pg_catalog.pg_try_advisory_lock(x'4551000000000000'::pg_catalog.int8)
        then pg_catalog.pg_advisory_unlock(x'4551000000000000'::pg_catalog.int8)
            and pg_catalog.pg_current_xact_id() is not null end)
    then
        return new;
    end if;
    if coalesce(pg_catalog.current_setting('event_piper.doorbell', true), '') operator(pg_catalog.<>) 'off'
        and pg_catalog.pg_notification_queue_usage() operator(pg_catalog.<) 0.1::pg_catalog.float8
    then
        perform pg_catalog.pg_notify('new_events', '');
    end if;
    return new;
end $$ $function$, current_schema(), pg_get_serial_sequence('events', 'id'));
end $migration$;

create trigger events_before_insert before insert on events
    for each statement execute function events_before_insert();

-- Also in sessions whose session_replication_role is replica, which loaders and tools that replicate set.
alter table events enable always trigger events_before_insert;

revoke execute on function events_before_insert() from public;

-- The writers in flight: what each one's lock says, and the process id of its backend, null for a prepared transaction.
--
-- Anybody may take an advisory lock, so a key counts only for a transaction that also holds the lock on the table which an
-- insert takes. It does so before the trigger runs, and keeps it as long as the key: whoever has drawn an id is seen
-- with both. One look at pg_locks is enough, though it shows the locks of tables as they were a moment before the keys: who has
-- taken both in between has drawn no id that matters. While a transaction is being prepared, its locks pass one by one to one
-- without a process, so there a key and a table's lock with nothing to go with stand for a writer, too.
create view events_writers as
    with transactions as materialized (
        select virtualtransaction, pid,
            min(case when classid::bigint >> 16 = x'4550'::bigint then (classid::bigint & 65535::bigint) << 32 | objid::bigint else 0 end)
                filter (where locktype = 'advisory') as before,
            bool_or(locktype = 'relation') as inserts
        from pg_locks
        where database = (select oid from pg_database where datname = current_database()) and granted
            and (locktype = 'advisory' and objsubid = 1 and classid::bigint >> 16 in (x'4550'::bigint, x'4553'::bigint)
                or locktype = 'relation' and relation = 'events'::regclass and mode = 'RowExclusiveLock')
        group by virtualtransaction, pid
    )
    select before, pid
    from transactions t
    where before is not null and (inserts or exists (
        select from transactions o where o.before is null and (o.pid is null) <> (t.pid is null)));

grant select on events_writers to public;

-- The sequence's position, the watermark and the writers, of which a prepared transaction has no process. The order is what makes it exact: an id up to
-- sequence_position was drawn before the locks are looked at, so its writer either still holds its lock, and
-- the watermark is below it, or has ended, and the next statement's snapshot sees what it committed.
-- PostgreSQL releases a transaction's locks after it has made the commit visible. That the writers are looked at depends
-- on the position, so they cannot be looked at before.
create view events_present as
    select s.position as sequence_position, least(s.position, w.oldest[1]) as watermark, w.writers, nullif(w.oldest[2], 0) as oldest_writer
    from (select coalesce(pg_sequence_last_value('events_id_seq'::regclass), events_position_unused()) as position) s
    cross join lateral (
        select count(*) as writers, min(array[before, coalesce(pid, 0)]) as oldest
        from events_writers where s.position >= 0
    ) w;

grant select on events_present to public;

-- What of the above may be relied on: by who reads the events with the statements after it. It looks for the view by the
-- caller's search path and runs with the caller's rights.
create function events_watermark(
        out sequence_position bigint, out watermark bigint, out writers int, out oldest_writer int)
    language plpgsql volatile as $$
begin
    -- With one snapshot for the whole transaction the rows would be older than the watermark.
    if current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
        raise exception 'events are read at isolation level read committed, not %', current_setting('transaction_isolation');
    end if;
    -- The locks of the primary's writers are not to be seen on a standby.
    if pg_is_in_recovery() then
        raise exception 'events are read from the primary, and this server is a standby';
    end if;
    select p.* into sequence_position, watermark, writers, oldest_writer from events_present p;
end $$;

-- The newest position at or below a watermark: the id of a committed event, never one that was only drawn,
-- because a crash may hand out again an id that no commit has made durable. Being volatile, it has a snapshot of its own.
-- Sorted, because max() costs a third more: its plan is made anew for each call.
create function events_newest(_watermark bigint, _events regclass, _pruned regclass) returns bigint
    language plpgsql volatile as $$
declare
    _newest bigint;
begin
    execute pg_catalog.format('
        select greatest(
            (select id from %s where id operator(pg_catalog.<=) $1 order by id desc limit 1),
            (select through from %s where through operator(pg_catalog.<=) $1 order by through desc limit 1), 0)', _events, _pruned)
        into _newest using _watermark;
    return _newest;
end $$;

create function events_refuse(_why text, _code text, _hint text) returns bigint
    language plpgsql volatile as $$
begin
    raise exception using message = _why, errcode = _code, hint = _hint;
end $$;

revoke execute on function events_refuse(text, text, text) from public;

-- The newest position, for an application that hands out state and then a stream: position first, state in a later snapshot.
-- What is at or below it is in the state, and the stream sends the rest. For every role that may name it: pg_locks shows
-- about as much to everybody.
create function events_position() returns bigint
    language sql volatile security definer
    begin atomic
        select case
            when current_setting('transaction_isolation') in ('repeatable read', 'serializable') then events_refuse(
                format('events_position() at isolation level %s may be newer than what the transaction can see',
                    current_setting('transaction_isolation')),
                '25001', 'Ask for the position first, in a transaction of its own, and begin this one after it.')
            when pg_is_in_recovery() then events_refuse('the position is known to the primary, and this server is a standby',
                '25006', 'Ask the primary.')
            else (select events_newest(watermark, 'events', 'events_pruned') from events_present)
        end;
    end;

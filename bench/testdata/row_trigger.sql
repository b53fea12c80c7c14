-- The usual way, and the ancestor's: every row is sent whole.
create function notify_new_event() returns trigger language plpgsql as $$
begin
    perform pg_notify('new_events', row_to_json(new)::text);
    return new;
end $$;
create trigger notify_new_event after insert on events
    for each row execute function notify_new_event();

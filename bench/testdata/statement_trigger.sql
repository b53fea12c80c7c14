-- A doorbell that always rings.
create function notify_new_events() returns trigger language plpgsql as $$
begin
    perform pg_notify('new_events', '');
    return null;
end $$;
create trigger notify_new_events after insert on events
    for each statement execute function notify_new_events();

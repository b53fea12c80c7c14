-- The columns and indexes of events, and nothing else.
create table events (
    id           bigint generated always as identity (maxvalue 281474976710655) primary key,
    type         text not null,
    "timestamp"  timestamptz not null default now(),
    subscriber   text not null,
    payload      json not null
);
create index events_subscriber_id_idx on events (subscriber, id);

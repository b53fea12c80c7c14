"""Uses the client that openapi-python-client generates, against a running service. ../run.sh says what it
finds in its environment."""

import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import httpx
from cloudevents.core.formats.json import JSONFormat
from event_piper import Client
from event_piper.api.events import poll_events
from event_piper.models import EventBatch, Problem, ProblemReason
from httpx_sse import connect_sse

URL = os.environ["EVENT_PIPER_URL"]
CONSUMER = os.environ["CONSUMER"]
WAIT = httpx.Timeout(10, read=60)  # httpx gives up after 5 seconds, before a poll or a heartbeat does
EXACT = '{"z":123456789012345678901234567890,"a":0.1000000000000000055511151231257827,"m":1.50}'


def client_of(consumer):
    return Client(base_url=URL, headers={"X-Consumer-Id": consumer} if consumer else {}, timeout=WAIT)


def insert(type_, payload="{}", amends=""):
    subprocess.run([os.environ["INSERT"], CONSUMER, type_, payload, str(amends)], check=True)


def poll(client, **parameters):
    batch = poll_events.sync(client=client, **parameters)
    assert isinstance(batch, EventBatch), batch
    return batch


def problem(client, status, **parameters):
    response = poll_events.sync_detailed(client=client, **parameters)
    assert response.status_code == status, response
    assert isinstance(response.parsed, Problem), response
    assert response.parsed.status == status, response
    return response.parsed


def types(events):
    return [e.type_ for e in events]


def payload(text):
    """Floats are rounded unless one asks for decimals; integers never are."""
    return json.loads(text, parse_float=Decimal)


def stream(cursor, last, **parameters):
    """What was missed, up to the last, which is inserted while the stream is open if it is order.shipped."""
    headers = {"X-Consumer-Id": CONSUMER, "Last-Event-ID": str(cursor)}
    with httpx.Client(timeout=WAIT) as http, connect_sse(http, "GET", f"{URL}/events", headers=headers, params=parameters) as source:
        for event in source.iter_sse():
            if event.event == "order.paid" and last == "order.shipped":
                insert(last)
            if event.event != "heartbeat":
                yield event
            if event.event == last:
                return


def check_cloud_events(cursor):
    """The CloudEvents SDK reads the same events from a stream and from a poll. It rounds decimals as json.loads does."""
    first = poll(client_of(CONSUMER), after=cursor).events[0]
    insert("order.corrected", "null", amends=first.id)
    streamed = [JSONFormat().read(None, event.data) for event in stream(cursor, "order.corrected", format="cloudevents")]
    headers = {"X-Consumer-Id": CONSUMER, "Accept": "application/cloudevents-batch+json"}
    response = httpx.get(f"{URL}/events/poll", params={"after": cursor, "wait": 0}, headers=headers)
    polled = [JSONFormat().read(None, json.dumps(event)) for event in response.json()]
    assert response.headers["X-Cursor"] == polled[-1].get_id() and response.headers["X-More"] == "false", response.headers
    for events in streamed, polled:
        created, *_, corrected = events
        assert created.get_id() == str(first.id) and created.get_time() == first.timestamp, created.get_attributes()
        assert created.get_source() == "event-piper" and created.get_subject() == CONSUMER, created.get_attributes()
        assert created.get_type() == "order.created" and created.get_data() == json.loads(EXACT), created.get_data()
        assert created.get_extension("amends") is None and corrected.get_extension("amends") == str(first.id)
        assert corrected.get_data() is None, corrected.get_data()


client = client_of(CONSUMER)
start = poll(client, wait=0)

with ThreadPoolExecutor() as pool:
    polling = pool.submit(poll, client, after=start.cursor)
    insert("order.created", EXACT)
    waited = polling.result()
assert types(waited.events) == ["order.created"], waited
assert waited.cursor == waited.events[0].id, waited
assert waited.events[0].payload == json.loads(EXACT), waited
raw = poll_events.sync_detailed(client=client, after=start.cursor).content
assert payload(raw)["events"][0]["payload"] == payload(EXACT), raw

insert("order.noted")
insert("order.paid")
filtered = poll(client, after=waited.cursor, types=["order.paid", "order.refunded"])
assert types(filtered.events) == ["order.paid"], filtered

paged, cursor, more = [], start.cursor, True
while more:
    page = poll(client, after=cursor, limit=1)
    paged += types(page.events)
    cursor, more = page.cursor, page.more
assert paged == ["order.created", "order.noted", "order.paid"], paged

streamed = list(stream(start.cursor, "order.shipped"))
assert [e.event for e in streamed] == ["order.created", "order.noted", "order.paid", "order.shipped"], streamed
assert streamed[0].data == EXACT, streamed[0]

check_cloud_events(start.cursor)

problem(client_of(None), 401)
assert problem(client, 410, after=2**48).reason == ProblemReason.AHEAD
pruned = client_of("pruned")
gone = problem(pruned, 410, after=0)
assert gone.reason == ProblemReason.PRUNED, gone
assert types(poll(pruned, after=gone.oldest).events) == ["kept"]
wrong = problem(client, 422, wait=301)
assert [e.location for e in wrong.errors] == ["query.wait"], wrong

print("polled, filtered and streamed, as CloudEvents, too; integers exact, decimals exact if parsed as Decimal; 401, 410 and 422 typed")

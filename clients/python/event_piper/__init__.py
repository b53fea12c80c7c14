"""Receives events from Event Piper.

    async for event in Subscription("https://example.com/events", after=0):
        print(event.id, event.type, event.payload)

Each event arrives once and in ascending order of ids, across restarts of the service and faults of what is
between. It arrives by a stream, or by long-polling where no stream gets through.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any, Literal, Union

import httpx

__all__ = ["Event", "RequestFailed", "Reset", "Subscription"]

log = logging.getLogger(__name__)

Headers = Callable[[], Union[dict[str, str], Awaitable[dict[str, str]]]]

POLLING_TIME, LONGEST_POLLING_TIME = 5.0, 300.0
LONGEST_POLL = 20


@dataclass(frozen=True, slots=True)
class Event:
    """A row of the table ``events``. Ids only rise.

    With ``format="event"`` it tells more: when it was (RFC 3339), the address it is for (the consumer, or a topic
    that it follows), the earlier event that it amends, and the W3C Trace Context in which it was inserted.
    """

    id: int
    type: str
    payload: Any
    timestamp: str | None = None
    subscriber: str | None = None
    amends: int | None = None
    traceparent: str | None = None


def _whole(o: dict[str, Any]) -> Event:
    told = (o.get(name) for name in ("timestamp", "subscriber", "amends", "traceparent"))
    return Event(o["id"], o["type"], o["payload"], *told)


class Reset(Exception):
    """The stream could not go on from the cursor without a gap.

    The reason is ``pruned`` (retention has deleted events after the cursor), ``ahead`` (the cursor is beyond
    the newest event, so the database is an older one), ``oversized`` (an event is larger than the service
    delivers), or one that was added since. ``cursor`` is where the events go on.
    """

    def __init__(self, reason: str, oldest: int, newest: int, cursor: int) -> None:
        super().__init__(f"{reason}: the events go on after {cursor}")
        self.reason, self.oldest, self.newest, self.cursor = reason, oldest, newest, cursor


class RequestFailed(Exception):
    """The service, or a proxy in front of it, did not serve a request, which is repeated."""

    def __init__(self, status: int, url: str, retry_after: float) -> None:
        super().__init__(f"{status} from {url}")
        self.status, self.retry_after = status, retry_after


def _warn(error: Exception) -> None:
    log.warning("events: %s: %s; trying again", type(error).__name__, error)


async def _call(callback: Callable[..., Any], *arguments: Any) -> Any:
    result = callback(*arguments)
    return await result if inspect.isawaitable(result) else result


class Subscription:
    """The events of the service at ``url``, which ends in ``/events`` and may have ``types`` in its query.

    Iterate over it with ``async for``, once at a time. ``cursor`` moves past an event when the next one is
    asked for, so an event whose handling has failed is delivered again to who starts at ``cursor``.

    after: the cursor to start after; 0 is the beginning, None is events from now on.
    format: "event" for events that tell their subscriber, amends and traceparent, too.
    headers: returns headers, such as one with a token; called before each request.
    save: takes the cursor each time it has moved.
    on_reset: takes a Reset; without it, a reset is raised and ends the iteration.
    on_error: takes why a request failed; it is repeated unless this raises. Otherwise a warning is logged.
    parse: parses JSON. ``json.loads`` rounds fractions, and refuses what nests more deeply than Python recurses, and
        integers of more than 4,300 digits: these end the iteration before their event.
    client: an httpx client of the caller's, who closes it.
    patience: seconds for a stream's first frame. Then no stream gets through, and polls take over.
    silence: seconds without a byte after which a stream counts as lost; the service sends one every 4 s.
    longest_wait: the most seconds between two attempts.

    All callbacks but ``parse`` may be coroutine functions.
    """

    def __init__(
        self,
        url: str,
        *,
        after: int | None = None,
        format: Literal["event"] | None = None,
        headers: Headers | None = None,
        save: Callable[[int], Any] | None = None,
        on_reset: Callable[[Reset], Any] | None = None,
        on_error: Callable[[Exception], Any] = _warn,
        parse: Callable[[str], Any] = json.loads,
        client: httpx.AsyncClient | None = None,
        patience: float = 5.0,
        silence: float = 15.0,
        longest_wait: float = 30.0,
    ) -> None:
        self.cursor = after
        self._url, self._format = httpx.URL(url), format
        self._headers, self._save, self._on_reset, self._on_error = headers, save, on_reset, on_error
        self._client, self._parse = client, parse
        self._patience, self._silence, self._longest_wait = patience, silence, longest_wait
        self._retry = 1.0  # the server's wish
        self._line = self._frame = False  # what the stream at hand has brought

    async def position(self) -> int:
        """Returns the newest position, without moving the cursor.

        An application that fetches state asks for the position first and for its state second: what the state
        does not hold yet comes as events after that position.
        """
        async with self._borrow() as client:
            return int((await self._poll(client, None, 0))["cursor"])

    async def __aiter__(self) -> AsyncGenerator[Event, None]:
        async with self._borrow() as client:
            failures, polling, stream_again, polling_time = 0, False, 0.0, POLLING_TIME
            while True:
                self._line = self._frame = False
                retry_after = 0.0
                source = self._page(client, stream_again - monotonic()) if polling else self._stream(client)
                try:
                    while (event := await self._next(source)) is not None:
                        yield event
                        await self._move(event.id)
                    if polling:
                        failures, polling = 0, monotonic() < stream_again
                        continue
                except (httpx.TransportError, RequestFailed, TimeoutError, asyncio.TimeoutError, json.JSONDecodeError) as error:
                    retry_after = getattr(error, "retry_after", 0.0)
                    await _call(self._on_error, error)
                finally:
                    await source.aclose()
                if self._frame:
                    failures, polling_time = 0, POLLING_TIME
                elif not polling and not self._line:
                    polling, stream_again = True, monotonic() + polling_time
                    polling_time = min(polling_time * 2, LONGEST_POLLING_TIME)
                else:
                    polling = False
                wait = min(self._retry * 2 ** min(failures, 16), self._longest_wait) * random.uniform(0.5, 1)
                failures += 1
                await asyncio.sleep(max(retry_after, wait))

    async def _next(self, source: AsyncGenerator[Event | Reset, None]) -> Event | None:
        """Returns the next event that the cursor has not passed. A reset is handled on the way."""
        async for item in source:
            if isinstance(item, Reset):
                if self._on_reset is None:
                    raise item
                await _call(self._on_reset, item)
                await self._move(item.cursor)
            elif self.cursor is None or item.id > self.cursor:
                return item
        return None

    async def _move(self, cursor: int) -> None:
        if cursor != self.cursor:
            self.cursor = cursor
            if self._save:
                await _call(self._save, cursor)

    async def _pass(self, cursor: int) -> None:
        """Moves the cursor past positions that have no event for this consumer."""
        if self.cursor is None or cursor > self.cursor:
            await self._move(cursor)

    async def _page(self, client: httpx.AsyncClient, wait: float) -> AsyncGenerator[Event | Reset, None]:
        """Reads one page by long-polling."""
        # Without a cursor an answer that gets lost would take the start with it: ask for that first.
        seconds = 0 if self.cursor is None else max(0, min(round(wait + 0.5), LONGEST_POLL))
        page = await self._poll(client, self.cursor, seconds)
        if isinstance(page, Reset):
            yield page
            return
        for event in page["events"]:
            # A poll tells the whole object in any case, and who iterates shall not notice which way an event came.
            yield _whole(event) if self._format else Event(event["id"], event["type"], event["payload"])
        await self._pass(page["cursor"])

    async def _poll(self, client: httpx.AsyncClient, after: int | None, wait: int) -> Any:
        request = await self._request(client, "/poll", "application/json", after=after, wait=wait)
        response = await asyncio.wait_for(client.send(request), self._patience + self._silence + wait)
        if response.status_code == 410:
            body = self._parse(response.text)
            cursor = body.get("cursor", body["newest"] if body["reason"] == "ahead" else body["oldest"])
            return Reset(body["reason"], body["oldest"], body["newest"], cursor)
        self._check(response, "application/json")
        return self._parse(response.text)

    async def _stream(self, client: httpx.AsyncClient) -> AsyncGenerator[Event | Reset, None]:
        """Reads one stream to its end."""
        request = await self._request(client, "", "text/event-stream", after=self.cursor, format=self._format)
        response = await asyncio.wait_for(client.send(request, stream=True), self._patience)
        try:
            self._check(response, "text/event-stream")
            chunks = response.aiter_bytes()
            rest: list[bytes] = []  # of a line
            id, type, data = -1, "message", None
            while True:
                try:
                    chunk = await asyncio.wait_for(chunks.__anext__(), self._silence if self._frame else self._patience)
                except StopAsyncIteration:
                    return
                *lines, last = chunk.split(b"\n")
                for line in lines:
                    self._line = True
                    field, _, value = b"".join([*rest, line]).decode().partition(":")
                    rest.clear()
                    value = value.removeprefix(" ")
                    if field == "id":
                        id = int(value)
                    elif field == "event":
                        type = value
                    elif field == "data":
                        data = value if data is None else f"{data}\n{value}"
                    elif field == "retry":
                        self._retry = int(value) / 1000
                    elif not field:
                        if data is not None:
                            self._frame = True
                            if type == "heartbeat":
                                await self._pass(id)
                            elif type == "reset":
                                body = self._parse(data)
                                yield Reset(body["reason"], body["oldest"], body["newest"], id)
                            else:
                                body = self._parse(data)
                                yield _whole(body) if self._format else Event(id, type, body)
                        id, type, data = -1, "message", None
                rest.append(last)
        finally:
            await response.aclose()

    async def _request(self, client: httpx.AsyncClient, path: str, accept: str, **query: int | str | None) -> httpx.Request:
        headers = {**(await _call(self._headers) if self._headers else {}), "Accept": accept}
        url = self._url.copy_with(path=self._url.path + path)
        parameters = {name: value for name, value in query.items() if value is not None}
        # What times out is decided above. A client's own limit of 5 s, httpx's default, would end every wait.
        return client.build_request("GET", url.copy_merge_params(parameters), headers=headers, timeout=None)

    def _check(self, response: httpx.Response, wanted: str) -> None:
        if response.status_code != 200 or not response.headers.get("content-type", "").startswith(wanted):
            after = response.headers.get("retry-after", "")
            raise RequestFailed(response.status_code, str(response.url), float(after) if after.isdigit() else 0.0)

    def _borrow(self) -> "_Borrowed":
        return _Borrowed(self._client)


class _Borrowed:
    """The caller's client, or one of our own that is closed afterwards."""

    def __init__(self, client: httpx.AsyncClient | None) -> None:
        self._own = None if client else httpx.AsyncClient(timeout=None)
        self._client = client

    async def __aenter__(self) -> httpx.AsyncClient:
        return self._client or self._own  # type: ignore[return-value]

    async def __aexit__(self, *_: object) -> None:
        if self._own:
            await self._own.aclose()

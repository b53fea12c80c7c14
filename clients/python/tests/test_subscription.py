"""What the fault test does not show. The service here is a script: one answer for each request."""

import asyncio
import json
import unittest
from collections.abc import AsyncIterator
from contextlib import aclosing
from decimal import Decimal
from functools import partial
from typing import Any, Literal

import httpx

from event_piper import Event, Reset, Subscription

HEARTBEAT = "id: 5\nevent: heartbeat\ndata: thump\nretry: 10\n\n"
RESET = 'event: reset\ndata: {"reason":"pruned","oldest":10,"newest":20}\nid: 10\n\n'


def frame(id: int, type: str = "insert") -> str:
    return f'id: {id}\nevent: {type}\ndata: {{"n":{id}}}\n\n'


class Stream(httpx.AsyncByteStream):
    def __init__(self, text: str, stays: bool) -> None:
        self.bytes, self.stays = text.encode(), stays

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = max(7, len(self.bytes) // 1000)  # whatever the pieces are
        for i in range(0, len(self.bytes), size):
            yield self.bytes[i : i + size]
        if self.stays:
            await asyncio.sleep(3600)


def stream(text: str, stays: bool = False) -> httpx.Response:
    return httpx.Response(200, headers={"Content-Type": "text/event-stream"}, stream=Stream(text, stays))


def page(*ids: int, cursor: int) -> httpx.Response:
    events = [{"id": id, "type": "insert", "payload": {"n": id}} for id in ids]
    return httpx.Response(200, json={"events": events, "cursor": cursor, "more": False})


class SubscriptionTest(unittest.IsolatedAsyncioTestCase):
    def serve(self, *answers: httpx.Response) -> httpx.AsyncClient:
        self.asked: list[httpx.Request] = []
        rest = list(answers)

        def answer(request: httpx.Request) -> httpx.Response:
            self.asked.append(request)
            return rest.pop(0) if rest else stream("", stays=True)

        return httpx.AsyncClient(transport=httpx.MockTransport(answer))

    async def read(self, count: int, events: Subscription) -> list[Event]:
        got: list[Event] = []
        async with aclosing(events.__aiter__()) as iterator, asyncio.timeout(60):
            async for event in iterator:
                got.append(event)
                if len(got) == count:
                    break
        return got

    def paths(self) -> list[str]:
        return [request.url.raw_path.decode() for request in self.asked]

    async def test_goes_on_after_what_a_cut_has_left(self) -> None:
        client = self.serve(stream(HEARTBEAT + frame(6, "été") + frame(7)[:-1]), stream(frame(7)))
        got = await self.read(2, Subscription("http://x/events?types=a", client=client))
        self.assertEqual([(e.id, e.type, e.payload) for e in got], [(6, "été", {"n": 6}), (7, "insert", {"n": 7})])
        self.assertEqual(self.paths(), ["/events?types=a", "/events?types=a&after=6"])

    async def test_types_are_names_like_others(self) -> None:
        client = self.serve(stream(HEARTBEAT + frame(6, "error") + frame(7, "message") + frame(8, "Heartbeat")))
        got = await self.read(3, Subscription("http://x/events", client=client))
        self.assertEqual([e.type for e in got], ["error", "message", "Heartbeat"])

    async def test_polls_where_no_stream_gets_through(self) -> None:
        client = self.serve(stream("", stays=True), page(6, 7, cursor=9), page(cursor=9))
        events = Subscription("http://x/events", client=client, after=5, patience=0.05, longest_wait=0.01)
        self.assertEqual([e.id for e in await self.read(2, events)], [6, 7])
        self.assertEqual(self.paths(), ["/events?after=5", "/events/poll?after=5&wait=5"])

    async def test_the_format_decides_what_an_event_tells_not_the_way_it_came(self) -> None:
        told = {"timestamp": "2026-03-01T12:00:00Z", "subscriber": "team-7", "amends": 2, "traceparent": "00-ab-cd-01"}
        cases: list[tuple[Literal["event"] | None, dict[str, Any]]] = [("event", told), (None, {})]
        for format, more in cases:
            whole = [{"id": id, "type": "price", "payload": {"n": id}, **told} for id in (6, 7)]
            data = json.dumps(whole[0] if format else whole[0]["payload"])
            polled = httpx.Response(200, json={"events": whole[1:], "cursor": 7, "more": False})
            client = self.serve(stream(f"id: 6\nevent: price\ndata: {data}\n\n"), httpx.Response(502), polled)
            events = Subscription("http://x/events", client=client, after=5, format=format, longest_wait=0.01)
            self.assertEqual(await self.read(2, events), [Event(id, "price", {"n": id}, **more) for id in (6, 7)])
            asked = "&format=event" if format else ""
            self.assertEqual(self.paths(), ["/events?after=5" + asked, "/events?after=6" + asked, "/events/poll?after=6&wait=5"])

    async def test_numbers_are_as_exact_as_the_parser_whichever_way_they_come(self) -> None:
        exact = partial(json.loads, parse_float=Decimal)
        number = "1.000000000000000000001"
        polled = httpx.Response(
            200,
            headers={"Content-Type": "application/json"},
            text=f'{{"events":[{{"id":7,"type":"insert","payload":{number}}}],"cursor":7,"more":false}}',
        )
        client = self.serve(stream(f"id: 6\nevent: insert\ndata: {number}\n\n"), httpx.Response(502), polled)
        events = Subscription("http://x/events", client=client, after=5, parse=exact, longest_wait=0.01)
        self.assertEqual([e.payload for e in await self.read(2, events)], 2 * [Decimal(number)])

    async def test_what_python_does_not_read_ends_the_loop_before_it(self) -> None:
        deep = "[" * 100_000 + "]" * 100_000
        for payload, wanted in ((deep, RecursionError), ("9" * 5000, ValueError)):
            client = self.serve(stream(frame(6) + f"id: 7\nevent: insert\ndata: {payload}\n\n"))
            events = Subscription("http://x/events", client=client, after=5)
            with self.assertRaises(wanted):
                await self.read(2, events)
            self.assertEqual(events.cursor, 6)
            self.assertEqual(self.paths(), ["/events?after=5"])

    async def test_a_bad_answer_is_told_and_repeated(self) -> None:
        client = self.serve(httpx.Response(502, json={"events": []}), httpx.Response(502), stream(frame(6)))
        errors: list[Exception] = []
        events = Subscription("http://x/events", client=client, after=5, longest_wait=0.01, on_error=errors.append)
        await self.read(1, events)
        self.assertEqual([getattr(e, "status", None) for e in errors], [502, 502])

    async def test_a_reset_is_raised_or_handled(self) -> None:
        with self.assertRaises(Reset) as raised:
            await self.read(1, Subscription("http://x/events", client=self.serve(stream(RESET)), after=2))
        self.assertEqual((raised.exception.reason, raised.exception.cursor), ("pruned", 10))

        gone = httpx.Response(410, json={"reason": "ahead", "oldest": 1, "newest": 7})
        client = self.serve(stream(RESET + frame(11)), httpx.Response(403), gone, page(8, cursor=8))
        resets: list[Reset] = []
        events = Subscription("http://x/events", client=client, after=2, longest_wait=0.01, on_reset=resets.append)
        self.assertEqual([e.id for e in await self.read(1, events)], [11])
        await self.read(1, Subscription("http://x/events", client=client, after=200, longest_wait=0.01, on_reset=resets.append))
        self.assertEqual([(r.reason, r.cursor) for r in resets], [("pruned", 10), ("ahead", 7)])

    async def test_the_cursor_passes_an_event_when_the_next_is_asked_for(self) -> None:
        saved: list[int] = []
        client = self.serve(stream(frame(6) + frame(7)))
        events = Subscription("http://x/events", client=client, after=5, save=saved.append)
        await self.read(2, events)
        self.assertEqual((events.cursor, saved), (6, [6]))

    async def test_position_leaves_the_cursor(self) -> None:
        events = Subscription("http://x/events", client=self.serve(page(cursor=41)), after=5)
        self.assertEqual((await events.position(), events.cursor), (41, 5))
        self.assertEqual(self.paths(), ["/events/poll?wait=0"])

    async def test_headers_are_made_for_each_request(self) -> None:
        client = self.serve(stream(HEARTBEAT + frame(6)), stream(frame(7)))
        made = iter(range(9))

        async def headers() -> dict[str, str]:
            return {"Authorization": f"Bearer {next(made)}"}

        await self.read(2, Subscription("http://x/events", client=client, headers=headers))
        self.assertEqual([r.headers["authorization"] for r in self.asked], ["Bearer 0", "Bearer 1"])


if __name__ == "__main__":
    unittest.main()

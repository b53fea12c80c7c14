"""The reader of the fault test (clients/faults): prints what the package hands out, a line of JSON each.

It starts at a position that it asks for, as an application does that has state.
"""

import asyncio
import json
import os
import sys

from event_piper import Subscription


def say(**line: object) -> None:
    print(json.dumps(line), flush=True)


async def main() -> None:
    events = Subscription(
        os.environ["EVENT_PIPER_URL"],
        headers=lambda: {"X-Reader": os.environ["READER"]},
        on_reset=lambda reset: say(reset=reset.reason),
        on_error=lambda error: print(repr(error), file=sys.stderr),
        patience=1.5,
        silence=2,
    )
    events.cursor = await events.position()
    say(start=events.cursor)
    async for event in events:
        say(id=event.id, type=event.type, token=event.payload["token"])


asyncio.run(main())

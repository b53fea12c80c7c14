"""A service that works off events, beside ``make run``:

    pip install ./clients/python
    EVENT_PIPER_URL=http://localhost:4000/events CONSUMER=toto python examples/python/service.py

Its cursor is in a file. It is written after the work is done: work that a crash interrupts is done again.
"""

import asyncio
import os
import sys
from pathlib import Path

from event_piper import Reset, Subscription

cursor_file = Path(os.environ.get("CURSOR_FILE", "python.cursor"))


def save(cursor: int) -> None:
    new = cursor_file.with_suffix(".new")
    new.write_text(str(cursor))
    new.replace(cursor_file)


def missing(reset: Reset) -> None:
    print(f"events are missing: {reset}", file=sys.stderr)


async def main() -> None:
    events = Subscription(
        os.environ.get("EVENT_PIPER_URL", "http://localhost:4000/events"),
        after=int(cursor_file.read_text()) if cursor_file.exists() else 0,
        save=save,
        headers=lambda: {"X-Consumer-Id": os.environ.get("CONSUMER", "toto")},
        on_reset=missing,
    )
    async for event in events:
        match event.type:
            case "order.placed":
                print(f"{event.id}: pack {event.payload['item']}", flush=True)
            case "order.paid":
                print(f"{event.id}: ship {event.payload['item']}", flush=True)


asyncio.run(main())

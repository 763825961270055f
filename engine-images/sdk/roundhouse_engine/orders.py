"""What a session's client orders beside its audio, and how many of its orders wait for their answers."""

import asyncio
import json
from typing import Final

from roundhouse_engine.errors import invalid
from roundhouse_engine.stream_frames import Frame, Order

_LONGEST_ID: Final = 128
_LONGEST_ORDER: Final = 4096  # its `id` may be written in escapes; what is longer takes the loop's time
_ORDERS: Final = {"flush": Order.FLUSH, "clear": Order.CLEAR, "end": Order.END}
MOST_UNANSWERED: Final = 256


def read_order(text: str) -> Frame:
    """The client's order; raises `EngineError` for what is none."""
    try:
        message = json.loads(text) if len(text) <= _LONGEST_ORDER else None
    except (ValueError, RecursionError):
        message = None
    kind = message.get("type") if isinstance(message, dict) else None
    order = _ORDERS.get(kind) if isinstance(kind, str) else None
    given = (message.get("id") if isinstance(message, dict) else None) or ""
    if order is None:
        raise invalid(
            f"A text frame is JSON with a `type` of {', '.join(_ORDERS)}, not {text[:80]!r}; audio comes in "
            "binary frames.",
            param="type",
        )
    if not isinstance(given, str) or len(given) > _LONGEST_ID:
        raise invalid(f"`id` must be a text of at most {_LONGEST_ID} characters.", param="id")
    return Frame(order, given.encode("utf-8", "replace"))


class Unanswered:
    """Orders; while there are some it is the client that waits, and while there are many it is not read from.

    Whoever orders and never reads would fill the memory with answers.
    """

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(MOST_UNANSWERED)
        self.orders = 0

    async def add(self, order: Order) -> None:
        """Returns once there is room for the order; those without an answer of their own need none."""
        if order in (Order.FLUSH, Order.CLEAR):
            await self._places.acquire()
            self.orders += 1

    def answered(self) -> None:
        self.orders -= 1
        self._places.release()

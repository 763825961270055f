"""Reads schemas one at a time, each within a time, in threads of their own, because nothing ends one.

One that goes past its time lets others begin, until too many do so: each takes a core.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

from roundhouse_engine import Cancellation
from roundhouse_engine.errors import EngineError, failed, memory_is_short, no_memory_left, schema_waiting

SECONDS: Final = 30.0
LATE: Final = 2
"""Readings past their time at once, beyond which none begins."""
_LOOK_SECONDS: Final = 0.02

logger = logging.getLogger(__name__)

Made = TypeVar("Made")


class Readings:
    """Of one model; several threads may ask it at once."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._changed = threading.Condition()
        self._ends: dict[object, float] = {}
        """Of those that run: when each is late. A client that leaves ends none of them."""
        self._told: set[object] = set()

    def read(self, make: Callable[[], Made], cancellation: Cancellation) -> Made | None:
        """What is made; None where it is not in time. Its time begins with its turn.

        Raises `EngineError`: 503 where its turn does not come in as much time, and what `make` raises.
        """
        mine = self._begun(cancellation)
        made: list[Made | BaseException] = []
        done = threading.Event()

        def run() -> None:
            try:
                made.append(make())
            except BaseException as error:  # noqa: BLE001 - raised again below; a panic of the library's is no Exception
                made.append(error)
            finally:
                self._leave(mine)
                done.set()

        try:
            threading.Thread(target=run, daemon=True, name="grammar").start()
        except RuntimeError:  # no thread is left: for now, perhaps
            self._leave(mine)
            raise
        end = time.monotonic() + self.seconds
        while not done.wait(_LOOK_SECONDS):
            cancellation.check()
            if time.monotonic() > end:
                return None
        found = made[0]
        if isinstance(found, BaseException):
            problem = _problem(found)
            raise problem from (None if problem is found else found)
        return found

    def _begun(self, cancellation: Cancellation) -> object:
        mine, end = object(), time.monotonic() + self.seconds
        with self._changed:
            while not self._may_begin():
                cancellation.check()
                if time.monotonic() > end:
                    raise schema_waiting(self.seconds)
                self._changed.wait(_LOOK_SECONDS)
            self._ends[mine] = time.monotonic() + self.seconds
        return mine

    def _may_begin(self) -> bool:
        now = time.monotonic()
        late = {each for each, end in self._ends.items() if now > end}
        if late - self._told:
            logger.error(
                "a schema is still being read past its time: others are read beside it, until %d are. "
                "Restart the engine where they do not end",
                LATE,
                extra={"late": len(late), "seconds": self.seconds},
            )
        self._told |= late
        return len(late) == len(self._ends) and len(late) < LATE

    def _leave(self, one: object) -> None:
        with self._changed:
            self._told.discard(one)
            del self._ends[one]
            self._changed.notify_all()


def _problem(error: BaseException) -> EngineError:
    if isinstance(error, EngineError):
        return error
    return no_memory_left() if memory_is_short(error) else failed(f"A grammar could not be read: {error}")

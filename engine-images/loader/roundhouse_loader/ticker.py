"""A line of the log each ten seconds or five percent, whichever comes first."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from .progress import Progress, Report

LOOK_SECONDS: Final = 1.0
LINE_SECONDS: Final = 10.0
LINE_SHARE: Final = 0.05

log = logging.getLogger(__name__)


@contextmanager
def ticking(progress: Progress) -> Iterator[None]:
    """Log progress meanwhile."""
    over = threading.Event()
    threading.Thread(target=_tick, args=(progress, over), name="ticker", daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _tick(progress: Progress, over: threading.Event) -> None:
    last, quiet = progress.report(), 0.0
    while not over.wait(LOOK_SECONDS):
        quiet += LOOK_SECONDS
        now = progress.report()
        if due(last, now, quiet):
            log.info(now.state.lower(), extra=now.as_json())
            last, quiet = now, 0.0


def due(last: Report, now: Report, quiet_seconds: float) -> bool:
    """Whether it is time for a line."""
    if now.state == "Starting":
        return False
    gained = now.done_bytes - last.done_bytes
    return quiet_seconds >= LINE_SECONDS or (now.total_bytes > 0 and gained >= now.total_bytes * LINE_SHARE)

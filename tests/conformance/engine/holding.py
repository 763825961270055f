"""What an engine's processes hold, so that a test can say that nothing was left behind."""

import contextlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conformance.engine.running import Engine
from tests.support.waiting import wait_until

SPOOL = "spool"
"""The folder beside the log, which the engine is told to keep uploads in."""
MEBIBYTE = 1 << 20
_TIMES = 4
_MOST_TIMES = 20
"""Until a pool of threads is full: who comes before one is back gets another."""


@dataclass(frozen=True)
class Held:
    """All but memory; threads are kept for who comes next."""

    descriptors: int
    children: list[int]
    files: list[str]

    def within(self, before: "Held") -> bool:
        """Whether nothing was added; a connection that was still being closed may be gone since."""
        same = (self.children, self.files) == (before.children, before.files)
        return same and self.descriptors <= before.descriptors


def held(engine: Engine) -> Held:
    """Of the server, its children and its spool, if it has one."""
    spool = engine.log.parent / SPOOL
    return Held(
        sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in (engine.process.pid, *engine.children)),
        engine.children,
        sorted(each.name for each in spool.iterdir()) if spool.is_dir() else [],
    )


def leave(engine: Engine, path: str, **fields: Any) -> None:
    """A request whose client hangs up: behind the first line of a stream, else while it is computed.

    Or once it was, where that takes no time. Returns when nothing is computed.
    """
    before = engine.metric("requests_total")

    def begun() -> bool:
        return engine.metric("slots_computing") > 0 or engine.metric("requests_total") > before

    with contextlib.closing(engine.connect()) as connection:
        connection.request("POST", path, json.dumps(fields), {"Content-Type": "application/json"})
        if fields.get("stream"):
            connection.getresponse().readline()
        else:
            wait_until(begun, seconds=60, what="it computes", every=0.02)
    wait_until(lambda: engine.metric("slots_computing") == 0, seconds=60, what="it stops", every=0.02)


def resident_bytes(engine: Engine) -> int:
    """Of the server and its children together."""
    pages = sum(
        int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        for pid in (engine.process.pid, *engine.children)
    )
    return pages * os.sysconf("SC_PAGE_SIZE")


def threads(engine: Engine) -> int:
    return len(list(Path(f"/proc/{engine.process.pid}/task").iterdir()))


def assert_nothing_stays(engine: Engine, ask: Callable[[], None], *, mebibytes: int = 16) -> None:
    """After `ask`, done again and again; what its first time loads may stay."""
    ask()
    before, memory, kept = held(engine), resident_bytes(engine), [threads(engine)]
    while len(kept) <= _TIMES or (kept[-1] > kept[-2] and len(kept) <= _MOST_TIMES):
        ask()
        kept.append(threads(engine))
    wait_until(lambda: held(engine).within(before), seconds=30, what=f"{before} or less", every=0.1)
    assert resident_bytes(engine) - memory < mebibytes * MEBIBYTE
    assert kept[-1] <= kept[-2], f"threads grow without end: {kept}"

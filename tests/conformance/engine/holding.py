"""What an engine's processes hold, so that a test can say that nothing was left behind."""

import os
from dataclasses import dataclass
from pathlib import Path

from tests.conformance.engine.running import Engine

SPOOL = "spool"
"""The folder beside the log, which the engine is told to keep uploads in."""


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
    """Of the server, its children and its spool."""
    return Held(
        sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in (engine.process.pid, *engine.children)),
        engine.children,
        sorted(each.name for each in (engine.log.parent / SPOOL).iterdir()),
    )


def resident_bytes(engine: Engine) -> int:
    """Of the server and its children together."""
    pages = sum(
        int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        for pid in (engine.process.pid, *engine.children)
    )
    return pages * os.sysconf("SC_PAGE_SIZE")

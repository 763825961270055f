"""Ends what nobody waits for. As PID 1 of a container the engine inherits each process whose parent has gone.

Unless somebody asks for their status they stay in the kernel's table, until the container may start no more.
"""

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Final

LOOK_SECONDS: Final = 10.0


async def adopt() -> None:
    """While the engine is PID 1; elsewhere that is somebody else's work."""
    if os.getpid() != 1:
        return
    before: set[int] = set()
    while True:
        before = bury(before)
        await asyncio.sleep(LOOK_SECONDS)


def bury(before: set[int]) -> set[int]:
    """Forget those children that were over in `before` and still are; the others that are over.

    Who has started a process asks for its status within moments: what is left then is nobody's.
    """
    over = {child for child in _children() if _is_over(child)}
    for child in over & before:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child, os.WNOHANG)
    return over - before


def _children() -> set[int]:
    listed = (path.read_text() for path in Path("/proc/self/task").glob("*/children"))
    return {int(child) for line in listed for child in line.split()}


def _is_over(child: int) -> bool:
    try:
        return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:  # asked for in this moment
        return False

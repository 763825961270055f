"""What a runner reads its work from: a file in memory that has no name, and costs no line on a socket."""

import asyncio
import os
from time import perf_counter
from typing import BinaryIO, Final

from roundhouse_engine.large_json import pieces

_STEP_SECONDS: Final = 0.002


async def payload(told: object) -> BinaryIO:
    """The file, for the caller to close; a large one is written in steps between which others go on."""
    file = os.fdopen(os.memfd_create("work"), "w+b")
    until = perf_counter() + _STEP_SECONDS
    try:
        for piece in pieces(told):
            file.write(piece.encode())
            if perf_counter() > until:
                await asyncio.sleep(0)
                until = perf_counter() + _STEP_SECONDS
        file.flush()
    except BaseException:
        file.close()
        raise
    return file

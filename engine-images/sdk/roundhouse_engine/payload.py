"""What a runner reads its work from: a file in memory that has no name, and costs no line on a socket."""

import asyncio
import os
from typing import BinaryIO, Final

from roundhouse_engine.errors import invalid
from roundhouse_engine.large_json import pieces

_STEP: Final = 1 << 18
_PIECE: Final = 64
"""What a piece costs beside its characters, in characters."""


async def payload(told: object) -> BinaryIO:
    """The file, for the caller to close; a large one is written in steps between which others go on."""
    file = os.fdopen(os.memfd_create("work"), "w+b")
    written = 0
    try:
        for piece in pieces(told):
            file.write(piece.encode())
            written += len(piece) + _PIECE
            if written > _STEP:
                written = 0
                await asyncio.sleep(0)
        file.flush()
    except RecursionError:
        file.close()
        raise invalid("The body is nested too deeply.", code="json_malformed") from None
    except BaseException:
        file.close()
        raise
    return file

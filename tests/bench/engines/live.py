"""Speech while it is spoken: when the first words are heard, later than the library hears them.

Both get the same samples as fast as they are spoken, a tenth of a second at a time.
"""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.bench.engines.pair import Subject, in_turns, up
from tests.bench.engines.speech import RATE, pieces, speech
from tests.bench.figure import Figure, Result
from tests.conformance.engine.streaming import Stream, streaming

_SECONDS: Final = 3.0
_SILENCE_SECONDS: Final = 1.0

LATER: Final = Figure(
    "engines", "pocketsphinx, first word while spoken, later than the library", "ms", "lower", aim=50
)
FIGURES: Final = (LATER,)


def measure(folder: Path) -> Iterator[Result]:
    path = folder / "speech.raw"
    path.write_bytes(bytes(round(_SILENCE_SECONDS * RATE) * 2) + speech(_SECONDS))
    variables = {"MODELS": "english", "ROUNDHOUSE_CAPACITY": "1", "ROUNDHOUSE_SESSIONS": "2"}
    subject = Subject(("roundhouse_pocketsphinx",), "pocketsphinx", (path,), variables=variables)
    with up(subject, folder) as pair:
        pair.engine.until_ready(sessions=2)
        ours, theirs = in_turns(
            lambda: asyncio.run(_first_seconds(pair.engine.port, path.read_bytes())),
            lambda: float(pair.library.work("live")[1]),
        )
    yield Result(LATER, 1000 * (ours - theirs))


async def _first_seconds(port: int, samples: bytes) -> float:
    """From the first sample that is sent until words have come."""
    async with streaming(port, {"model": "english"}) as stream:
        await stream.until("session.begin")
        began = time.monotonic()
        sending = asyncio.create_task(_send(stream, samples, began))
        while not (await stream.until("transcript.partial")).text:
            pass
        seconds = time.monotonic() - began
        sending.cancel()
        return seconds


async def _send(stream: Stream, samples: bytes, began: float) -> None:
    for at, piece in pieces(samples):
        await asyncio.sleep(began + at - time.monotonic())
        await stream.socket.send(piece)

"""Speech while it is spoken: when the first words are heard, later than the library hears them.

Both get the same samples as fast as they are spoken, a tenth of a second at a time: the engine from a client
of its WebSocket, the library from a loop around its own calls.
"""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.bench.engines.basics import NOT_HELD
from tests.bench.engines.pair import Pair, Subject, in_turns, up
from tests.bench.engines.speech import pieces, spoken_live
from tests.bench.figure import Figure, Result
from tests.conformance.engine.streaming import Stream, streaming

_PLACES: Final = 2


def first_word(engine: str) -> Figure:
    name = f"{engine}, first word while spoken, later than the library"
    if name in NOT_HELD:
        return Figure("engines", name, "ms", "lower", aim=50)
    return Figure("engines", name, "ms", "lower", budget=50)


LATER: Final = first_word("pocketsphinx")
FIGURES: Final = (LATER,)


def measure(folder: Path) -> Iterator[Result]:
    path = folder / "speech.raw"
    path.write_bytes(spoken_live())
    variables = {"MODELS": "english", "ROUNDHOUSE_CAPACITY": "1", "ROUNDHOUSE_SESSIONS": str(_PLACES)}
    subject = Subject(("roundhouse_pocketsphinx",), "pocketsphinx", (path,), variables=variables)
    with up(subject, folder) as pair:
        yield later(LATER, pair, path.read_bytes(), "live", model="english")


def later(figure: Figure, pair: Pair, samples: bytes, work: str, **query: str) -> Result:
    """`work`: by which the library says after how many seconds it had words of the same samples."""
    pair.engine.until_ready(sessions=_PLACES)
    ours, theirs = in_turns(
        lambda: asyncio.run(_first_seconds(pair.engine.port, samples, query)),
        lambda: float(pair.library.work(work)[1]),
    )
    return Result(figure, 1000 * (ours - theirs))


async def _first_seconds(port: int, samples: bytes, query: dict[str, str]) -> float:
    """From the first sample that is sent until words have come."""
    async with streaming(port, query) as stream:
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

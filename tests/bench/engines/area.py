"""Everything that is measured of the engines, one after the other: each has the machine to itself."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.bench.engines import (
    chats,
    faster_whisper,
    hour,
    images,
    live,
    musicgen,
    nemo,
    pocketsphinx,
    transformers,
    whisper,
)
from tests.bench.figure import Result

_PARTS: Final = (pocketsphinx, live, faster_whisper, hour, nemo, transformers, whisper, chats, musicgen)
FIGURES: Final = (*(figure for part in _PARTS for figure in part.FIGURES), *images.FIGURES)


def measure() -> Iterator[Result]:
    """Each part has a folder of its own, whose models go with it."""
    for part in _PARTS:
        with tempfile.TemporaryDirectory() as folder:
            yield from part.measure(Path(folder))
    yield from images.measure()

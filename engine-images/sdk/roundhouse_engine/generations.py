"""`POST /v1/music/generations`: music of a description, as a file, or with its progress as it is made."""

import asyncio
import base64
import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, Final

from typing_extensions import override

from roundhouse_engine.door import Door
from roundhouse_engine.events import Done
from roundhouse_engine.json_body import Fields
from roundhouse_engine.lease import Lease
from roundhouse_engine.metrics import Metrics
from roundhouse_engine.music import Music
from roundhouse_engine.music_ask import MEDIA_TYPES, MusicAsk, read_music
from roundhouse_engine.payload import payload
from roundhouse_engine.settings import Settings
from roundhouse_engine.text_events import Composed, Composing, TextAsk, TextWork
from roundhouse_engine.text_route import Reply, TextRoute, event

_PIECE_BYTES: Final = 3 << 16
"""Of the file; in threes, as base64 writes them."""


class Generations(TextRoute[MusicAsk]):
    def __init__(self, handler: type[Music], settings: Settings, door: Door, metrics: Metrics) -> None:
        super().__init__(settings, door, metrics)
        self._handler = handler

    @override
    def read(self, fields: Fields, served: tuple[str, ...]) -> MusicAsk:
        return read_music(fields, self._handler, served)

    @override
    async def compute(self, lease: Lease, ask: MusicAsk, reply: Reply) -> Iterable[bytes]:
        made, seconds = None, 0.0
        with await payload(ask.told) as file:
            work = lease.compute(TextAsk(ask.model, TextWork.COMPOSE), file)
            async with contextlib.aclosing(work) as events:
                async for told in events:
                    if isinstance(told, Composing) and ask.stream:
                        await reply.events([{"type": "music.progress", "progress": round(told.progress, 3)}])
                    elif isinstance(told, Composed):
                        made = told
                    elif isinstance(told, Done):
                        seconds = told.compute_seconds
            assert made is not None  # noqa: S101 - else `Failed` was told, and raised
            pieces = await asyncio.to_thread(list, _pieces(file, made))  # tens of MB, of ten minutes
        self._count(ask.model, made, seconds)
        about = _about(ask, made)
        if ask.stream:
            return _streamed(pieces, about)
        reply.media_type = MEDIA_TYPES[ask.format].encode()
        reply.headers = [
            (f"x-roundhouse-{name.replace('_', '-')}".encode(), str(value).encode())
            for name, value in about.items()
        ]
        return pieces

    def _count(self, model: str, made: Composed, seconds: float) -> None:
        self._metrics.compute_seconds.labels(model).inc(seconds)
        self._metrics.music_seconds.labels(model).inc(made.audio_seconds)
        self._metrics.tokens.labels(model, "output").inc(made.tokens)


def _pieces(file: BinaryIO, made: Composed) -> Iterator[bytes]:
    for at in range(0, made.length, _PIECE_BYTES):
        yield os.pread(file.fileno(), min(_PIECE_BYTES, made.length - at), made.start + at)


def _about(ask: MusicAsk, made: Composed) -> dict[str, Any]:
    """What a client wants to know beside the music; by the names of the last event, and of headers."""
    return {
        "seed": ask.seed,
        "duration": round(made.audio_seconds, 6),
        "sample_rate": made.sample_rate,
        "channels": made.channels,
    }


def _streamed(pieces: Iterable[bytes], about: dict[str, Any]) -> Iterator[bytes]:
    for piece in pieces:
        yield event({"type": "music.audio.delta", "audio": base64.b64encode(piece).decode("ascii")})
    yield event({"type": "music.audio.done", **about})

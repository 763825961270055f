"""What stands between our protocol and an engine's own: everything that is said, on either side.

A `Speaker` is one session's. It is told what came and answers with what is to be said, and to whom: a text is
for the engine, an event for the client, an ending for both. It waits for nothing and knows no socket.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from secrets import token_hex
from typing import Final, Protocol

import msgspec

from roundhouse_api.realtime import (
    VERSION,
    Clear,
    Cleared,
    Close,
    Control,
    End,
    Event,
    Failed,
    Flush,
    Flushed,
    Problem,
    SessionBegin,
    SessionEnd,
)
from roundhouse_gateway.realtime.asked import Asked
from roundhouse_gateway.realtime.closing import Ending

Said = str | Event | Ending

LAG: Final = 0
"""These engines do not tell how far behind they are."""


@dataclass(frozen=True, slots=True)
class Greeting:
    """What the engine is told, and whether it listens from then on."""

    says: tuple[str, ...] = ()
    ready: bool = False


class Speaker(Protocol):
    """`rate`: of the samples that it takes, in hertz, 16 bit."""

    rate: int

    @property
    def full(self) -> bool:
        """Whether the client is to wait, because so much waits here for the engine."""
        ...

    def query(self) -> dict[str, str]:
        """What stands in the handshake's query."""
        ...

    def greet(self, text: str) -> "Greeting":
        """The answer to what the engine says first; raises `EngineFailedError` where that is a refusal."""
        ...

    def audio(self, samples: bytes) -> Iterable[Said]: ...

    def control(self, control: Control) -> Iterable[Said]: ...

    def told(self, text: str) -> Iterable[Said]: ...


def begin(model: str, asked: Asked) -> SessionBegin:
    """Our first event."""
    return SessionBegin(
        type="session.begin",
        lag_ms=LAG,
        version=VERSION,
        session_id=token_hex(16),
        model=model,
        language=asked.language,
        encoding=asked.encoding,
        sample_rate=asked.sample_rate,
        interim_results=asked.interim_results,
        word_timestamps=False,
        vad=asked.vad,
    )


def answered(control: Control, seconds: float) -> Iterator[Said]:
    """That it was done, once all is said that comes before."""
    match control:
        case Flush():
            yield Flushed(type="flushed", lag_ms=LAG, id=control.id)
        case Clear():
            yield Cleared(type="cleared", lag_ms=LAG, id=control.id)
        case End():
            yield SessionEnd(type="session.end", lag_ms=LAG, reason="end", audio_seconds=round(seconds, 3))
            yield Ending(Close.NORMAL, "end")


def failed(message: str) -> Iterator[Said]:
    """The engine's own words at its end."""
    problem = Problem(type="upstream_error", message=message, param=None, code="engine_failed")
    yield Failed(type="error", lag_ms=LAG, error=problem)
    yield Ending(Close.FAILED, message)


def said(kind: str, **members: object) -> str:
    """A message in JSON, as OpenAI's protocol and its relatives have it."""
    return msgspec.json.encode({"type": kind, **members}).decode()

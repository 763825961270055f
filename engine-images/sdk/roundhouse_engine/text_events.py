"""What a runner of texts is asked and what it tells, as plain data that crosses threads and processes."""

from dataclasses import dataclass
from enum import StrEnum

from roundhouse_engine.errors import Problem
from roundhouse_engine.text import Finish, Piece, Prompted


class TextWork(StrEnum):
    CHAT = "chat"
    COMPLETE = "complete"
    EMBED = "embed"
    SCORE = "score"
    COMPOSE = "compose"


@dataclass(frozen=True, slots=True)
class TextAsk:
    """Which work on which model; the texts and options lie in the file beside it, as JSON."""

    model: str
    work: TextWork
    whole: bool = False
    """Nobody reads what is written before its end: pieces of it may be told together."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """An item's vector: little-endian float32 in base64, as OpenAI sends it."""

    index: int
    vector: str
    tokens: int


@dataclass(frozen=True, slots=True)
class Ranked:
    index: int
    score: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Spoiled:
    """One item of a batch cannot be computed; the others are."""

    index: int
    problem: Problem


@dataclass(frozen=True, slots=True)
class Halved:
    """Memory was short for a batch of so many items: the next ones are of half as many."""

    items: int


@dataclass(frozen=True, slots=True)
class Composing:
    """Music is being made; `progress` is the part done, 0 to 1."""

    progress: float


@dataclass(frozen=True, slots=True)
class Composed:
    """Music was made; its file lies in the work's own file, from byte `start` on."""

    audio_seconds: float
    sample_rate: int
    channels: int
    tokens: int
    start: int
    length: int


TextEvent = Prompted | Piece | Finish | Embedded | Ranked | Spoiled | Halved | Composing | Composed

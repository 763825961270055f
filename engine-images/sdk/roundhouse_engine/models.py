"""What an engine tells of each of its models. Standard library alone."""

from dataclasses import dataclass
from enum import StrEnum


class ModelState(StrEnum):
    """Where a model is in its life, as `GET /v1/models` spells it."""

    LOADING = "loading"
    READY = "ready"
    UNLOADING = "unloading"
    """It left the list: what has begun is finished first."""
    FAILED = "failed"
    """It could not be loaded, which is tried again."""


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """A model at one moment. `progress` is the part loaded, 0 to 1."""

    name: str
    state: ModelState
    progress: float
    capacity: int
    """Requests that it can compute at once."""
    in_use: int
    vram_bytes: int | None = None
    """The most GPU memory that it held so far; None where the handler cannot tell."""
    error: str | None = None
    """Why it could not be loaded, the last time."""
    sessions: tuple[int, int] | None = None
    """Realtime sessions that are held, and places for them; None where it takes none."""

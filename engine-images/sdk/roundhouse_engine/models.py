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
    loaded: bool = False
    """One that is ready and not loaded has left its memory to others: the next request loads it first."""
    vram_bytes: int | None = None
    """The most GPU memory that it held so far; None where the handler cannot tell."""
    error: str | None = None
    """Why it could not be loaded, the last time."""
    memory_bytes: int | None = None
    """What it was measured to take, of the GPU or else of the processes; None until it was."""
    sessions: tuple[int, int] | None = None
    """Realtime sessions that are held, and places for them; None where it takes none."""

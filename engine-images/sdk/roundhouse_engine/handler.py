"""What every engine implements, whatever its models make of what: how it loads, where it runs, how it stops.

Standard library alone, so that a handler can be read and tested without the server.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from roundhouse_engine.shelf import Shelf

Pooling = Literal["Mean", "LastToken", "CLS"]


class Isolation(StrEnum):
    """Where a handler runs: a thread of the server, or child processes of its own.

    A library that holds Python's global lock while it computes stops every other thread, health checks
    included: such a handler must run in processes.
    """

    THREAD = "thread"
    PROCESS = "process"


class CancelStep(StrEnum):
    """How long a handler goes on after its request was cancelled, at most."""

    TOKEN = "token"  # noqa: S105 - a piece of text, no secret
    FRAME = "frame"
    WINDOW = "window"
    BATCH = "batch"


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model to serve: an entry of `ROUNDHOUSE_MODELS`.

    `name` is what requests say, `path` the directory that holds the weights (None where the image brings
    them), `source` where they came from (`{"type": "Builtin"}`), `variant` the resource that asked for it,
    `pooling` how the vectors of a text's tokens are to become one (None: as the weights say).
    """

    name: str
    path: Path | None = None
    source: Mapping[str, Any] = field(default_factory=lambda: {"type": "Builtin"})
    variant: str | None = None
    pooling: Pooling | None = None


class ModelError(Exception):
    """A model cannot be served by this engine; the message names the entry, the fault and the remedy."""


class Cancelled(Exception):  # noqa: N818 - no fault, so not an Error
    """The request was cancelled; raised by `Cancellation.check` and let through by handlers."""


class Cancellation:
    """Tells a computation that nobody waits for it any more."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        self._event.set()

    @property
    def cancelled(self) -> bool:
        return self._event.is_set()

    def check(self) -> None:
        """Raise `Cancelled` if the request is gone. Call it between steps of the computation."""
        if self._event.is_set():
            raise Cancelled


class Handler(ABC):
    """The server makes one instance a model (and, isolated, one a process)."""

    isolation: ClassVar[Isolation] = Isolation.THREAD
    thread_safe: ClassVar[bool] = False
    """Whether several threads may compute with one instance at once."""
    capacity: ClassVar[int] = 1
    """Requests at once, where `ROUNDHOUSE_CAPACITY` says nothing."""
    cancel_step: ClassVar[CancelStep]
    cancel_seconds: ClassVar[float] = 10.0
    """A process that still computes this long after its request was cancelled is killed and started anew."""
    imports: ClassVar[tuple[str, ...]] = ()
    """Modules that `load` imports: done before, so that no model is charged with their memory."""
    shelf: "ClassVar[Shelf[Any, Any] | None]" = None
    """What requests use beside models, adapters for instance; in threads it counts in the memory's budget."""

    @classmethod  # noqa: B027 - a hook, not a duty
    def accept(cls, model: ModelSpec) -> None:
        """Raise `ModelError` if this engine can never serve the model; called before anything is loaded."""

    @abstractmethod
    def load(self, model: ModelSpec, progress: Callable[[float], None]) -> None:
        """Load the weights, calling `progress` with the part done (0 to 1). Raises `ModelError`."""

    def warm_up(self) -> None:  # noqa: B027 - a hook, not a duty
        """Compute something small, once, after `load`: the model is ready only then.

        A GPU's first call takes seconds, which the first client of each new pod would wait for; and what
        cannot compute at all is told as a model that cannot be loaded, not request by request.
        """

    def vram_bytes(self) -> int | None:
        """GPU memory that this instance holds, at its peak so far; None: it cannot tell, or needs none.

        Asked after loading and after each request.
        """
        return None

    def unload(self) -> None:  # noqa: B027 - a hook, not a duty
        """Free what would not be freed with the instance, a library's cache of GPU memory for instance.

        Called when nothing computes, before the instance is dropped. In threads only: a process just ends.
        """

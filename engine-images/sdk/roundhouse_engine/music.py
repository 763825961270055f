"""The protocol that engines of music implement, and the plain data that they are given and give back.

HTTP, formats, progress, cancellation and counting are the SDK's. Standard library alone, so that a handler
can be read and tested without the server.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from roundhouse_engine.handler import Cancellation, CancelStep, Handler

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class MusicOptions:
    """What the client asked for, checked. None: it said nothing, and the model's own habit holds."""

    duration_seconds: float
    """Never more than `Music.limit_seconds`."""
    seed: int
    """Drawn where the client said none, and told to it: the same one makes the same music."""
    temperature: float | None = None
    """0 for what is likeliest each time."""
    top_k: int | None = None
    """0: of all tokens."""
    top_p: float | None = None
    guidance_scale: float | None = None
    """How much more the prompt weighs than it does by itself; 1: no more."""
    adapter: str | None = None
    """Only where `Music.adapters`; the handler says which there are."""
    adapter_strength: float | None = None
    """1: as it was trained; 0: not at all."""


@dataclass(frozen=True, slots=True)
class Composition:
    """What was made. Longer than asked for it is cut, shorter it stays."""

    samples: "NDArray[np.float32]"
    """[channels, samples], full scale is 1; what is louder is cut off."""
    sample_rate: int
    tokens: int = 0
    """So many were computed."""


class Music(Handler):
    """Makes music of a description."""

    cancel_step: ClassVar[CancelStep] = CancelStep.FRAME
    default_seconds: ClassVar[float] = 10.0
    """How long it is where the client says nothing, and the model can."""

    adapters: ClassVar[bool] = False
    """Whether a request may name one that changes the model for it."""

    @abstractmethod
    def limit_seconds(self) -> float:
        """The most that the loaded model makes at once."""

    @abstractmethod
    def compose(
        self,
        prompt: str,
        options: MusicOptions,
        progress: Callable[[float], None],
        cancellation: Cancellation,
    ) -> Composition:
        """Call `progress` with the part done (0 to 1), and `cancellation.check` at each step.

        A prompt that is too long: `raise roundhouse_engine.errors.invalid(…, param="prompt")`.
        """

"""A small real engine of music for the tests of the server: a tone, or what the prompt orders.

`python -m tests.conformance.engine.music_handlers CLASS` runs one.
"""

import os
import signal
import sys
import time
from collections.abc import Callable

import numpy as np
from typing_extensions import override

from roundhouse_engine import (
    Cancellation,
    Composition,
    Isolation,
    ModelSpec,
    Music,
    MusicOptions,
    serve,
)
from roundhouse_engine.errors import invalid

RATE = 32_000
LIMIT_SECONDS = 12.0
STEPS = 50


class Tone(Music):
    """As many Hz as the seed says, half as loud as can be."""

    isolation = Isolation.PROCESS
    cancel_seconds = 30.0
    channels = 1

    @override
    def load(self, model: ModelSpec, progress: Callable[[float], None]) -> None:
        progress(1.0)

    @override
    def limit_seconds(self) -> float:
        return LIMIT_SECONDS

    @override
    def compose(
        self,
        prompt: str,
        options: MusicOptions,
        progress: Callable[[float], None],
        cancellation: Cancellation,
    ) -> Composition:
        self._obey(prompt, cancellation)
        for step in range(STEPS):
            cancellation.check()
            progress((step + 1) / STEPS)
        at = np.arange(round((options.duration_seconds + 0.02) * RATE)) / RATE
        tone = 0.5 * np.sin(2 * np.pi * options.seed * at)
        return Composition(np.tile(tone, (self.channels, 1)).astype(np.float32), RATE, tokens=STEPS)

    def _obey(self, prompt: str, cancellation: Cancellation) -> None:
        match prompt:
            case "endless":
                while True:
                    cancellation.check()
                    time.sleep(0.001)
            case "too long":
                raise invalid("The prompt is too long.", param="prompt", code="context_length_exceeded")
            case "memory":
                raise MemoryError
            case "fault":
                raise ValueError(prompt)
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case _:
                pass


class Duet(Tone):
    """In a thread, and of two channels."""

    isolation = Isolation.THREAD
    channels = 2


if __name__ == "__main__":
    serve({"Tone": Tone, "Duet": Duet}[sys.argv[1]])

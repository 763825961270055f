"""An engine without a model, for tests: it loads, fails, answers, streams and dies as it is told.

What a model is like stands in its name, behind the first `;`: `alpha;vram=2048;load=1.5` says that it takes
2,048 MiB of GPU memory and 1.5 s to load; `ram=64` makes it really take 64 MiB of the process's memory;
`gate=FILE` says that it is loaded once the engine has such a file.
`fail` makes every load fail, `fail=FILE` those until the engine has such a file; `raise` and `full`
make it fail as libraries do: with two lines, and for want of memory. What a request does stands in
its prompt: `wait 2` takes two seconds, `stream 5 0.2` gives five segments 0.2 s apart, `until FILE` gives
them until the engine has such a file, `exit 3` ends the engine with that code. The text is the model's name
up to the `;`.
"""

import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from typing_extensions import override

from roundhouse_engine import (
    Cancellation,
    ModelError,
    ModelSpec,
    Segment,
    Speech,
    SpeechOptions,
    Window,
    serve,
)

MIB = 1 << 20
STEP_SECONDS = 0.01
PAUSE_SECONDS = 0.2
FAULTS = {
    "raise": RuntimeError("a header\n  is wrong"),
    "full": MemoryError(),
}


class Scripted(Speech):
    thread_safe = True
    capacity = 4
    name = ""
    script: dict[str, str]
    held = b""

    @override
    def load(self, model: ModelSpec, progress: Callable[[float], None]) -> None:
        self.name, *parts = model.name.split(";")
        self.script = dict(part.partition("=")[::2] for part in parts)
        seconds = float(self.script.get("load", 0))
        self.held = b"x" * (int(self.script.get("ram", 0)) * MIB)
        for part in range(10):
            progress(part / 10)
            time.sleep(seconds / 10)
        while (gate := self.script.get("gate")) and not Path(gate).exists():
            time.sleep(STEP_SECONDS)
        if (failing := self.script.get("fail")) is not None and (not failing or not Path(failing).exists()):
            raise ModelError(f"{self.name!r} is told to fail.")
        for said, error in FAULTS.items():
            if said in self.script:
                raise error

    @override
    def vram_bytes(self) -> int | None:
        return int(self.script["vram"]) * MIB if "vram" in self.script else None

    @override
    def windows(self, audio: Iterator[bytes], cancellation: Cancellation) -> Iterator[Window]:
        """One, whatever is heard."""
        for _ in audio:
            cancellation.check()
        yield Window(0.0, b"", self.sample_rate)

    @override
    def transcribe(
        self, windows: Iterator[Window], options: SpeechOptions, cancellation: Cancellation
    ) -> Iterable[Segment]:
        for _ in windows:
            order, *arguments = options.prompt.split() or [""]
            match order:
                case "wait":
                    _wait(float(arguments[0]), cancellation)
                    yield self._segment(0)
                case "stream":
                    for place in range(int(arguments[0])):
                        _wait(float(arguments[1]), cancellation)
                        yield self._segment(place)
                case "until":
                    for place in itertools.count():
                        _wait(PAUSE_SECONDS, cancellation)
                        yield self._segment(place)
                        if Path(arguments[0]).exists():
                            break
                case "exit":
                    os._exit(int(arguments[0]))
                case _:
                    yield self._segment(0)

    def _segment(self, place: int) -> Segment:
        return Segment(place / 10, (place + 1) / 10, f" {self.name}")


def _wait(seconds: float, cancellation: Cancellation) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        cancellation.check()
        time.sleep(STEP_SECONDS)


if __name__ == "__main__":
    serve(Scripted)

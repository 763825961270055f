"""Small real engines for the tests of the server: what they do is chosen by the request's prompt.

`python -m tests.conformance.engine.handlers CLASS` runs one.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from typing_extensions import override

from roundhouse_engine import (
    Cancellation,
    Isolation,
    ModelError,
    ModelSpec,
    RealtimeSpeech,
    Segment,
    Speech,
    SpeechOptions,
    Task,
    Utterance,
    Window,
    Word,
    serve,
)
from tests.support import scripted_engine


class Scripted(Speech):
    """Says `sound` for each window that it hears, and before that obeys the prompt."""

    isolation = Isolation.PROCESS
    cancel_seconds = float(os.environ.get("TEST_CANCEL_SECONDS", "30"))
    word_timestamps = True

    @override
    def load(self, model: ModelSpec, progress: Callable[[float], None]) -> None:
        """Slow where a gate is named: loaded to a half until that file is there."""
        if model.name == "broken":
            raise ModelError("'broken' has no weights in '/models/broken': run its download again.")
        gate = os.environ.get("TEST_LOAD_GATE")
        progress(0.5)
        while gate and not Path(gate).exists():
            time.sleep(0.01)

    @override
    def transcribe(
        self, windows: Iterator[Window], options: SpeechOptions, cancellation: Cancellation
    ) -> Iterable[Segment]:
        for window in windows:
            end = window.start + window.seconds
            yield Segment(window.start, end, " sound", (Word("sound", window.start, end),))
            self._obey(options.prompt, cancellation)

    def _obey(self, prompt: str, cancellation: Cancellation) -> None:
        order, _, argument = prompt.partition(" ")
        match order:
            case "wait":  # and stop at once when cancelled
                until = time.monotonic() + float(argument)
                while time.monotonic() < until:
                    cancellation.check()
                    time.sleep(0.005)
            case "until":  # there is such a file
                while not Path(argument).exists():
                    cancellation.check()
                    time.sleep(0.005)
            case "stubborn":  # and do not hear of cancellation
                time.sleep(float(argument))
            case "hold":  # Python's lock, so many times
                for _ in range(int(argument)):
                    sum(range(20_000_000))
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "orphan":  # leave a process of one's own behind
                Path(argument).write_text(str(subprocess.Popen(["sleep", "1000"]).pid))
                os.kill(os.getpid(), signal.SIGKILL)
            case "raise":
                raise RuntimeError(argument)
            case _:
                pass


class Interpreter(Scripted):
    """Translates, and tells two speakers apart, who take turns."""

    translation = True
    diarization = True

    @override
    def transcribe(
        self, windows: Iterator[Window], options: SpeechOptions, cancellation: Cancellation
    ) -> Iterable[Segment]:
        for number, window in enumerate(windows):
            text = " sound" if options.task is Task.TRANSLATE else " Geräusch"
            speaker = "AB"[number % 2] if options.speakers else None
            yield Segment(window.start, window.start + window.seconds, text, language="de", speaker=speaker)


class Noise(Utterance):
    """Says how often it was fed; `sleep` makes each time so many seconds long."""

    def __init__(self, prompt: str) -> None:
        order, _, argument = prompt.partition(" ")
        self._seconds = float(argument) if order == "sleep" else 0.0
        self._fed = 0

    @override
    def feed(self, samples: bytes, cancellation: Cancellation) -> str | None:
        time.sleep(self._seconds)
        self._fed += 1
        return f"sound {self._fed}"

    @override
    def finish(self, window: Window, cancellation: Cancellation) -> Iterable[Segment]:
        yield Segment(window.start, window.start + window.seconds, " sound")


class Live(Scripted, RealtimeSpeech):
    sessions = 2

    @override
    def utterance(self, options: SpeechOptions, *, interim: bool) -> Utterance:
        return Noise(options.prompt)


class LiveThreaded(Live):
    isolation = Isolation.THREAD
    thread_safe = True


class Threaded(Scripted):
    isolation = Isolation.THREAD
    thread_safe = True
    capacity = 2


class Together(Scripted):
    """All that is asked of it is computed in one process."""

    thread_safe = True
    capacity = 2


class Weighty(scripted_engine.Scripted, RealtimeSpeech):
    """What its models take stands in their names; it takes sessions as well."""

    sessions = 1

    @override
    def utterance(self, options: SpeechOptions, *, interim: bool) -> Utterance:
        return Noise(options.prompt)


class Isolated(scripted_engine.Scripted):
    isolation = Isolation.PROCESS
    capacity = 1


if __name__ == "__main__":
    kinds = (Scripted, Threaded, Together, Interpreter, Live, LiveThreaded, Weighty, Isolated)
    serve({kind.__name__: kind for kind in kinds}[sys.argv[1]])

"""A library in a process of its own, as anyone would call it: what an engine over HTTP is held against.

The process says `ready`; for each line that it reads it does the work and answers with seconds and words.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO


@dataclass(frozen=True, slots=True)
class Library:
    """A process that is ready, and how long it took to be."""

    ready_seconds: float
    to: IO[str]
    answers: IO[str]

    def transcribe(self, order: str = "") -> tuple[float, str]:
        self.to.write(f"{order}\n")
        self.to.flush()
        seconds, words = json.loads(self.answers.readline())
        return seconds, words


@contextmanager
def library(module: str, *paths: Path) -> Iterator[Library]:
    """`module` of the bench, told where model and samples are."""
    began = time.monotonic()
    command = [sys.executable, "-m", f"tests.bench.{module}", *map(str, paths)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        try:
            assert process.stdout.readline() == "ready\n", "the library did not load"
            yield Library(time.monotonic() - began, process.stdin, process.stdout)
        finally:
            process.kill()

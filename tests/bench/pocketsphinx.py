"""The library as anyone would call it, in a process of its own: what the engine over HTTP is held against.

`python -m tests.bench.pocketsphinx PATH`: says `ready`, then decodes the file of 16 kHz mono samples for each
line that it reads, and answers with the seconds that took and the words.
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

    def transcribe(self) -> tuple[float, str]:
        self.to.write("\n")
        self.to.flush()
        seconds, words = json.loads(self.answers.readline())
        return seconds, words


@contextmanager
def library(samples: Path) -> Iterator[Library]:
    began = time.monotonic()
    command = [sys.executable, "-m", "tests.bench.pocketsphinx", str(samples)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        try:
            assert process.stdout.readline() == "ready\n", "the library did not load"
            yield Library(time.monotonic() - began, process.stdin, process.stdout)
        finally:
            process.kill()


def _serve(samples: bytes) -> None:
    from pocketsphinx import Decoder, get_model_path  # noqa: PLC0415 - its import is part of the start

    decoder = Decoder(
        hmm=get_model_path("en-us/en-us"),
        lm=get_model_path("en-us/en-us.lm.bin"),
        dict=get_model_path("en-us/cmudict-en-us.dict"),
        fwdflat=False,  # as the engine has it
        loglevel="ERROR",
    )
    print("ready", flush=True)
    for _ in sys.stdin:
        began = time.monotonic()
        decoder.start_utt()
        decoder.process_raw(samples, full_utt=True)
        decoder.end_utt()
        found = decoder.hyp()
        print(json.dumps([time.monotonic() - began, found.hypstr if found else ""]), flush=True)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]).read_bytes())

"""A slow command: its output goes into a log, and a line now and then tells that it goes on."""

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

PROGRESS_SECONDS = 15
Say = Callable[[str], None]


def run_slow(
    command: Sequence[str], log: Path, *, label: str, say: Say, environment: Mapping[str, str], folder: Path
) -> tuple[int, float]:
    """Its exit status and the seconds it took. It ends with the caller, also with one that is interrupted."""
    began = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            while _runs(process):
                say(f"{label}: {time.monotonic() - began:.0f} s so far")
        except BaseException:
            process.kill()
            process.wait()
            raise
    return process.returncode, time.monotonic() - began


def tail(text: str, lines: int = 20) -> str:
    """The last lines, indented, for an error message."""
    return "\n".join(f"  {line}" for line in text.splitlines()[-lines:])


def _runs(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(timeout=PROGRESS_SECONDS)
    except subprocess.TimeoutExpired:
        return True
    return False

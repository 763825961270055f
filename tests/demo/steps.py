"""The terminal that the demo speaks through: how a step is announced, timed and failed."""

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class DemoError(Exception):
    """A step failed; the message says which, why and what to do."""


def run(command: Sequence[str], *, environment: dict[str, str] | None = None) -> str:
    """Run a command in the checkout and return what it printed; DemoError with its last lines if it fails."""
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False, text=True, capture_output=True)
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise DemoError(f"`{' '.join(command)}` ended with exit status {done.returncode}\n{tail}".rstrip())
    return done.stdout


def project(*module_and_arguments: str) -> str:
    """Run a module of the project, which tells of its progress itself, and return what it answers."""
    command = [sys.executable, "-m", *module_and_arguments]
    done = subprocess.run(command, cwd=ROOT, check=False, text=True, stdout=subprocess.PIPE)
    if done.returncode != 0:
        raise DemoError(f"`{' '.join(command)}` ended with exit status {done.returncode}, see above")
    return done.stdout


@contextmanager
def step(title: str) -> Iterator[None]:
    """Announce a step, and say how long it took."""
    print(f"\n\033[1m▸ {title}\033[0m", flush=True)
    started = time.monotonic()
    try:
        yield
    except DemoError as error:
        raise DemoError(f"{title}: {error}") from error
    print(f"  done in {time.monotonic() - started:.0f} s", flush=True)

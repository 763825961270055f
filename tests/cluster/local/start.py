"""The library's way in: a running cluster by number."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tests.support.progress import Say

from . import lifecycle
from .claims import claimed
from .errors import ClusterError
from .handle import Cluster
from .layout import Mode
from .processes import say_to_stderr

FIRST_FOR_TESTS: Final = 1
"""0 is the demo's."""
LAST_FOR_TESTS: Final = 13
"""The two beyond are those of the tests of the lifecycle."""


def start(number: int, mode: Mode = "full", say: Say = say_to_stderr) -> Cluster:
    """A ready local cluster of this number: the one that runs, or one brought up now.

    Binaries are built first where they are missing. ROUNDHOUSE_CONTEXT is not looked at: tests need a
    cluster that they may fill with fake nodes and break.
    """
    return Cluster(lifecycle.up(number, mode, say))


def down(number: int, say: Say = say_to_stderr) -> bool:
    """End the cluster and remove what it left; False if there was none."""
    return lifecycle.down(number, say)


@contextmanager
def for_tests(wanted: int, mode: Mode, *, keep: bool = False, say: Say = say_to_stderr) -> Iterator[Cluster]:
    """A cluster that no other run of tests has: of the wanted number, else of the first that is free.

    Several runs on one machine come to want the same number, because each of their workers wants some of
    its own. With `keep` it is left running for the next run.
    """
    with _claimed_for_tests(wanted, mode) as number:
        if number != wanted:
            say(f"cluster {wanted} is used by others: cluster {number} in its place")
        started = start(number, mode, say)
        try:
            yield started
        finally:
            if not keep:
                down(number, say)


@contextmanager
def _claimed_for_tests(wanted: int, mode: Mode) -> Iterator[int]:
    others = (number for number in range(FIRST_FOR_TESTS, LAST_FOR_TESTS + 1) if number != wanted)
    for number in (wanted, *others):
        with claimed(number) as free:
            if free and _suits(number, mode, was_wanted=number == wanted):
                yield number
                return
    raise ClusterError(
        f"each of the clusters {FIRST_FOR_TESTS} to {LAST_FOR_TESTS} is used: end what is not needed"
    )


def _suits(number: int, mode: Mode, *, was_wanted: bool) -> bool:
    """Of what runs, only what an earlier run has left under the wanted number is taken."""
    running = lifecycle.find(number)
    return running is None or (was_wanted and running.mode == mode)

"""Several windows of one recording at a time."""

import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from roundhouse_engine.ahead import ahead
from tests.support.waiting import wait_until


class Work:
    """Computes what it is given once it is let, and counts."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.gates = {number: threading.Event() for number in range(9)}

    def __call__(self, number: int) -> int:
        self.begun.append(number)
        assert self.gates[number].wait(60)
        if number == 5:
            raise ValueError("five")
        return number * 10

    def open(self, *numbers: int) -> None:
        for number in numbers:
            self.gates[number].set()


def test_results_come_in_order_and_so_many_are_under_way() -> None:
    work = Work()
    found: list[int] = []
    reader = threading.Thread(target=lambda: found.extend(ahead(work, iter(range(5)), 3)))
    reader.start()
    wait_until(lambda: sorted(work.begun) == [0, 1, 2], seconds=30, what="three are under way")
    work.open(1, 2)
    assert not found, "the first is awaited"
    work.open(0)
    wait_until(lambda: sorted(work.begun) == [0, 1, 2, 3, 4], seconds=30, what="the rest")
    wait_until(lambda: found == [0, 10, 20], seconds=30, what="those that are done")
    work.open(3, 4)
    reader.join(30)
    assert found == [0, 10, 20, 30, 40]


def test_an_error_comes_in_its_place_and_ends_it() -> None:
    work = Work()
    work.open(*range(9))
    found: list[int] = []
    read: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(9):
            read.append(number)
            yield number

    with pytest.raises(ValueError, match="five"):
        found.extend(ahead(work, numbers(), 2))
    assert read[-1] <= 7, "no more than were under way"
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


def test_one_at_a_time_takes_no_thread_and_reads_nothing_early() -> None:
    work = Work()
    work.open(0)
    assert next(ahead(work, iter(range(9)), 1)) == 0
    assert work.begun == [0]


def test_who_closes_it_early_leaves_nothing_behind() -> None:
    work = Work()
    work.open(*range(9))
    results = ahead(work, iter(range(9)), 2)
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


def test_no_exit_waits_for_what_never_ends() -> None:
    """A GPU that hangs, say: the engine would be killed at the end of its grace, and not before."""
    program = """if True:
        import threading
        from roundhouse_engine.ahead import ahead

        begun = threading.Barrier(3)

        def compute(item):
            begun.wait()
            threading.Event().wait()

        threading.Thread(target=lambda: list(ahead(compute, iter(range(2)), 2)), daemon=True).start()
        begun.wait()
    """
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)

"""Requests that wait while something computes are next together, and none of them stops another."""

import gc
import threading
import weakref
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from roundhouse_engine import Cancellation, Cancelled
from roundhouse_engine.errors import no_memory_left
from roundhouse_engine.together import Together
from tests.support.waiting import wait_until


class LostError(Exception):
    """Of the device: whatever is asked of it."""


class Sums:
    """Adds one to each number, in batches that it remembers, none of them before `gate` is open."""

    def __init__(self, largest: int = 8, too_large: Exception | None = None) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.lost = False
        self._held = False
        """Whether a batch waits at the gate, or did when somebody looked."""
        self._largest = largest
        self._too_large = too_large or MemoryError()
        self._threads = ThreadPoolExecutor(16)
        self._together = Together[int, int](self._compute, most=4, at_once=1)

    def _compute(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        self._held = True
        assert self.gate.wait(60)
        self._held = False
        if len(items) > self._largest:
            raise self._too_large
        if self.lost:
            raise LostError("the device is gone")
        if 99 in items:
            return []
        if 13 in items:
            raise ValueError("13 brings bad luck")
        return [item + 1 for item in items]

    def ask(self, item: int, *, key: str = "", cancellation: Cancellation | None = None) -> "Future[int]":
        """One more. While the gate is closed, the first computes and the others wait when this returns."""
        waiting, begun, first = self._together.waiting, len(self.batches), not self._held
        future = self._threads.submit(self._together, item, key, cancellation or Cancellation())

        def settled() -> bool:
            if self.gate.is_set():
                return True
            return len(self.batches) > begun if first else self._together.waiting > waiting

        wait_until(settled, seconds=60, what=f"{item} computes or waits", every=0.001)
        return future


@pytest.fixture
def sums() -> Sums:
    return Sums()


def test_those_that_wait_are_next_in_batches_of_their_own_kind(sums: Sums) -> None:
    asked = [sums.ask(1), sums.ask(2), sums.ask(3, key="other"), *map(sums.ask, (4, 5, 6, 7))]
    sums.gate.set()
    assert [future.result(60) for future in asked] == [2, 3, 4, 5, 6, 7, 8]
    assert sums.batches == [[1], [2, 4, 5, 6], [3], [7]]


def test_one_that_leaves_while_it_waits_is_not_computed(sums: Sums) -> None:
    gone = Cancellation()
    first, leaving, staying = sums.ask(1), sums.ask(2, cancellation=gone), sums.ask(3)
    gone.cancel()
    with pytest.raises(Cancelled):
        leaving.result(60)
    sums.gate.set()
    assert (first.result(60), staying.result(60)) == (2, 4)
    assert sums.batches == [[1], [3]]


def test_what_goes_wrong_is_told_to_who_is_at_fault_alone(sums: Sums) -> None:
    first, bad, too = sums.ask(1), sums.ask(13), sums.ask(3)
    sums.gate.set()
    assert (first.result(60), too.result(60)) == (2, 4)
    with pytest.raises(ValueError, match="13 brings bad luck"):
        bad.result(60)
    assert sums.batches == [[1], [13, 3], [13], [3]]
    assert sums.ask(5).result(60) == 6


def test_a_fault_that_all_share_is_not_looked_for_in_each() -> None:
    sums = Sums()
    asked = [sums.ask(number) for number in range(5)]
    sums.lost = True
    sums.gate.set()
    for future in asked:
        with pytest.raises(LostError, match="is gone"):
            future.result(60)
    assert sums.batches == [[0], [1, 2, 3, 4], [1, 2], [1], [2]]


def test_like_faults_with_a_result_between_them_are_not_shared(sums: Sums) -> None:
    first, *asked = [sums.ask(number) for number in (1, 13, 2, 13, 4)]
    sums.gate.set()
    assert [first.result(60), asked[1].result(60), asked[3].result(60)] == [2, 3, 5]
    for bad in (asked[0], asked[2]):
        with pytest.raises(ValueError, match="bad luck"):
            bad.result(60)


def test_whoever_left_is_not_computed_when_it_is_tried_anew(sums: Sums) -> None:
    leaving, gone = [Cancellation(), Cancellation()], []
    first, bad = sums.ask(1), sums.ask(13)
    gone = [sums.ask(number, cancellation=each) for number, each in zip((3, 4), leaving, strict=True)]
    compute = sums._compute

    def leave(items: Sequence[int]) -> list[int]:
        if len(items) == 3:
            for each in leaving:
                each.cancel()
        return compute(items)

    sums._together._compute = leave
    sums.gate.set()
    assert first.result(60) == 2
    with pytest.raises(ValueError, match="bad luck"):
        bad.result(60)
    for future in gone:
        with pytest.raises(Cancelled):
            future.result(60)
    assert sums.batches == [[1], [13, 3, 4], [13]]


def test_results_that_are_too_few_are_an_error_of_all(sums: Sums) -> None:
    first, bad, other = sums.ask(1), sums.ask(99), sums.ask(3)
    sums.gate.set()
    assert (first.result(60), other.result(60)) == (2, 4)
    with pytest.raises(RuntimeError, match="0 results were given for 1 items"):
        bad.result(60)


def test_a_batch_that_is_too_large_for_the_memory_is_halved() -> None:
    sums = Sums(largest=1)
    asked = [sums.ask(number) for number in range(5)]
    sums.gate.set()
    assert [future.result(60) for future in asked] == [1, 2, 3, 4, 5]
    assert sums.batches == [[0], [1, 2, 3, 4], [1, 2], [1], [2], [3], [4]]


def test_memory_that_was_short_is_learnt_and_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("roundhouse_engine.room._GOOD_CALLS", 5)
    sums = Sums(largest=2)

    def asked(first: int, last: int) -> list[list[int]]:
        """The batches of these numbers: of the first, and of those that came while it computed."""
        sums.gate.clear()
        before = len(sums.batches)
        futures = [sums.ask(number) for number in range(first, last + 1)]
        sums.gate.set()
        assert [future.result(60) for future in futures] == list(range(first + 1, last + 2))
        return sums.batches[before:]

    assert asked(0, 4) == [[0], [1, 2, 3, 4], [1, 2], [3, 4]]
    assert asked(20, 24) == [[20], [21, 22], [23, 24]], "none is larger than what went well"
    assert asked(30, 34) == [[30], [31, 32, 33, 34], [31, 32], [33, 34]], "five calls went well"


@pytest.mark.parametrize("too_large", [MemoryError(), no_memory_left()], ids=["Python's", "told already"])
def test_a_batch_that_is_too_large_for_the_memory_is_halved_and_so_are_the_next(too_large: Exception) -> None:
    sums = Sums(largest=2, too_large=too_large)
    asked = [sums.ask(number) for number in range(9)]
    sums.gate.set()
    assert [future.result(60) for future in asked] == list(range(1, 10))
    assert sums.batches == [[0], [1, 2, 3, 4], [1, 2], [3, 4], [5, 6], [7, 8]]


def test_one_that_is_too_large_alone_is_told() -> None:
    sums = Sums(largest=0)
    sums.gate.set()
    with pytest.raises(MemoryError):
        sums.ask(1).result(60)


def test_those_that_come_one_after_the_other_are_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """As those do that took the step before together. The moment is as long as the test."""
    monkeypatch.setattr("roundhouse_engine.gathering._MOMENT_SECONDS", 600.0)
    monkeypatch.setattr("roundhouse_engine.together.GUESS_SECONDS", 1e6)
    sums = Sums()
    sums.gate.set()
    asked = []
    for number in range(4):
        wait_until(
            lambda came=number: sums._together.waiting == came,  # type: ignore[misc]
            seconds=60,
            what="those before wait",
            every=0.001,
        )
        asked.append(sums.ask(number))
    assert sorted(future.result(60) for future in asked) == [1, 2, 3, 4]
    assert sums.batches == [[0, 1, 2, 3]]


def test_a_batch_waits_for_who_is_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("roundhouse_engine.together.GUESS_SECONDS", 1e6)  # it may wait for a quarter of that
    sums = Sums()
    sums.gate.set()
    asked = []
    with sums._together.coming():
        for number in range(3):
            asked.append(sums.ask(number))
            wait_until(
                lambda there=number + 1: sums._together.waiting == there,  # type: ignore[misc]
                seconds=60,
                what="it waits for another",
                every=0.001,
            )
    assert [future.result(60) for future in asked] == [1, 2, 3]
    assert sums.batches == [[0, 1, 2]]


def test_one_that_leaves_while_a_batch_gathers_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long before the moment is over in which others might come."""
    monkeypatch.setattr("roundhouse_engine.gathering._MOMENT_SECONDS", 600.0)
    monkeypatch.setattr("roundhouse_engine.together.GUESS_SECONDS", 1e6)
    sums, gone = Sums(), Cancellation()
    sums.gate.set()
    asked = sums.ask(1, cancellation=gone)
    wait_until(lambda: sums._together.waiting == 1, seconds=60, what="it waits", every=0.001)
    gone.cancel()
    with pytest.raises(Cancelled):
        asked.result(60)
    assert sums.batches == []


def test_what_a_failed_batch_computed_with_is_gone_with_it() -> None:
    """On a GPU it is what was too large, and the next one is computed at once."""

    class Tensor:
        pass

    made: list[weakref.ref[Tensor]] = []
    left: list[int] = []

    def compute(items: Sequence[int]) -> Sequence[int]:
        left.append(sum(each() is not None for each in made))
        tensor = Tensor()
        made.append(weakref.ref(tensor))
        raise MemoryError(f"{len(items)} are too many")

    together = Together[int, int](compute, most=4, at_once=1)
    gc.disable()
    try:
        for item in range(3):
            with pytest.raises(MemoryError):
                together(item, "", Cancellation())
        assert left == [0, 0, 0]
        assert made[-1]() is None
    finally:
        gc.enable()

"""Who is there waits for those who are coming, and for nobody else."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from roundhouse_engine import Cancellation, Cancelled
from roundhouse_transformers.convoy import Convoy
from tests.support.waiting import wait_until


class Travellers:
    """Each is on its way until it is let on."""

    def __init__(self, most: int = 3) -> None:
        self.convoy = Convoy(most)
        self._threads = ThreadPoolExecutor(8)
        self._gates: list[threading.Event] = []

    def sets_out(
        self, cancellation: Cancellation | None = None, *, fails: bool = False
    ) -> tuple[threading.Event, "Future[None]"]:
        gate, on_the_way = threading.Event(), threading.Event()
        self._gates.append(gate)

        def travel() -> None:
            with self.convoy.coming():
                on_the_way.set()
                assert gate.wait(60)
                if fails:
                    raise ValueError("lost")
            self.convoy.complete(cancellation or Cancellation())

        future = self._threads.submit(travel)
        assert on_the_way.wait(60)
        return gate, future

    def arrives(self, gate: threading.Event) -> None:
        there = self.convoy._there
        gate.set()
        wait_until(lambda: self.convoy._there == there + 1, seconds=60, what="it is there", every=0.001)

    def end(self) -> None:
        for gate in self._gates:
            gate.set()
        self._threads.shutdown()


@pytest.fixture
def travellers() -> Iterator[Travellers]:
    found = Travellers()
    yield found
    found.end()


def test_who_is_alone_waits_for_nobody(travellers: Travellers) -> None:
    travellers.convoy.complete(Cancellation())


def test_who_is_there_waits_for_who_is_coming(travellers: Travellers) -> None:
    (first, one), (second, other) = travellers.sets_out(), travellers.sets_out()
    travellers.arrives(first)
    assert not one.done()
    second.set()
    one.result(60)
    other.result(60)


def test_who_fails_on_the_way_is_not_waited_for(travellers: Travellers) -> None:
    (first, one), (second, lost) = travellers.sets_out(), travellers.sets_out(fails=True)
    travellers.arrives(first)
    second.set()
    one.result(60)
    with pytest.raises(ValueError, match="lost"):
        lost.result(60)


def test_those_who_are_enough_leave_and_the_next_wait_again(travellers: Travellers) -> None:
    gates, futures = zip(*(travellers.sets_out() for _ in range(5)), strict=True)
    for gate in gates[:2]:
        travellers.arrives(gate)
    gates[2].set()
    for future in futures[:3]:
        future.result(60)
    travellers.arrives(gates[3])
    assert not futures[3].done()


def test_who_is_gone_waits_no_longer_and_does_not_count(travellers: Travellers) -> None:
    leaving = Cancellation()
    (first, one), (second, other), (third, last) = (
        travellers.sets_out(each) for each in (leaving, None, None)
    )
    travellers.arrives(first)
    leaving.cancel()
    with pytest.raises(Cancelled):
        one.result(60)
    travellers.arrives(second)
    assert not other.done(), "two of three, one of whom is gone"
    third.set()
    last.result(60)
    other.result(60)

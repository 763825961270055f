"""What the child of an isolated engine cannot tell costs the request that it is of, and no other."""

import io
import os
import socket
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from roundhouse_engine import Cancellation, Segment, child
from roundhouse_engine.events import LONGEST_LINE, Done, Event, Failed, Found
from roundhouse_engine.text_events import Composing, TextAsk, TextWork


class Jobs:
    """In the place of the mailbox, which would wait for its parent."""

    def __init__(self, *events: Event) -> None:
        self.jobs: Any = self
        self._events = dict(enumerate(events))
        self._waiting = list(self._events)
        self.forgotten: list[int] = []
        self.ended: list[tuple[int, bool]] = []
        """Those that went on to their end, and whether they had been called off by then."""

    def get(self) -> Any:
        if not self._waiting:
            raise EOFError
        number = self._waiting.pop(0)
        return number, TextAsk(str(number), TextWork.CHAT), io.BytesIO(), Cancellation()

    def compute(self, number: Any, _file: Any, _ask: Any, cancellation: Cancellation) -> Iterator[Event]:
        yield self._events[number]
        yield Done(1.0)
        self.ended.append((number, cancellation.cancelled))

    def forget(self, number: int) -> None:
        self.forgotten.append(number)


def test_an_event_that_cannot_be_told_costs_its_request_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    half: Any = np.float32(0.5)
    mailbox: Any = Jobs(Composing(half), Found(Segment(0, 1, "a" * LONGEST_LINE)), Composing(0.5))
    monkeypatch.setattr(child, "compute", mailbox.compute)
    handlers: Any = {str(number): number for number in range(3)}
    told: list[tuple[Any, Event]] = []

    def tell(number: int | None, event: Event) -> None:
        child.line_of(number, event)
        if isinstance(event, Failed):
            assert (number, True) in mailbox.ended, "its place is free once nothing computes in it"
        told.append((number, event))

    with pytest.raises(EOFError):
        child._work(mailbox, handlers, tell)
    kinds = [(number, type(event)) for number, event in told]
    assert kinds == [(0, Failed), (1, Failed), (2, Composing), (2, Done)]
    said = [event.problem.message for _, event in told if isinstance(event, Failed)]
    assert "gave a Composing that cannot be told: Object of type float32 is not JSON" in said[0]
    assert "gave a Found that cannot be told: it is of 16,777," in said[1]
    assert mailbox.forgotten == [0, 1, 2]
    assert mailbox.ended == [(0, True), (1, True), (2, False)]


def test_a_child_that_cannot_hear_its_server_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where no descriptor came with the work, for want of a free one."""
    exits: list[int] = []
    monkeypatch.setattr(os, "_exit", exits.append)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(b'{"cancel": 7}\n{"work": 8}\n')
        child.Mailbox(theirs).listen()
    assert exits == [1]

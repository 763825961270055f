"""What the child of an isolated engine cannot tell costs the request that it is of, and no other."""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from roundhouse_engine import Segment, child
from roundhouse_engine.events import LONGEST_LINE, Done, Event, Failed, Found
from roundhouse_engine.text_events import Composing, TextAsk, TextWork


class Jobs:
    """In the place of the mailbox, which would wait for its parent."""

    def __init__(self, *events: Event) -> None:
        self.jobs: Any = self
        self._events = dict(enumerate(events))
        self._waiting = list(self._events)
        self.forgotten: list[int] = []

    def get(self) -> Any:
        if not self._waiting:
            raise EOFError
        number = self._waiting.pop(0)
        return number, TextAsk("m", TextWork.CHAT), io.BytesIO(), number

    def compute(self, _handler: Any, _file: Any, _ask: Any, number: Any) -> Iterator[Event]:
        yield self._events[number]
        yield Done(1.0)

    def forget(self, number: int) -> None:
        self.forgotten.append(number)


def test_an_event_that_cannot_be_told_costs_its_request_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    half: Any = np.float32(0.5)
    mailbox: Any = Jobs(Composing(half), Found(Segment(0, 1, "a" * LONGEST_LINE)), Composing(0.5))
    monkeypatch.setattr(child, "compute", mailbox.compute)
    handlers: Any = {"m": None}
    told: list[tuple[Any, Event]] = []

    def tell(number: int | None, event: Event) -> None:
        child.line_of(number, event)
        told.append((number, event))

    with pytest.raises(EOFError):
        child._work(mailbox, handlers, tell)
    kinds = [(number, type(event)) for number, event in told]
    assert kinds == [(0, Failed), (1, Failed), (2, Composing), (2, Done)]
    said = [event.problem.message for _, event in told if isinstance(event, Failed)]
    assert "gave a Composing that cannot be told: Object of type float32 is not JSON" in said[0]
    assert "gave a Found that cannot be told: it is of 16,777," in said[1]
    assert mailbox.forgotten == [0, 1, 2]

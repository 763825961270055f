"""Music: what is left of a work that failed, and at which rates it may be."""

import gc
import io
import json
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import av
import numpy as np
import pytest
from typing_extensions import override

from roundhouse_engine import Cancellation, Composition
from roundhouse_engine.errors import invalid
from roundhouse_engine.events import Failed, Stopped
from roundhouse_engine.pipeline import compute
from roundhouse_engine.sound import encode
from roundhouse_engine.text_events import TextAsk, TextWork
from tests.conformance.engine.music_handlers import Tone
from tests.support.waiting import wait_until

ASK = TextAsk("m", TextWork.COMPOSE)


class Adapter:
    """What a work holds while it computes."""


class Adapted(Tone):
    """Fails, or is left, with an adapter in its hands."""

    def __init__(self, ends: Callable[[Cancellation], None]) -> None:
        self._ends = ends
        self.held: weakref.ref[Adapter] | None = None

    @override
    def compose(self, prompt: Any, options: Any, progress: Any, cancellation: Cancellation) -> Any:
        adapter = Adapter()
        self.held = weakref.ref(adapter)
        self._ends(cancellation)


def composing(handler: Tone, cancellation: Cancellation | None = None) -> list[Any]:
    told = {"prompt": "a", "duration_seconds": 1.0, "format": "wav", "options": {"seed": 1}}
    return list(compute(handler, io.BytesIO(json.dumps(told).encode()), ASK, cancellation or Cancellation()))


def left(cancellation: Cancellation) -> None:
    cancellation.cancel()
    cancellation.check()


def refused(_: Cancellation) -> None:
    raise invalid("The prompt is too long.")


def short(_: Cancellation) -> None:
    raise MemoryError


@pytest.fixture
def without_a_look_for_circles() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("without_a_look_for_circles")
@pytest.mark.parametrize(("ends", "kind"), [(left, Stopped), (refused, Failed), (short, Failed)])
def test_what_a_work_held_is_freed_when_it_fails_or_is_left(ends: Any, kind: type[Any]) -> None:
    """It may be an adapter of megabytes, and Python looks for circles by their number alone."""
    handler = Adapted(ends)
    assert [type(event) for event in composing(handler)] == [kind]
    held = handler.held
    assert held is not None
    wait_until(lambda: held() is None, seconds=30, what="its thread is over", every=0.01)


@pytest.mark.parametrize("rate", [0, 11, 7_999, 192_001, 4_000_000_000, "8000"])
def test_a_rate_that_no_music_has_is_told(rate: Any) -> None:
    class Odd(Tone):
        @override
        def compose(self, *_: Any) -> Composition:
            return Composition(np.zeros((1, 9), np.float32), rate)

    [failed] = composing(Odd())
    assert isinstance(failed, Failed)
    said = f"Odd.compose gave a sample_rate of {rate!r}, where a rate from 8000 to 192000 Hz is wanted"
    assert said in failed.problem.message


@pytest.mark.parametrize(("name", "rate", "taken"), [("mp3", 22_051, 24_000), ("aac", 96_001, 96_000)])
def test_a_rate_that_a_format_has_not_becomes_one_that_it_has(name: str, rate: int, taken: int) -> None:
    found = encode(np.zeros((1, rate), np.float32), rate, name, lambda: None)
    with av.open(io.BytesIO(found), "r") as container:
        assert container.streams.audio[0].rate == taken
        seconds = sum(frame.samples for frame in container.decode(audio=0)) / taken
    assert seconds == pytest.approx(1, abs=0.1)

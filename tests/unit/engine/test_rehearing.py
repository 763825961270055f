"""When an utterance is heard anew by a model that knows recordings alone."""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from roundhouse_engine import Cancellation, Cancelled, Segment, Window
from roundhouse_engine.rehearing import Rehearing

RATE = 100
HALF_SECOND = bytes(RATE)


class Scene:
    """A model that says how long what it hears is, and takes so many seconds for it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, takes_seconds: float = 0.0) -> None:
        self._now = 0.0
        self._takes_seconds = takes_seconds
        self.guesses = 0
        clock = SimpleNamespace(monotonic=lambda: self._now)
        monkeypatch.setattr("roundhouse_engine.rehearing.time", clock)

    def hear(self, window: Window, _: Cancellation) -> Iterator[Segment]:
        yield Segment(0.0, window.seconds, f"{window.seconds:g} s")

    def guess(self, window: Window, cancellation: Cancellation) -> Iterator[Segment]:
        cancellation.check()
        self.guesses += 1
        self._now += self._takes_seconds
        yield Segment(0.0, window.seconds, f"about {window.seconds:g} s")


def test_it_is_guessed_at_once_a_second_and_heard_whole_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(monkeypatch)
    utterance = Rehearing(RATE, scene.hear, scene.guess, interim=True)
    told = [utterance.feed(HALF_SECOND, Cancellation()) for _ in range(5)]
    assert told == [None, "about 1 s", None, "about 2 s", None]
    (segment,) = utterance.finish(Window(4.0, HALF_SECOND * 5, RATE), Cancellation())
    assert segment.text == "2.5 s"


def test_where_a_guess_takes_long_it_takes_half_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    utterance = Rehearing(RATE, Scene(monkeypatch).hear, Scene(monkeypatch, 1.5).guess, interim=True)
    told = [utterance.feed(HALF_SECOND, Cancellation()) for _ in range(8)]
    assert [at for at, text in enumerate(told, 1) if text] == [2, 8], "and then after 3 s"


def test_nobody_guesses_for_who_does_not_want_to_know(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(monkeypatch)
    utterance = Rehearing(RATE, scene.hear, scene.guess, interim=False)
    assert [utterance.feed(HALF_SECOND, Cancellation()) for _ in range(5)] == [None] * 5
    assert scene.guesses == 0


def test_a_guess_ends_with_the_session_that_it_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    scene, cancellation = Scene(monkeypatch), Cancellation()
    utterance = Rehearing(RATE, scene.hear, scene.guess, interim=True)
    assert utterance.feed(HALF_SECOND, cancellation) is None
    cancellation.cancel()
    with pytest.raises(Cancelled):
        utterance.feed(HALF_SECOND, cancellation)
    assert scene.guesses == 0

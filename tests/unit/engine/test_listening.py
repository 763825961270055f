"""What a handler is fed of a session, and when: as soon as it may be speech where it wants that."""

import io
from collections.abc import Iterable
from typing import Any

import pytest
from typing_extensions import override

from roundhouse_engine import Cancellation, SpeechOptions, Window
from roundhouse_engine.events import Cleared, Event, Guessed, Heard, SpeechBegan, SpeechOver, Uttered
from roundhouse_engine.listening import listen
from roundhouse_engine.realtime_speech import Detector, RealtimeSpeech, StreamOptions, Utterance
from roundhouse_engine.stream_frames import Frame, Order, packed

FRAME_BYTES = 960


class Told(Utterance):
    """Says how much it was fed so far."""

    def __init__(self) -> None:
        self.fed: list[bytes] = []
        self.dropped = False

    @override
    def feed(self, samples: bytes, cancellation: Cancellation) -> str | None:
        self.fed.append(samples)
        return str(len(self.fed))

    @override
    def finish(self, window: Window, cancellation: Cancellation) -> Iterable[Any]:
        return ()

    @override
    def drop(self) -> None:
        self.dropped = True


class Late(RealtimeSpeech):
    def __init__(self) -> None:
        self.begun: list[Told] = []

    @override
    def load(self, *_: Any) -> None: ...

    @override
    def transcribe(self, *_: Any) -> Any: ...

    @override
    def detector(self) -> Detector:
        return lambda frame: frame[0] != 0

    @override
    def utterance(self, *_: Any, **__: Any) -> Told:
        self.begun.append(Told())
        return self.begun[-1]


class Early(Late):
    early = True


def frame(number: int, *, speech: bool) -> bytes:
    """Each is another one."""
    return bytes([speech]) + number.to_bytes(2) + bytes(FRAME_BYTES - 3)


def heard(
    handler: RealtimeSpeech,
    said: str,
    *,
    interim: bool = True,
    at_once: int = 1,
    silence_seconds: float | None = None,
    clear: bool = False,
    then: str = "",
) -> list[Event]:
    """Of frames: `s` for speech, anything else for none; so many come in one piece."""
    stream = StreamOptions(interim_results=interim, silence_seconds=silence_seconds)
    orders = [*pieces(said, at_once), *[Frame(Order.CLEAR)] * clear, *pieces(then, at_once), Frame(Order.END)]
    file = io.BytesIO(b"".join(map(packed, orders)))
    events = listen(handler, file, SpeechOptions(), stream, Cancellation())
    return [event for event in events if not isinstance(event, (Heard, Cleared))]


def pieces(said: str, at_once: int) -> list[Frame]:
    frames = [frame(number, speech=each == "s") for number, each in enumerate(said)]
    return [
        Frame(Order.AUDIO, b"".join(frames[start : start + at_once]))
        for start in range(0, len(frames), at_once)
    ]


def test_what_may_be_speech_is_heard_before_it_is_known_to_be_some() -> None:
    early, late = Early(), Late()
    said = "." * 40 + "sss..." + "s" * 20 + "." * 40
    for handler in (early, late):
        kinds = [type(event) for event in heard(handler, said) if not isinstance(event, Guessed)]
        assert kinds == [SpeechBegan, SpeechOver, Uttered]
    (first,), (second,) = early.begun, late.begun
    ten_before, lead = frame(31, speech=False), frame(29, speech=False)
    assert b"".join(first.fed).startswith(ten_before)
    assert b"".join(second.fed).startswith(lead)
    assert len(first.fed[0]) == 10 * FRAME_BYTES, "at the first of them, and not once most are speech"
    assert len(second.fed[0]) == 20 * FRAME_BYTES
    for fed in (b"".join(first.fed), b"".join(second.fed)):
        numbers = [int.from_bytes(fed[at + 1 : at + 3]) for at in range(0, len(fed), FRAME_BYTES)]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), (
            "nothing is left out or said twice"
        )


def test_what_it_seems_to_say_is_told_once_it_is_known_to_be_speech() -> None:
    events = heard(Early(), "." * 20 + "s" * 20)
    kinds = [type(event) for event in events]
    assert kinds[:2] == [SpeechBegan, Guessed]
    assert events[1].text == "2", "of what was heard before"  # type: ignore[union-attr]


def test_a_click_is_dropped_and_told_to_nobody() -> None:
    handler = Early()
    assert heard(handler, ("." * 30 + "ss") * 3 + "." * 30) == []
    assert [each.dropped for each in handler.begun] == [True] * 3


def test_what_stays_doubtful_does_not_grow() -> None:
    handler = Early()
    assert heard(handler, "s..." * 250 + "." * 20) == []
    assert len(handler.begun) == 10
    assert all(each.dropped for each in handler.begun)
    assert max(sum(map(len, each.fed)) for each in handler.begun) <= 110 * FRAME_BYTES


@pytest.mark.parametrize("said", ["." * 30 + "sss", "." * 30 + "s" * 20])
def test_at_most_one_is_begun_at_a_time(said: str) -> None:
    """The last word may be too short to be known as speech before the session ends."""
    handler = Early()
    assert sum(isinstance(event, Uttered) for event in heard(handler, said)) == 1
    *given_up, _ = handler.begun
    assert all(each.dropped for each in given_up)


def test_an_utterance_begins_with_nothing_of_the_one_before() -> None:
    handler = Early()
    said = "." * 20 + "s" * 20 + "..." + "s" * 20 + "." * 40
    assert sum(isinstance(each, SpeechOver) for each in heard(handler, said, silence_seconds=0.09)) == 2
    first, second = handler.begun
    assert b"".join(second.fed).startswith(frame(42, speech=False)), "the end of the pause"
    assert frame(39, speech=True) in b"".join(first.fed)


def test_an_utterance_begins_with_nothing_that_was_to_be_forgotten() -> None:
    handler = Early()
    heard(handler, "." * 20 + "s" * 5, clear=True, then="s" * 20)
    assert handler.begun[0].dropped
    assert b"".join(handler.begun[1].fed).startswith(frame(0, speech=True))


def test_nobody_who_waits_for_the_end_alone_has_it_heard_early() -> None:
    handler = Early()
    heard(handler, "." * 30 + "sssss" + "." * 30, interim=False)
    assert handler.begun == []


@pytest.mark.parametrize(("at_once", "frames"), [(1, {3}), (4, {4}), (16, {8})])
def test_what_has_come_is_fed_without_waiting_for_more(at_once: int, frames: set[int]) -> None:
    handler = Late()
    heard(handler, "s" * 80, at_once=at_once)
    (told,) = handler.begun
    assert {len(each) // FRAME_BYTES for each in told.fed[1:]} == frames


def test_what_hearing_takes_is_told_and_what_waiting_takes_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each piece comes after a minute, and is heard in a second; an utterance takes three at its end."""
    now = 0.0

    def takes(seconds: float) -> None:
        nonlocal now
        now += seconds

    class Slow(Told):
        @override
        def feed(self, samples: bytes, cancellation: Cancellation) -> str | None:
            takes(1.0)
            return super().feed(samples, cancellation)

        @override
        def finish(self, window: Window, cancellation: Cancellation) -> Iterable[Any]:
            takes(3.0)
            if window.start:
                raise ValueError("at fault")
            return ()

    class Engine(Late):
        @override
        def utterance(self, *_: Any, **__: Any) -> Told:
            self.begun.append(Slow())
            return self.begun[-1]

    class Spoken(io.BytesIO):
        @override
        def read(self, size: int | None = -1, /) -> bytes:
            takes(30.0)
            return super().read(size)

    monkeypatch.setattr("roundhouse_engine.listening.time.monotonic", lambda: now)
    said = [Frame(Order.AUDIO, frame(1, speech=True) * 40), Frame(Order.FLUSH, b"")] * 2
    engine, file, seen = Engine(), Spoken(b"".join(map(packed, said))), list[Event]()
    events = listen(engine, file, SpeechOptions(), StreamOptions(), Cancellation())
    with pytest.raises(ValueError, match="at fault"):
        seen.extend(events)
    fed = sum(len(each.fed) for each in engine.begun)
    assert fed >= 4
    assert sum(event.compute_seconds for event in seen if isinstance(event, Heard)) == fed + 6

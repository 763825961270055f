"""Where a text ends, and what of it crosses to another process."""

import itertools
import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as some

from roundhouse_engine import Cancellation, Cancelled, Finish, FinishReason, Piece, Prompted, ToolCall
from roundhouse_engine.chat_format import Written
from roundhouse_engine.errors import Problem, Refusal
from roundhouse_engine.events import Event, from_wire, to_wire
from roundhouse_engine.text_events import Embedded, Halved, Ranked, Spoiled
from roundhouse_engine.writing import StopSequences, cut, gathered

PROBLEM = Problem(400, "invalid_request_error", "code", "message", "input", Refusal.FULL, 1)


@given(
    text=some.text("abc", max_size=30),
    stops=some.lists(some.text("abc", min_size=1, max_size=4), max_size=3),
    cuts=some.lists(some.integers(0, 30), max_size=6),
)
def test_a_text_ends_where_its_first_stop_sequence_begins(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    edges = [0, *sorted(min(each, len(text)) for each in cuts), len(text)]
    ears = StopSequences(stops)
    told = "".join(ears.feed(text[a:b]) for a, b in itertools.pairwise(edges)) + ears.rest()
    places = [text.find(stop) for stop in stops if stop in text]
    assert told == (text[: min(places)] if places else text)


def test_nothing_is_held_back_without_need() -> None:
    ears = StopSequences(["end"])
    assert [ears.feed("the e"), ears.feed("n"), ears.feed("emy")] == ["the ", "", "enemy"]


CALLS = (ToolCall(0, "id", "name", "{}"),)


@given(some.lists(some.sampled_from([Piece("a"), Piece("b", 2), Piece("", 1, "c"), Piece(tool_calls=CALLS)])))
def test_what_nobody_reads_before_its_end_is_told_in_fewer_pieces(pieces: list[Piece]) -> None:
    events: list[Prompted | Piece | Finish] = [Prompted(3), *pieces, Finish(FinishReason.LENGTH, 9)]
    one, few = Written(), Written()
    told = list(gathered(iter(events)))
    for event in events:
        one.add(event)
    for event in told:
        few.add(event)
    assert few == one
    assert told[:2] == events[:2]
    assert (told[0], told[-1]) == (events[0], events[-1])
    calls = sum(bool(piece.tool_calls) for piece in pieces)
    assert len(told) <= 3 + 2 * calls + len(pieces) // 8 + 1


def test_what_was_written_is_told_before_it_fails() -> None:
    def writing() -> Iterator[Piece]:
        yield from (Piece("a"), Piece("b"), Piece("c"))
        raise Cancelled

    told = gathered(writing())
    assert [next(told), next(told)] == [Piece("a"), Piece("bc", 2)]
    with pytest.raises(Cancelled):
        next(told)


def test_tokens_are_counted_also_of_what_is_not_told() -> None:
    pieces: list[Prompted | Piece] = [
        Prompted(2),
        Piece("one"),
        Piece("", tokens=3),
        Piece(" st", tokens=2),
        Piece("op"),
        Piece(" never"),
    ]
    told = list(cut(pieces, ["stop"], Cancellation()))
    assert told == [Prompted(2), Piece("one"), Piece(" ", tokens=5), Finish(FinishReason.STOP, 7)]


def test_a_handler_that_tells_no_end_has_ended() -> None:
    assert list(cut([Piece("e")], ["end"], Cancellation())) == [Piece("e", tokens=1), Finish(tokens=1)]


def test_a_cancelled_text_goes_on_for_no_piece() -> None:
    cancellation = Cancellation()

    def writing() -> Iterator[Piece]:
        yield Piece("one")
        cancellation.cancel()
        yield Piece("two")
        raise AssertionError("asked for more")

    events = cut(writing(), [], cancellation)
    assert next(events) == Piece("one")
    with pytest.raises(Cancelled):
        next(events)


@pytest.mark.parametrize(
    "event",
    [
        Prompted(3, 1),
        Piece("ü", 2, "so", (ToolCall(0, "{}", "id", "name"),)),
        Finish(FinishReason.TOOL_CALLS, 7),
        Embedded(1, "AAAA", 2),
        Ranked(0, 0.5, 2),
        Spoiled(1, PROBLEM),
        Halved(8),
    ],
    ids=lambda event: type(event).__name__,
)
def test_events_cross_to_another_process(event: Event) -> None:
    assert from_wire(json.loads(json.dumps(to_wire(event)))) == event

"""The load report: whole at first, then each change once, however often it changed."""

import json
from typing import Any

from roundhouse_gateway.load import MOST_LINES, Counts, LoadBook, Reader

WHISPER, OTHER = ("models", "whisper"), ("models", "other")


def told(reader: Reader) -> list[Any]:
    return [json.loads(line) for line in reader.lines().splitlines()]


def test_a_reader_is_told_all_there_is_and_then_what_changed() -> None:
    book = LoadBook()
    book.change(WHISPER, "in_flight", 2)
    with book.follow() as reader:
        assert told(reader) == [
            {
                "t": "load",
                "namespace": "models",
                "variant": "whisper",
                "inFlight": 2,
                "held": 0,
                "streams": 0,
            }
        ]
        assert told(reader) == []
        for _ in range(100):
            book.change(OTHER, "held", 1)
        assert [(one["variant"], one["held"]) for one in told(reader)] == [("other", 100)]


def test_what_came_to_nothing_is_told_once_and_forgotten() -> None:
    book = LoadBook()
    book.change(WHISPER, "streams", 1)
    with book.follow() as reader:
        reader.lines()
        book.change(WHISPER, "streams", -1)
        assert [one["streams"] for one in told(reader)] == [0]
    with book.follow() as late:
        assert told(late) == []
    assert book.of(WHISPER) == Counts()


def test_each_reader_is_behind_by_itself() -> None:
    book = LoadBook()
    with book.follow() as one, book.follow() as other:
        book.change(WHISPER, "in_flight", 1)
        assert len(told(one)) == 1
        book.change(WHISPER, "in_flight", 1)
        assert [each["inFlight"] for each in told(other)] == [2]


def test_much_is_told_in_parts_so_that_others_are_served_between() -> None:
    book = LoadBook()
    for number in range(MOST_LINES + 1):
        book.change(("models", str(number)), "held", 1)
    with book.follow() as reader:
        assert len(told(reader)) == MOST_LINES
        assert reader.is_behind
        assert len(told(reader)) == 1
        assert not reader.is_behind

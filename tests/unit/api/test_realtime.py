"""The realtime protocol as both sides read and write it."""

import pytest
from pydantic import ValidationError

from roundhouse_api.realtime import End, Flush, Transcript, known_event, read_control, write


def test_orders_read_as_they_are_written() -> None:
    for order in (Flush(type="flush", id="a"), Flush(type="flush"), End(type="end")):
        assert read_control(write(order)) == order
    with pytest.raises(ValidationError):
        read_control('{"type": "other"}')


def test_readers_pass_over_what_they_do_not_know() -> None:
    text = '{"type": "transcript.final", "utterance": 1, "text": "go", "start": 0, "end": 1, "lagMs": 0%s}'
    found = known_event(text % ', "later": true')
    assert isinstance(found, Transcript)
    assert (found.text, found.words) == ("go", None)
    assert known_event('{"type": "later", "lagMs": 0}') is None
    assert known_event("no JSON") is None

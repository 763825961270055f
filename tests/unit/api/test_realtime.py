"""The realtime protocol as clients of an engine read it."""

from roundhouse_api.realtime import Transcript, known_event


def test_readers_pass_over_what_they_do_not_know() -> None:
    text = '{"type": "transcript.final", "utterance": 1, "text": "go", "start": 0, "end": 1, "lagMs": 0%s}'
    found = known_event(text % ', "later": true')
    assert isinstance(found, Transcript)
    assert (found.text, found.words) == ("go", None)
    assert known_event('{"type": "later", "lagMs": 0}') is None
    assert known_event("no JSON") is None

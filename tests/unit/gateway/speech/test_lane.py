"""What the lane of speech remembers of the forms that it has read."""

from types import SimpleNamespace
from typing import Any

from roundhouse_api.enums import RouteName
from roundhouse_gateway.body_room import BodyRoom
from roundhouse_gateway.speech.lane import SpeechLane
from roundhouse_gateway.speech.small_form import SmallForm, split
from tests.unit.gateway.speech.test_small_form import BOUNDARY, END, FILE, MODEL


def read() -> SmallForm:
    form = split(MODEL + FILE + END, BOUNDARY)
    assert form is not None
    return form


def test_fields_are_read_once_for_each_snapshot() -> None:
    """Each holds how an engine is asked, and with it the snapshot and the keys that were there then."""
    lane: Any = SimpleNamespace(registry=SimpleNamespace(snapshot="one"))
    speech = SpeechLane(lane, BodyRoom(limit_bytes=1, room_bytes=1), 1)
    first = speech._sought(RouteName.TRANSCRIPTIONS, read())
    assert speech._sought(RouteName.TRANSCRIPTIONS, read()) is first
    assert speech._sought(RouteName.TRANSLATIONS, read()) is not first
    lane.registry.snapshot = "two"
    later = speech._sought(RouteName.TRANSCRIPTIONS, read())
    assert later is not first
    assert list(speech._remembered.values()) == [later]

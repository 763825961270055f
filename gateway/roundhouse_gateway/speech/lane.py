"""Speech on the fast lane: forms that came whole, for a model that is named, passed on without ASGI.

An engine gets the same form as from the ordinary route, but in one piece and on a connection that is kept.
What `plan` does not take is left to that route: to stream what is long, ask other models, say what is wrong.
"""

import secrets
from typing import Final

from typing_extensions import override

from roundhouse_api.enums import RouteName
from roundhouse_api.selection import UnknownModelError
from roundhouse_gateway.body_room import BodyRoom
from roundhouse_gateway.choice import check_fit
from roundhouse_gateway.errors import GatewayError
from roundhouse_gateway.form import Field, FormWriter
from roundhouse_gateway.snapshot import Snapshot
from roundhouse_gateway.speech.audio_api import TRANSCRIPTIONS, TRANSLATIONS
from roundhouse_gateway.speech.dialects import Plan, plan, shortfall
from roundhouse_gateway.speech.passage import SpeechPassage
from roundhouse_gateway.speech.small_form import SmallForm, read_fields, split
from roundhouse_gateway.text.asking import Asking
from roundhouse_gateway.text.lane import Forms, Lane, NotHereError
from roundhouse_gateway.text.passage import Passage
from roundhouse_gateway.text.way import Way
from roundhouse_gateway.transcription_request import TranscriptionRequest

MOST_REMEMBERED: Final = 500
MOST_BYTES_REMEMBERED: Final = 4096
"""Of the fields of one form: mostly the next has the same, whatever its file."""
_MANNERS: Final = {each.route: each for each in (TRANSCRIPTIONS, TRANSLATIONS)}
_NO_OPENING: Final = memoryview(b"")


class Sought:
    """What the fields of a form ask for, and how the engine that was asked last is sent it.

    `plan` is None where that engine cannot do it, or not here. `head` are the fields that stand before the
    file, `tail` is what comes after it.
    """

    __slots__ = ("_fields", "_way", "head", "plan", "request", "route", "tail")

    def __init__(self, route: RouteName, fields: list[Field]) -> None:
        self.route = route
        self._fields = fields
        self.request: TranscriptionRequest = _MANNERS[route].read(fields, complete=True)
        self._way: Way | None = None
        self.plan: Plan | None = None
        self.head = self.tail = b""

    def goes(self, way: Way, writer: FormWriter) -> Plan | None:
        """How the engine there is asked."""
        if way is not self._way:
            self.plan = self._plan(way)
            if self.plan is not None:
                self._frame(way, self.plan, writer)
            self._way = way
        return self.plan

    def _plan(self, way: Way) -> Plan | None:
        entry, request = way.entry, self.request
        if entry.access.key or request.stream or shortfall(entry, request) is not None:
            return None
        if entry.model.stage is not None:
            check_fit(entry, request.needs)
        return plan(entry.record.effective.dialect, request)

    def _frame(self, way: Way, said: Plan, writer: FormWriter) -> None:
        manner = _MANNERS[self.route]
        passing = [each for each in self._fields if manner.passes(each, said)]
        before = (Field("model", way.entry.model.engine_model.encode()), *passing)
        self.head = b"".join(writer.field(each.name, each.value) for each in before)
        added = b"".join(writer.field(each.name, each.value) for each in manner.added(self._fields, said))
        self.tail = writer.file_end() + added + writer.close()


class SpeechLane(Forms):
    """Its part of the lane. All forms go on with one boundary, which none of them holds.

    They are held in a `room` of their own while engines compute, so that no JSON is refused for them.
    `limit_bytes` is how long a file may be that waits for its model's name, wherever it waits.
    """

    def __init__(self, lane: Lane, room: BodyRoom, limit_bytes: int) -> None:
        self._lane = lane
        self._room = room
        self._limit_bytes = limit_bytes
        boundary = f"roundhouse-{secrets.token_hex(16)}"
        self._writer = FormWriter(boundary)
        self._boundary = boundary.encode()
        self._remembered: dict[tuple[RouteName, tuple[bytes, ...]], Sought] = {}
        self._remembered_of: Snapshot | None = None
        self.media_type = self._writer.content_type

    @override
    def plan(self, asking: Asking, body: bytes, client: str) -> Passage:
        """Raises `NotHereError`, and then nothing has happened."""
        lane, engines = self._lane, self._lane.engines
        form = split(body, asking.boundary)
        if form is None or len(form.content) > self._limit_bytes:
            raise NotHereError
        if self._boundary in body or not lane.registry.complete:
            raise NotHereError
        try:
            key = lane.key_of(asking)
            sought = self._sought(asking.route, form)
            fare = lane.fare(asking, sought.request.model, key)
            way = fare.way
            said = sought.goes(way, self._writer)
        except (GatewayError, UnknownModelError) as error:
            raise NotHereError from error
        if said is None:
            raise NotHereError
        stop = way.only or lane.stop(way, _NO_OPENING)
        if stop.base_url in way.unreadable:
            raise NotHereError
        sent = b"".join((sought.head, self._writer.file_start(form.file), form.content, sought.tail))
        kept = engines.pool.idle(stop.address)
        passage = SpeechPassage(lane, asking, body, fare, sent, stop, kept, client)
        passage.request, passage.plan = sought.request, said
        passage.room = self._room
        return lane.sent_out(passage)

    def _sought(self, route: RouteName, form: SmallForm) -> Sought:
        remembered, which = self._remembered, (route, form.fields)
        snapshot = self._lane.registry.snapshot
        if snapshot is not self._remembered_of:  # what is remembered holds ways of the old one, keys and all
            remembered.clear()
            self._remembered_of = snapshot
        found = remembered.get(which)
        if found is None:
            fields = read_fields(form.fields)
            if fields is None:
                raise NotHereError
            found = Sought(route, fields)
            if sum(map(len, form.fields)) <= MOST_BYTES_REMEMBERED:
                if len(remembered) >= MOST_REMEMBERED:
                    remembered.clear()
                remembered[which] = found
        return found


def with_speech(lane: Lane, room: BodyRoom, limit_bytes: int) -> Lane:
    """The lane, which takes forms as well: see `SpeechLane`."""
    lane.forms = SpeechLane(lane, room, limit_bytes)
    return lane

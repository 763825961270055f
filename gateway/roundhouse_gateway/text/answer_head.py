"""What follows from the head of an engine's answer, worked out once for all answers that have the same."""

from functools import cached_property
from typing import Final

from roundhouse_gateway.endpoint_load import LOAD_HEADER
from roundhouse_gateway.errors import Headers
from roundhouse_gateway.exchange import STANDING_PREFIX
from roundhouse_gateway.limits import Standing
from roundhouse_gateway.relay import is_fault, passing_headers
from roundhouse_gateway.text.frames import EVENT_STREAM
from roundhouse_gateway.tour import REFUSALS
from roundhouse_gateway.usage import AUDIO_SECONDS_HEADER

OF_LENGTH: Final = b"content-length"
REASON_HEADER: Final = b"x-roundhouse-reason"
_SOME: Final = Standing(0, 0, 0)
_LOAD_HEADER: Final = LOAD_HEADER.lower().encode()
_SECONDS_HEADER: Final = AUDIO_SECONDS_HEADER.lower().encode()


class AnswerHead:
    """Names of `headers` are in lower case. A `status` of 0: nothing has come yet."""

    def __init__(self, status: int, headers: Headers) -> None:
        self.status = status
        self.headers = headers

    def of_any_length(self) -> "AnswerHead":
        """The same without the length of the body, which is another one for each answer."""
        return AnswerHead(self.status, [each for each in self.headers if each[0] != OF_LENGTH])

    @cached_property
    def is_good(self) -> bool:
        return 200 <= self.status < 300

    @cached_property
    def is_event_stream(self) -> bool:
        return any(name == b"content-type" and value.startswith(EVENT_STREAM) for name, value in self.headers)

    @cached_property
    def media_type(self) -> str:
        """Of the body, in lower case and without parameters."""
        said = dict(self.headers).get(b"content-type", b"application/octet-stream")
        return said.partition(b";")[0].strip().lower().decode("latin-1")

    @cached_property
    def passing(self) -> Headers:
        """What of it the client gets to see."""
        return passing_headers(self.headers)

    @cached_property
    def length(self) -> int | None:
        """Of the body, where the engine says it beforehand."""
        found = dict(self.passing).get(OF_LENGTH)
        return None if found is None else int(found)

    def passing_to(self, standing: Standing | None) -> Headers:
        """Where the client has limits, an upstream's own are about the gateway's key, not the client's."""
        if standing is None:
            return self.passing
        return [each for each in self.passing if not each[0].startswith(STANDING_PREFIX)]

    def lines_to(self, standing: Standing | None) -> bytes:
        """The same as lines of a head, without the length of the body."""
        return self._lines if standing is None else self._lines_of_limited

    @cached_property
    def _lines(self) -> bytes:
        return lines_of([each for each in self.passing if each[0] != OF_LENGTH])

    @cached_property
    def _lines_of_limited(self) -> bytes:
        return lines_of([each for each in self.passing_to(_SOME) if each[0] != OF_LENGTH])

    @cached_property
    def reason(self) -> str:
        """Why the engine would not take the request at all; empty where it did."""
        if self.status not in (429, 503):
            return ""
        reason = dict(self.headers).get(REASON_HEADER, b"").decode("latin-1")
        return reason if reason in REFUSALS else ""

    @cached_property
    def is_fault(self) -> bool:
        """The engine says that it has failed, and not why it would not try."""
        reasoned = any(name in {REASON_HEADER, b"retry-after"} for name, _ in self.headers)
        return is_fault(self.status, reasoned=reasoned)

    @cached_property
    def audio_seconds(self) -> str | None:
        """What the engine tells of the recording's length."""
        found = dict(self.headers).get(_SECONDS_HEADER)
        return None if found is None else found.decode("latin-1")

    @cached_property
    def load(self) -> str | None:
        """What the engine tells of its load."""
        found = dict(self.headers).get(_LOAD_HEADER)
        return None if found is None else found.decode("latin-1")


NOTHING_YET: Final = AnswerHead(0, [])


def lines_of(headers: Headers) -> bytes:
    return b"".join(b"%s: %s\r\n" % each for each in headers)


class Lines:
    """The headers that uvicorn begins each head with, as lines; it makes new ones each second."""

    def __init__(self) -> None:
        self._of: Headers | None = None
        self._lines = b""

    def of(self, headers: Headers) -> bytes:
        if headers is not self._of:
            self._of, self._lines = headers, lines_of(headers)
        return self._lines

"""What the head of a request says, read once for all requests on a connection that have the same."""

import re
from typing import TYPE_CHECKING, Final

from roundhouse_api.enums import RouteName
from roundhouse_api.keys import ApiKey
from roundhouse_gateway.errors import Headers
from roundhouse_gateway.exchange import sent_id
from roundhouse_gateway.guard import presented
from roundhouse_gateway.media_types import CONTENT_TYPE, is_json
from roundhouse_gateway.text.answer_head import OF_LENGTH
from roundhouse_gateway.text.request import READERS

if TYPE_CHECKING:
    from roundhouse_gateway.text.way import Fare

PATHS: Final = {
    b"/v1/chat/completions": RouteName.CHAT,
    b"/v1/completions": RouteName.COMPLETIONS,
    b"/v1/embeddings": RouteName.EMBEDDINGS,
    b"/v1/audio/transcriptions": RouteName.TRANSCRIPTIONS,
    b"/v1/audio/translations": RouteName.TRANSLATIONS,
}
_BOUNDARY: Final = re.compile(
    rb'multipart/form-data; ?boundary=(?:"([\w.+:-]{1,70})"|([\w.+-]{1,70}))', re.IGNORECASE
)
"""As clients write it; any other way is for the ordinary routes to read. A colon has to stand in quotes."""
_ELSEWHERE: Final = frozenset(
    {b"expect", b"transfer-encoding", b"upgrade", b"via", b"traceparent", b"tracestate", b"origin"}
)
"""Headers of requests that need more than to be passed on."""


class Asking:
    """`key` is what `key_text` was found to be; `request_id` is empty where the client sent none.

    `read` reads a body of JSON, and is None where the route takes a form, which has the `boundary`.
    """

    __slots__ = (
        "boundary",
        "fare",
        "headers",
        "key",
        "key_text",
        "name",
        "path",
        "raw_path",
        "read",
        "request_id",
        "route",
        "ways",
    )

    def __init__(self, path: bytes, headers: Headers) -> None:
        self.path = path.decode()
        self.raw_path = path
        self.route = PATHS[path]
        self.read = READERS.get(self.route)
        self.boundary = b"" if self.read else boundary_in(headers)
        self.headers = headers
        self.key_text = presented(headers)
        self.request_id = sent_id(headers)
        self.key: ApiKey | None = None
        # Of the request before, by the name of its model: mostly the next has the same.
        self.name: str | None = None
        self.fare: Fare | None = None
        self.ways: object = None

    def with_length(self, length: int) -> "Asking":
        """The same before a body of so many bytes."""
        headers = [each if each[0] != OF_LENGTH else (OF_LENGTH, b"%d" % length) for each in self.headers]
        return Asking(self.raw_path, headers)


def boundary_in(headers: Headers) -> bytes:
    """Empty where there is none that can be read at a glance."""
    said = [value for name, value in headers if name == CONTENT_TYPE]
    found = _BOUNDARY.fullmatch(said[0]) if len(said) == 1 else None
    return found[1] or found[2] if found else b""


def announced(path: bytes, headers: Headers) -> int:
    """How long the body is; 0 where that is not said, or the headers ask for more than to be passed on."""
    length, takes_json = b"", PATHS[path] in READERS
    for name, value in headers:
        if name in _ELSEWHERE or (takes_json and name == CONTENT_TYPE and not is_json(value)):
            return 0
        if name == OF_LENGTH:
            length = value
    return int(length) if length.isdigit() else 0

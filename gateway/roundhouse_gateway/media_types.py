"""What a request says its body is, where a route takes JSON.

Any page may have a browser send what is said to be text or a form, without asking beforehand. A body that
nothing is said of passes: pages that send one are found out by their `Origin`.
"""

import re
from typing import Final

from roundhouse_gateway.errors import GatewayError, Headers

CONTENT_TYPE: Final = b"content-type"
_JSON: Final = re.compile(
    rb"(?:application/(?:[\w!#$&^.+-]+\+)?json[ \t]*(?:;.*)?)?", re.IGNORECASE | re.DOTALL
)


class NotJsonError(GatewayError):
    status = 415
    type = "invalid_request_error"
    code = "unsupported_media_type"
    retry_is_useless = True

    def __init__(self, content_type: str) -> None:
        super().__init__(
            f"The body must be JSON, and the Content-Type header says {content_type[:200]!r}: "
            "send `Content-Type: application/json`."
        )


def is_json(content_type: bytes) -> bool:
    """Whether a Content-Type header says so, or nothing at all."""
    return _JSON.fullmatch(content_type) is not None


def check_json(headers: Headers) -> None:
    """Raises `NotJsonError`."""
    for name, value in headers:
        if name == CONTENT_TYPE and not is_json(value):
            raise NotJsonError(value.decode("latin-1"))

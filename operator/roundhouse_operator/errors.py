"""What can become of a request to the API server, as a small tree."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from typing_extensions import override

from roundhouse_operator.core.outcome import Cause

_NO_SUCH_FIELD: Final = re.compile(r"field not declared in schema|failed to create typed patch object")
"""What server-side apply says to a manifest that is none of its kind, under status 500."""
LONGEST_SECONDS: Final = 60.0
"""As long as an API server may have us wait."""


class ClusterError(Exception):
    """The API server refused a request, or could not be reached. `result` is its name in the metrics."""

    result: ClassVar[str] = "error"


class ConfigurationError(ClusterError):
    """Nothing says where the API server is and who we are."""


class UnreachableError(ClusterError):
    """No answer, or one that says to come back: the same request may succeed later."""

    result: ClassVar[str] = "unreachable"


class FencedError(UnreachableError):
    """Not sent: the Lease may be somebody else's by now."""

    result: ClassVar[str] = "fenced"


class OwnerGoneError(ClusterError):
    """What a child was to be made for is gone, or is another one now."""

    result: ClassVar[str] = "gone"


class ThrottledError(UnreachableError):
    """An answer that says when to come back, at the earliest."""

    result: ClassVar[str] = "throttled"

    def __init__(self, message: str, after_seconds: float) -> None:
        super().__init__(message)
        self.after_seconds = after_seconds


@dataclass
class RefusedError(ClusterError):
    """An answer that the same request would get again until somebody changes something."""

    status: int
    reason: str
    message: str
    causes: tuple[Cause, ...] = ()
    result: ClassVar[str] = "refused"

    @override
    def __str__(self) -> str:
        return f"{self.status} {self.reason}: {self.message}"


class NotFoundError(RefusedError):
    """The object, its namespace or its kind does not exist."""


class ConflictError(RefusedError):
    """Somebody else owns a field, holds the name, or was quicker."""

    result: ClassVar[str] = "conflict"


class GoneError(RefusedError):
    """A watch asked for a version that the API server no longer keeps: list again."""


def error_of(status: int, reason: str, text: str, retry_after: str = "") -> ClusterError:
    """From an HTTP answer of 400 or more, with its header `Retry-After`."""
    if status == 500 and _NO_SUCH_FIELD.search(text):
        return _malformed(text)
    if status == 429 or status >= 500:
        message = f"{status} {reason}: {text[:500]}"
        if retry_after.isdecimal():
            return ThrottledError(message, min(float(retry_after), LONGEST_SECONDS))
        return UnreachableError(message)
    try:
        return refusal_of(json.loads(text))
    except ValueError:
        return RefusedError(status, reason, text[:500])


def _malformed(text: str) -> RefusedError:
    """The same manifest gets this answer for ever, so it is told as what it is: a bad request."""
    try:
        message = json.loads(text)["message"]
    except (ValueError, KeyError, TypeError):
        message = text[:500]
    return RefusedError(400, "BadRequest", str(message))


def refusal_of(status: dict[str, Any]) -> RefusedError:
    """From the API server's own `Status` object."""
    code = int(status.get("code") or 0)
    causes = tuple(
        Cause(cause.get("reason", ""), cause.get("field", ""), cause.get("message", ""))
        for cause in (status.get("details") or {}).get("causes") or ()
    )
    kinds = {404: NotFoundError, 409: ConflictError, 410: GoneError}
    return kinds.get(code, RefusedError)(code, status.get("reason", ""), status.get("message", ""), causes)

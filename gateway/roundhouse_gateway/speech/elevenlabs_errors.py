"""Errors as ElevenLabs' clients read them: `detail`, with a `status` that is a word, or a list of fields."""

from typing import Final

import msgspec

from roundhouse_gateway.errors import GatewayError, InvalidRequestError, error_of

_STATUS: Final = {
    "missing_api_key": "needs_authorization",
    "insufficient_scope": "missing_permissions",
    "concurrency_limit_exceeded": "concurrent_limit_exceeded",
    "hold_full": "system_busy",
    "engine_busy": "system_busy",
    "engine_full": "system_busy",
}
"""Where ElevenLabs has a word of its own for what this gateway's code says."""
_TYPE: Final = {
    400: "validation_error",
    401: "authentication_error",
    403: "authorization_error",
    404: "not_found",
    413: "validation_error",
    415: "validation_error",
    422: "validation_error",
    429: "rate_limit_error",
}


class FieldError(InvalidRequestError):
    """A field of the form cannot be read."""

    status = 422


def body_of(error: GatewayError, request_id: str) -> bytes:
    """The body of the answer; its status and headers are the error's own."""
    said = error_of(error.body())
    if isinstance(error, FieldError):
        where = {"loc": ["body", said["param"]], "msg": said["message"], "type": "value_error"}
        return msgspec.json.encode({"detail": [where]})
    code = said["code"] or said["type"] or ""
    detail = {
        "type": _TYPE.get(error.status, "internal_error"),
        "code": code,
        "status": _STATUS.get(code, code),
        "message": said["message"],
        "param": said["param"],
        "request_id": request_id,
    }
    return msgspec.json.encode({"detail": detail})

"""How a session ends, said in a close frame: which code an error has, and its words cut to what fits."""

from dataclasses import dataclass
from typing import Final

import aiohttp
from starlette.types import Message

from roundhouse_api.realtime import Close
from roundhouse_gateway.errors import (
    EngineAnsweredError,
    EngineFailedError,
    GatewayError,
    UnknownModelRequestError,
    envelope,
)

_LONGEST_REASON: Final = 120
"""Bytes."""
_MORE: Final = " …"
_PASSED_ON: Final = frozenset(Close)
_BY_STATUS: Final = {
    401: Close.UNAUTHENTICATED,
    403: Close.FORBIDDEN,
    408: Close.IDLE,
    429: Close.LIMIT,
    503: Close.NOTHING_RUNS,
}


@dataclass(frozen=True, slots=True)
class Ending:
    """`code` 0: the client is gone, and nobody is there to be told. `error`: to be told of before."""

    code: int
    reason: str = ""
    error: GatewayError | None = None


GONE: Final = Ending(0, "the client left")


def ending_of(error: GatewayError) -> Ending:
    return Ending(close_code(error), reason_of(error), error)


def close_code(error: GatewayError) -> Close:
    if isinstance(error, UnknownModelRequestError):
        return Close.UNKNOWN_MODEL
    known = _BY_STATUS.get(error.status)
    if known is not None:
        return known
    return Close.PARAMETERS if error.status < 500 else Close.FAILED


def reason_of(error: GatewayError) -> str:
    """The message; of an unknown model the one that lists those there are."""
    if isinstance(error, UnknownModelRequestError) and isinstance(error.detail, dict):
        return error.detail["message"] or error.message
    return error.message


def ended_by(message: aiohttp.WSMessage, model: str) -> Ending:
    """What came from an engine instead of an event: its own code and words, if it had any."""
    if message.type is aiohttp.WSMsgType.CLOSE and message.data in _PASSED_ON:
        return Ending(message.data, message.extra or "")
    return ending_of(EngineFailedError(f"Engine '{model}' broke off the session."))


def close_message(ending: Ending) -> Message:
    return {"type": "websocket.close", "code": int(ending.code), "reason": _short(ending.reason)}


def _short(reason: str) -> str:
    """As many whole words as fit."""
    if len(reason.encode()) <= _LONGEST_REASON:
        return reason
    kept = reason.encode()[: _LONGEST_REASON - len(_MORE.encode())].decode(errors="ignore")
    return (kept.rpartition(" ")[0] or kept) + _MORE


def engine_error(status: int, message: str, param: str | None) -> GatewayError:
    """What an engine said instead of taking the session."""
    kind = "invalid_request_error" if status < 500 else "upstream_error"
    error = EngineAnsweredError(status, [], envelope(message, kind, param, "invalid_value"))
    error.message, error.type, error.param, error.code = message, kind, param, "invalid_value"
    return error

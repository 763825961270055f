"""The routes that give keys for a moment, as `/openapi.json` has them. It has no words for WebSockets."""

from collections.abc import Callable
from typing import Any, Final

from roundhouse_gateway.error_shapes import SINGLE_USE_TOKENS
from roundhouse_gateway.realtime.token_routes import CLIENT_SECRETS

_STATUSES: Final = {
    "400": "The request is wrong; `param` names the field.",
    "408": "The body stood still.",
    "413": "The body is too large.",
    "415": "The Content-Type header says that the body is something else than JSON.",
    "503": "The gateway, or the store of tokens, is not there just now.",
}
_TEXT: Final = {"type": "string"}
_WANTED: Final = {
    "type": "object",
    "properties": {
        "session": {
            "type": "object",
            "description": "What the session begins with, as `session.update` has it.",
        },
        "expires_after": {
            "type": "object",
            "properties": {"seconds": {"type": "integer", "minimum": 10, "maximum": 7200, "default": 600}},
        },
    },
}
_SECRET: Final = {
    "type": "object",
    "required": ["value", "expires_at", "session"],
    "properties": {"value": _TEXT, "expires_at": {"type": "integer"}, "session": {"type": "object"}},
}
_TOKEN: Final = {"type": "object", "required": ["token"], "properties": {"token": _TEXT}}


def realtime_paths(error: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    """`error` makes the response of an error of that description."""
    errors = {status: error(text) for status, text in _STATUSES.items()}
    secret: dict[str, Any] = {
        "tags": ["realtime"],
        "summary": "A key for a browser's realtime sessions, for some minutes",
        "requestBody": {"content": {"application/json": {"schema": _WANTED}}},
        "responses": {"200": _answer("The secret.", _SECRET), **errors},
    }
    token: dict[str, Any] = {
        "tags": ["realtime"],
        "summary": "A key for one realtime session, within 15 minutes",
        "responses": {"200": _answer("The token.", _TOKEN), **errors},
    }
    return {CLIENT_SECRETS: {"post": secret}, SINGLE_USE_TOKENS: {"post": token}}


def _answer(text: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": schema}}}

"""The description at `/openapi.json`: FastAPI's own, with raw ASGI routes and the real shape of errors."""

from typing import Any

from fastapi import FastAPI

from roundhouse_gateway.guard import OPEN_PATHS
from roundhouse_gateway.realtime.description import realtime_paths
from roundhouse_gateway.speech.description import speech_paths
from roundhouse_gateway.text.openapi import STATUSES as TEXT_STATUSES
from roundhouse_gateway.text.openapi import text_paths

ERROR_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["error", "detail"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        },
        "detail": {"type": ["string", "object"]},
    },
}
_KEYS: dict[str, Any] = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "xi-api-key": {"type": "apiKey", "in": "header", "name": "xi-api-key"},
}
"""Where the gateway asks for keys at all."""
_OF_ALL = {
    "400": "The request is wrong; `param` names the parameter.",
    "401": "The API key is missing or wrong.",
    "403": "The API key may not do this.",
    "429": "The API key has used up its limits; `Retry-After` says when to come again.",
    "500": "The gateway met a fault of its own.",
    "503": "The gateway is not ready, or is about to end.",
}
_OF_ENGINES = {"508": "The request has come through Roundhouse so often that it goes in circles."}
_PLAIN = {
    "/healthz": {"200": "It is alive."},
    "/readyz": {"200": "They should.", "503": "They should not; the text says why."},
    "/metrics": {"200": "The text that Prometheus reads."},
}


def describe(app: FastAPI) -> dict[str, Any]:
    """The whole description, made once."""
    if app.openapi_schema is None:
        schema = FastAPI.openapi(app)
        schema["components"] = {"schemas": {"Error": ERROR_SCHEMA}}
        schema["paths"] |= speech_paths(_error)
        schema["paths"] |= realtime_paths(_error)
        schema["paths"] |= text_paths({status: _error(text) for status, text in TEXT_STATUSES.items()})
        _complete(schema)
        app.openapi_schema = schema
    return app.openapi_schema


def _complete(schema: dict[str, Any]) -> None:
    """What holds for every route: keys, the request's id, and errors in one shape."""
    schema["components"]["securitySchemes"] = _KEYS
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            operation["responses"] = _responses(path, method, operation["responses"])
            if path not in OPEN_PATHS:
                operation["security"] = [{}, *({name: []} for name in _KEYS)]


def _responses(path: str, method: str, found: dict[str, Any]) -> dict[str, Any]:
    """Bad parameters are answered 400 in our shape, not 422 in FastAPI's."""
    kept = {status: each for status, each in found.items() if "HTTPValidationError" not in str(each)}
    if path in _PLAIN:
        kept = {status: _plain(text) for status, text in _PLAIN[path].items()}
    if path in OPEN_PATHS:
        return kept
    statuses = _OF_ALL | (_OF_ENGINES if method == "post" else {})
    if path.endswith("}"):
        statuses |= {"404": "No model has the name."}
    return {**{status: _error(text) for status, text in statuses.items()}, **kept}


def _plain(text: str) -> dict[str, Any]:
    return {"description": text, "content": {"text/plain": {"schema": {"type": "string"}}}}


def _error(text: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Error"}
    return {"description": text, "content": {"application/json": {"schema": schema}}}

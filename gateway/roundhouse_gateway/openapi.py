"""The description at `/openapi.json`: FastAPI's own, with raw ASGI routes and the real shape of errors."""

from typing import Any

from fastapi import FastAPI

from roundhouse_gateway.transcription_request import GRANULARITIES, RESPONSE_FORMATS, TIERS
from roundhouse_gateway.transcriptions import PATH as TRANSCRIPTIONS

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
_FORM: dict[str, Any] = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "file": {"type": "string", "format": "binary", "description": "The audio."},
        "model": {
            "type": "string",
            "default": "auto",
            "description": "An id, another name, an alias, or `auto`.",
        },
        "language": {"type": "string", "description": "ISO 639-1; a region is ignored in choosing."},
        "prompt": {"type": "string"},
        "response_format": {"type": "string", "enum": list(RESPONSE_FORMATS), "default": "json"},
        "temperature": {"type": "number", "minimum": 0, "maximum": 1},
        "timestamp_granularities[]": {
            "type": "array",
            "items": {"type": "string", "enum": list(GRANULARITIES)},
            "description": "Needs `response_format: verbose_json`.",
        },
        "streaming": {"type": "boolean", "description": "`auto` chooses a model that can stream."},
        "tier": {"type": "string", "enum": list(TIERS), "description": "`auto` prefers models of this tier."},
    },
}
_STATUSES = {
    "400": "The request is wrong; `param` names the field.",
    "408": "The upload stood still.",
    "413": "The body is too large; the message names the limit.",
    "415": "The body is not multipart/form-data.",
    "429": "Every endpoint of the engine is full.",
    "500": "The gateway or the engine met a fault of its own.",
    "502": "The engine failed.",
    "503": "Nothing fit to answer is running.",
    "504": "The engine did not answer in time.",
}


def describe(app: FastAPI) -> dict[str, Any]:
    """The whole description, made once."""
    if app.openapi_schema is None:
        schema = FastAPI.openapi(app)
        schema["components"] = {"schemas": {"Error": ERROR_SCHEMA}}
        for path in schema["paths"].values():
            for operation in path.values():
                operation["responses"] = _responses(operation["responses"])
        schema["paths"][TRANSCRIPTIONS] = {"post": _transcribe()}
        app.openapi_schema = schema
    return app.openapi_schema


def _responses(found: dict[str, Any]) -> dict[str, Any]:
    """Bad parameters are answered 400 in our shape, not 422 in FastAPI's."""
    kept = {status: response for status, response in found.items() if status != "422"}
    return {**kept, "default": _error("An error.")}


def _transcribe() -> dict[str, Any]:
    return {
        "tags": ["audio"],
        "summary": "Transcribe audio",
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}},
        "responses": {
            "200": {
                "description": "The transcript. `X-Roundhouse-Model` names the model that made it.",
                "content": {"application/json": {"schema": {"type": "object"}}, "text/plain": {}},
            },
            **{status: _error(text) for status, text in _STATUSES.items()},
        },
    }


def _error(text: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Error"}
    return {"description": text, "content": {"application/json": {"schema": schema}}}

"""The description at `/openapi.json`: FastAPI's own, with raw ASGI routes and the real shape of errors."""

from typing import Any

from fastapi import FastAPI

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


def describe(app: FastAPI) -> dict[str, Any]:
    """The whole description, made once."""
    if app.openapi_schema is None:
        schema = FastAPI.openapi(app)
        schema["components"] = {"schemas": {"Error": ERROR_SCHEMA}}
        for path in schema["paths"].values():
            for operation in path.values():
                operation["responses"] = _responses(operation["responses"])
        schema["paths"] |= speech_paths(_error)
        schema["paths"] |= text_paths({status: _error(text) for status, text in TEXT_STATUSES.items()})
        app.openapi_schema = schema
    return app.openapi_schema


def _responses(found: dict[str, Any]) -> dict[str, Any]:
    """Bad parameters are answered 400 in our shape, not 422 in FastAPI's."""
    kept = {status: response for status, response in found.items() if status != "422"}
    return {**kept, "default": _error("An error.")}


def _error(text: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Error"}
    return {"description": text, "content": {"application/json": {"schema": schema}}}

"""The description of the JSON routes for `/openapi.json`."""

from typing import Any

from roundhouse_gateway.hints import PARAMETERS
from roundhouse_gateway.text.request import ENCODINGS, MAX_INPUTS

Schema = dict[str, Any]

_MODEL: Schema = {
    "type": "string",
    "default": "auto",
    "description": "An id, another name, an alias, or `auto`.",
}
_STREAM: Schema = {"type": ["boolean", "null"], "description": "Server-sent events, a frame at a time."}
_FORMAT: Schema = {
    "type": ["object", "null"],
    "description": "`json_object` and `json_schema` need a model with StructuredOutputs.",
}
_BODIES: dict[str, tuple[str, list[str], Schema]] = {
    "/v1/chat/completions": (
        "Continue a conversation",
        ["messages"],
        {
            "messages": {"type": "array", "description": "Pictures (`image_url`) need a model with Vision."},
            "stream": _STREAM,
            "response_format": _FORMAT,
        },
    ),
    "/v1/completions": (
        "Continue a text",
        ["prompt"],
        {"prompt": {"type": ["string", "array"]}, "stream": _STREAM, "response_format": _FORMAT},
    ),
    "/v1/embeddings": (
        "Turn texts into vectors",
        ["input"],
        {
            "input": {
                "type": ["string", "array"],
                "minItems": 1,
                "description": f"A text, tokens, or up to {MAX_INPUTS} of either.",
            },
            "encoding_format": {"type": ["string", "null"], "enum": [*ENCODINGS, None], "default": "float"},
            "dimensions": {"type": ["integer", "null"], "minimum": 1},
        },
    ),
}
_DOCUMENTS: Schema = {
    "query": {"type": "string"},
    "documents": {
        "type": "array",
        "minItems": 1,
        "items": {"type": ["string", "object"]},
        "description": "Texts, or objects with a `text`.",
    },
    "top_n": {"type": ["integer", "null"], "minimum": 1},
    "return_documents": {"type": ["boolean", "null"]},
}
for _version in ("v1", "v2"):
    _BODIES[f"/{_version}/rerank"] = (
        f"Order documents by a query, as Cohere's {_version} has it",
        ["query", "documents"],
        _DOCUMENTS,
    )
STATUSES = {
    "400": "The request is wrong; `param` names the field.",
    "404": "No model has the name.",
    "408": "The upload stood still.",
    "413": "The body is too large; the message names the limit.",
    "415": "The Content-Type header says that the body is something else than JSON.",
    "429": "Every endpoint of the engine is full.",
    "500": "The gateway or the engine met a fault of its own.",
    "502": "The engine failed.",
    "503": "Nothing fit to answer is running.",
    "504": "The engine did not answer in time.",
}


def text_paths(errors: Schema) -> Schema:
    """By path; `errors` are the answers that are the same for all of them, by status."""
    return {path: {"post": _operation(path, errors)} for path in _BODIES}


def _operation(path: str, errors: Schema) -> Schema:
    summary, required, fields = _BODIES[path]
    schema = {
        "type": "object",
        "required": required,
        "properties": {"model": _MODEL, **fields},
        "additionalProperties": True,
    }
    answer: Schema = {"application/json": {"schema": {"type": "object"}}}
    if "stream" in fields:
        answer["text/event-stream"] = {}
    return {
        "tags": ["text"],
        "summary": summary,
        "parameters": PARAMETERS,
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {
            "200": {
                "description": "The engine's answer. `X-Roundhouse-Model` names the model that gave it.",
                "content": answer,
            },
            **errors,
        },
    }

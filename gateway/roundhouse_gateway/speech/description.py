"""The routes of batch speech as `/openapi.json` describes them."""

from collections.abc import Callable
from typing import Any, Final

from roundhouse_gateway.error_shapes import SPEECH_TO_TEXT
from roundhouse_gateway.hints import PARAMETERS, TIERS
from roundhouse_gateway.speech import elevenlabs_request as elevenlabs
from roundhouse_gateway.speech.audio_api import TRANSCRIPTIONS, TRANSLATIONS
from roundhouse_gateway.transcription_request import GRANULARITIES, RESPONSE_FORMATS

ErrorAnswer = Callable[[str], dict[str, Any]]

_STATUSES: Final = {
    "400": "The request is wrong, or asks for what the model cannot do; `param` names the field.",
    "408": "The upload stood still.",
    "413": "The body is too large; the message names the limit.",
    "415": "The body is not multipart/form-data.",
    "429": "Every endpoint of the engine is full.",
    "500": "The gateway or the engine met a fault of its own.",
    "502": "The engine failed.",
    "503": "Nothing fit to answer is running.",
    "504": "The engine did not answer in time.",
}
_SHARED: Final[dict[str, Any]] = {
    "file": {"type": "string", "format": "binary", "description": "The audio."},
    "model": {
        "type": "string",
        "default": "auto",
        "description": "An id, another name, an alias, or `auto`.",
    },
    "language": {"type": "string", "description": "ISO 639-1; a region is ignored in choosing."},
    "prompt": {"type": "string"},
    "temperature": {"type": "number", "minimum": 0, "maximum": 1},
    "streaming": {"type": "boolean", "description": "`auto` chooses a model that can stream."},
    "tier": {"type": "string", "enum": list(TIERS), "description": "`auto` prefers models of this tier."},
}
_TRANSCRIPT_ONLY: Final[dict[str, Any]] = {
    "response_format": {"type": "string", "enum": list(RESPONSE_FORMATS), "default": "json"},
    "timestamp_granularities[]": {
        "type": "array",
        "items": {"type": "string", "enum": list(GRANULARITIES)},
        "description": "Needs `response_format: verbose_json`.",
    },
    "stream": {"type": "boolean", "description": "Server-sent events, with `json`, `text`, `diarized_json`."},
    "include[]": {"type": "array", "items": {"type": "string", "enum": ["logprobs"]}},
    "keywords[]": {"type": "array", "items": {"type": "string"}},
}
_TRANSLATED: Final = [each for each in RESPONSE_FORMATS if each != "diarized_json"]
_TRANSLATION_ONLY: Final[dict[str, Any]] = {
    "response_format": {"type": "string", "enum": _TRANSLATED, "default": "json"},
}


_MORE: Final = {
    "401": "The API key is missing or wrong.",
    "403": "The API key may not do this.",
    "508": "The request has come through Roundhouse so often that it goes in circles.",
}
_ELEVENLABS: Final[dict[str, Any]] = {
    "file": {"type": "string", "format": "binary", "description": "The audio."},
    "model_id": {"type": "string", "description": "Any: it stands for `auto`."},
    "timestamps_granularity": {"type": "string", "enum": list(elevenlabs.GRANULARITIES), "default": "word"},
    "file_format": {"type": "string", "enum": list(elevenlabs.FILE_FORMATS), "default": "other"},
    "diarize": {"type": "boolean", "default": False},
    "temperature": {"type": "number", "minimum": 0, "maximum": 1},
    "seed": {"type": "integer", "minimum": 0},
    "keyterms": {"type": "array", "items": {"type": "string"}},
    "additional_formats": {"type": "string", "description": "A JSON list of `srt` and `txt` with options."},
}


def speech_paths(error: ErrorAnswer) -> dict[str, Any]:
    """The paths and what can be asked there; `error` describes an answer that is one."""
    transcript = {**_SHARED, **_TRANSCRIPT_ONLY}
    translation = {**_SHARED, **_TRANSLATION_ONLY}
    return {
        TRANSCRIPTIONS.path: {
            "post": _operation("Transcribe audio", transcript, error, "text/event-stream"),
        },
        TRANSLATIONS.path: {"post": _operation("Translate speech into English", translation, error)},
        SPEECH_TO_TEXT: {"post": _speech_to_text()},
    }


def _speech_to_text() -> dict[str, Any]:
    """Errors in ElevenLabs' shape: `detail` is an object, or for 422 a list."""
    known = (*elevenlabs.HONOURED, *elevenlabs.HINTS, *elevenlabs.REFUSED)
    form = {name: _ELEVENLABS.get(name, {"type": "string"}) for name in known}
    operation = _operation("Transcribe audio, as ElevenLabs does", form, _elevenlabs_error)
    operation["responses"]["200"]["content"] = {"application/json": {"schema": {"type": "object"}}}
    for status, text in _MORE.items():
        operation["responses"][status] = _elevenlabs_error(text)
    operation["responses"]["422"] = _elevenlabs_error("A field cannot be read; the list names it.")
    return operation


def _elevenlabs_error(text: str) -> dict[str, Any]:
    detail = {"type": ["object", "array"]}
    schema = {"type": "object", "required": ["detail"], "properties": {"detail": detail}}
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def _operation(summary: str, form: dict[str, Any], error: ErrorAnswer, *streamed: str) -> dict[str, Any]:
    schema = {"type": "object", "required": ["file"], "properties": form}
    plain: dict[str, Any] = {kind: {} for kind in ("text/plain", "text/vtt", *streamed)}
    return {
        "tags": ["audio"],
        "summary": summary,
        "parameters": PARAMETERS,
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}},
        "responses": {
            "200": {
                "description": "The text. `X-Roundhouse-Model` names the model that made it.",
                "content": {"application/json": {"schema": {"type": "object"}}, **plain},
            },
            **{status: error(text) for status, text in _STATUSES.items()},
        },
    }

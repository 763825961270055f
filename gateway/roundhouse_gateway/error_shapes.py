"""In which shape an error is told: OpenAI's, but where a route speaks to another's clients."""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from roundhouse_gateway.errors import GatewayError
from roundhouse_gateway.speech import elevenlabs_errors

SPEECH_TO_TEXT: Final = "/v1/speech-to-text"
SINGLE_USE_TOKENS: Final = "/v1/single-use-token/realtime_scribe"
RERANK_V1: Final = "/v1/rerank"
RERANK_V2: Final = "/v2/rerank"


def _cohere(error: GatewayError, _request_id: str) -> bytes:
    """OpenAI's, with the message where Cohere's clients look for it too."""
    body = msgspec.json.decode(error.body(), type=dict[str, Any])
    return msgspec.json.encode({"message": body["error"]["message"], **body})


_SHAPES: Final[dict[str, Callable[[GatewayError, str], bytes]]] = {
    SPEECH_TO_TEXT: elevenlabs_errors.body_of,
    SINGLE_USE_TOKENS: elevenlabs_errors.body_of,
    RERANK_V1: _cohere,
    RERANK_V2: _cohere,
}
"""By path. A key may be refused before any route is reached, so the routes cannot do this themselves."""


def body_of(error: GatewayError, path: str, request_id: str) -> bytes:
    shape = _SHAPES.get(path)
    return error.body() if shape is None else shape(error, request_id)

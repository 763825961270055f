"""In which shape an error is told: OpenAI's, but where a route speaks to another's clients."""

from collections.abc import Callable
from typing import Final

from roundhouse_gateway.errors import GatewayError
from roundhouse_gateway.speech import elevenlabs_errors

SPEECH_TO_TEXT: Final = "/v1/speech-to-text"
_SHAPES: Final[dict[str, Callable[[GatewayError, str], bytes]]] = {SPEECH_TO_TEXT: elevenlabs_errors.body_of}
"""By path. A key may be refused before any route is reached, so the routes cannot do this themselves."""


def body_of(error: GatewayError, path: str, request_id: str) -> bytes:
    shape = _SHAPES.get(path)
    return error.body() if shape is None else shape(error, request_id)

"""What a JSON request asks for: read from its bytes, checked, as one value.

Only the fields that steer something here are looked at; every other one is the engine's business and passes.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn, TypeVar

import msgspec

from roundhouse_api.enums import Feature, RouteName, Stage
from roundhouse_api.selection import Needs
from roundhouse_gateway.errors import InvalidRequestError, MissingFieldError, UnsupportedValueError
from roundhouse_gateway.json_words import wrong_in
from roundhouse_gateway.text.errors import MalformedJsonError, TooManyItemsError
from roundhouse_gateway.transcription_request import MAX_MODEL_NAME

MAX_INPUTS: Final = 2048
"""As OpenAI has it for embeddings."""
MAX_DOCUMENTS: Final = 10_000
ENCODINGS: Final = ("float", "base64")
_ANYTHING: Final = msgspec.Raw(b"")
_TEXT, _LIST = b'"['
_TEXT_OR_LIST: Final = (_TEXT, _LIST)
_NOTHING: Final = (0, ord("n"))
"""Not sent, or `null`."""

S = TypeVar("S", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Gate:
    """A feature that the model must have because the field `param` asks for it."""

    feature: Feature
    param: str


class TextRequest(msgspec.Struct, frozen=True):
    """`model` is None where none was given or an empty one; `items` is what a request may hold many of."""

    model: str | None
    streams: bool = False
    gates: tuple[Gate, ...] = ()
    opening: memoryview = memoryview(b"")
    """The conversation, encoded, by whose beginning replicas may be told apart."""
    items: int = 1
    encoding: str = "float"
    dimensions: int | None = None
    top_n: int | None = None
    return_documents: bool | None = None
    documents: Sequence[msgspec.Raw] = ()


class _Generation(msgspec.Struct):
    """Of chat and completions. `messages` and `prompt` are only passed on."""

    model: str | None = None
    stream: bool | None = None
    messages: msgspec.Raw = _ANYTHING
    prompt: msgspec.Raw = _ANYTHING
    response_format: msgspec.Raw = _ANYTHING


class _Embedding(msgspec.Struct):
    model: str | None = None
    input: msgspec.Raw = _ANYTHING
    encoding_format: str | None = None
    dimensions: int | None = None


class _Rerank(msgspec.Struct):
    model: str | None = None
    query: msgspec.Raw = _ANYTHING
    documents: msgspec.Raw = _ANYTHING
    top_n: int | None = None
    return_documents: bool | None = None


class _Format(msgspec.Struct):
    type: str | None = None


_GENERATION: Final = msgspec.json.Decoder(_Generation)
_EMBEDDING: Final = msgspec.json.Decoder(_Embedding)
_RERANK: Final = msgspec.json.Decoder(_Rerank)
_ITEMS: Final = msgspec.json.Decoder(list[msgspec.Raw])
_FORMAT: Final = msgspec.json.Decoder(_Format)


def read_chat(body: bytes) -> TextRequest:
    found = _decoded(_GENERATION, body)
    opening = memoryview(found.messages)
    if not opening or opening[0] != _LIST:
        _refuse(found.messages, "messages", "a list of messages")
    gates = _structured(found.response_format)
    if body.find(b"image_url") >= 0 and _shows_pictures(found.messages):
        gates = (*gates, Gate(Feature.VISION, "messages"))
    return TextRequest(_model(found.model), bool(found.stream), gates, opening)


def read_completion(body: bytes) -> TextRequest:
    found = _decoded(_GENERATION, body)
    if _first(found.prompt) not in _TEXT_OR_LIST:
        _refuse(found.prompt, "prompt", "a text or a list")
    gates = _structured(found.response_format)
    return TextRequest(_model(found.model), bool(found.stream), gates, memoryview(found.prompt))


def read_embedding(body: bytes) -> TextRequest:
    found = _decoded(_EMBEDDING, body)
    encoding = found.encoding_format or "float"
    if encoding not in ENCODINGS:
        raise UnsupportedValueError(
            f"encoding_format {encoding!r} is not supported. Use 'float' or 'base64' instead.",
            param="encoding_format",
        )
    if found.dimensions is not None and found.dimensions < 1:
        raise InvalidRequestError("`dimensions` must be at least 1.", param="dimensions")
    items = _count_inputs(found.input)
    return TextRequest(_model(found.model), items=items, encoding=encoding, dimensions=found.dimensions)


def read_rerank(body: bytes) -> TextRequest:
    found = _decoded(_RERANK, body)
    if _first(found.query) != _TEXT:
        _refuse(found.query, "query", "a text")
    if _first(found.documents) != _LIST:
        _refuse(found.documents, "documents", "a list of texts")
    each = _ITEMS.decode(found.documents)
    if not each:
        raise InvalidRequestError("`documents` is empty; there is nothing to rank.", param="documents")
    if len(each) > MAX_DOCUMENTS:
        raise TooManyItemsError("documents", len(each), MAX_DOCUMENTS)
    if found.top_n is not None and found.top_n < 1:
        raise InvalidRequestError("`top_n` must be at least 1.", param="top_n")
    return TextRequest(
        _model(found.model),
        items=len(each),
        top_n=found.top_n,
        return_documents=found.return_documents,
        documents=each,
    )


READERS: Final[dict[RouteName, Callable[[bytes], TextRequest]]] = {
    RouteName.CHAT: read_chat,
    RouteName.COMPLETIONS: read_completion,
    RouteName.EMBEDDINGS: read_embedding,
    RouteName.RERANK: read_rerank,
}
STAGES: Final = {
    RouteName.CHAT: Stage.CHAT,
    RouteName.COMPLETIONS: Stage.CHAT,
    RouteName.EMBEDDINGS: Stage.EMBED,
    RouteName.RERANK: Stage.RERANK,
}
PLAIN_NEEDS: Final = {route: Needs(stage) for route, stage in STAGES.items()}

_TRUNCATED: Final = "Input data was truncated"
_LONE_SURROGATE: Final = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])")
"""The first half without its second."""


def needs_of(route: RouteName, request: TextRequest) -> Needs:
    """What the model must be and have."""
    if not request.gates:
        return PLAIN_NEEDS[route]
    return Needs(STAGES[route], features=frozenset(gate.feature for gate in request.gates))


def _decoded(decoder: msgspec.json.Decoder[S], body: bytes) -> S:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        param, message = wrong_in(error)
        if not param:
            raise MalformedJsonError(f"{message}.") from error
        raise InvalidRequestError(f"{message}.", param=param) from error
    except msgspec.DecodeError as error:
        raise MalformedJsonError(_what_is_wrong(body, str(error))) from error
    except RecursionError as error:
        raise MalformedJsonError("it is nested too deep.") from error


def _first(encoded: msgspec.Raw) -> int:
    """By its first character a value tells what it is; 0 where the field was not sent."""
    view = memoryview(encoded)
    return view[0] if view else 0


def _is_absent(encoded: msgspec.Raw) -> bool:
    return encoded is _ANYTHING or _first(encoded) in _NOTHING


def _refuse(value: msgspec.Raw, name: str, wanted: str) -> NoReturn:
    if _is_absent(value):
        raise MissingFieldError(f"`{name}` is missing; send {wanted}.", param=name)
    raise InvalidRequestError(f"`{name}` must be {wanted}.", param=name)


def _model(name: str | None) -> str | None:
    if name is not None and (len(name) > MAX_MODEL_NAME or not name.isprintable()):
        raise InvalidRequestError(
            f"`model` must be at most {MAX_MODEL_NAME} printable characters.", param="model"
        )
    return name or None


def _structured(response_format: msgspec.Raw) -> tuple[Gate, ...]:
    """Whether the answer's form is prescribed."""
    if _is_absent(response_format):
        return ()
    try:
        kind = _FORMAT.decode(response_format).type
    except msgspec.DecodeError as error:
        raise InvalidRequestError(
            "`response_format` must be an object with a `type`.", param="response_format"
        ) from error
    return () if kind in ("text", None) else (Gate(Feature.STRUCTURED_OUTPUTS, "response_format"),)


def decoded_value(encoded: msgspec.Raw, name: str) -> Any:  # noqa: ANN401  # whatever the client sent
    """All of a field that is looked into; raises what the client is told where it cannot be read."""
    try:
        return msgspec.json.decode(encoded)
    except (msgspec.DecodeError, RecursionError) as error:
        message, _, _ = str(error).partition(" - at ")
        raise InvalidRequestError(f"`{name}` cannot be read: {message}.", param=name) from error


def _shows_pictures(messages: msgspec.Raw) -> bool:
    decoded = decoded_value(messages, "messages")
    return any(
        isinstance(part, dict) and part.get("type") == "image_url"
        for message in decoded
        if isinstance(message, dict) and isinstance(message.get("content"), list)
        for part in message["content"]
    )


def _count_inputs(encoded: msgspec.Raw) -> int:
    """Texts or lists of tokens; one list of tokens is one input."""
    if _first(encoded) == _TEXT:
        return 1
    if _first(encoded) != _LIST:
        _refuse(encoded, "input", "a text, or a list of texts or of tokens")
    each = _ITEMS.decode(encoded)
    if not each:
        raise InvalidRequestError("`input` is empty; there is nothing to embed.", param="input")
    if _first(each[0]) not in _TEXT_OR_LIST:
        return 1
    if len(each) > MAX_INPUTS:
        raise TooManyItemsError("input", len(each), MAX_INPUTS)
    return len(each)


def _what_is_wrong(body: bytes, told: str) -> str:
    """The parser calls truncated also what is empty, and what has half of a character."""
    if not body.strip():
        return "it is empty."
    if told == _TRUNCATED and _LONE_SURROGATE.search(body):
        return "it has half of a surrogate pair, such as `\\ud800` alone."
    return f"{told}."

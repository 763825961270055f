"""`POST /v1/embeddings`: vectors of texts, computed together with those of other requests."""

import base64
import json
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from typing_extensions import override

from roundhouse_engine.batching import Outcome
from roundhouse_engine.door import Door
from roundhouse_engine.errors import EngineError, invalid
from roundhouse_engine.json_body import Fields, is_tokens
from roundhouse_engine.lease import Lease
from roundhouse_engine.metrics import Metrics
from roundhouse_engine.outcomes import computed, usage
from roundhouse_engine.settings import Settings
from roundhouse_engine.text import Embedding, Text
from roundhouse_engine.text_events import Embedded, TextAsk, TextWork
from roundhouse_engine.text_route import Reply, TextRoute

MOST_TEXTS: Final = 10_000
_MOST_DIMENSIONS: Final = 1 << 16
_FORMATS: Final = ("float", "base64")


@dataclass(frozen=True, slots=True)
class EmbeddingAsk:
    model: str
    texts: tuple[Text, ...]
    dimensions: int | None
    base64: bool


def read_embedding(fields: Fields, handler: type[Embedding], served: tuple[str, ...]) -> EmbeddingAsk:
    model = fields.model(served)
    encoding = fields.choice("encoding_format", _FORMATS)
    dimensions = fields.integer("dimensions", 1, _MOST_DIMENSIONS)
    if dimensions is not None and not handler.shortened:
        raise invalid(
            f"The vectors of {model!r} cannot be shortened; leave out dimensions.",
            param="dimensions",
            code="unsupported_value",
        )
    return EmbeddingAsk(model, _texts(fields.values.get("input"), handler), dimensions, encoding == "base64")


def _texts(told: Any, handler: type[Embedding]) -> tuple[Text, ...]:  # noqa: ANN401 - any JSON
    if isinstance(told, str) or (isinstance(told, list) and told and _is_number(told[0])):
        told = [told]
    if not isinstance(told, list) or not told:
        raise _wrong("input must be a text, or a list of texts, and not empty.")
    if len(told) > MOST_TEXTS:
        raise _wrong(f"input must be at most {MOST_TEXTS} texts, not {len(told)}. Send several requests.")
    return tuple(
        _text(f"input[{at}]" if len(told) > 1 else "input", each, handler) for at, each in enumerate(told)
    )


def _text(where: str, told: Any, handler: type[Embedding]) -> Text:  # noqa: ANN401 - any JSON
    if isinstance(told, str):
        if not told:
            raise _wrong(f"{where} is an empty text, which has no meaning to embed.")
        return told
    if not is_tokens(told):
        raise _wrong(f"{where} must be a text, or the ids of its tokens.")
    if not handler.token_ids:
        raise _wrong(f"{where} is ids of tokens: send the text itself, this engine has a tokenizer.")
    return tuple(told)


def _is_number(value: object) -> bool:
    return type(value) is int


def _wrong(message: str) -> EngineError:
    return invalid(message, param="input")


class Embeddings(TextRoute[EmbeddingAsk]):
    def __init__(self, handler: type[Embedding], settings: Settings, door: Door, metrics: Metrics) -> None:
        super().__init__(settings, door, metrics)
        self._handler = handler

    @override
    def read(self, fields: Fields, served: tuple[str, ...]) -> EmbeddingAsk:
        return read_embedding(fields, self._handler, served)

    @override
    async def compute(self, lease: Lease, ask: EmbeddingAsk, reply: Reply) -> Iterable[bytes]:
        outcomes = await lease.compute_together(TextAsk(ask.model, TextWork.EMBED), ask.texts, ask.dimensions)
        return _answer(ask, reply.model, computed(outcomes, "input"))


def _answer(ask: EmbeddingAsk, model: str, outcomes: list[Outcome]) -> Iterator[bytes]:
    """Item by item: ten thousand vectors take longer to write than other requests should wait."""
    yield b'{"object":"list","data":['
    for index, outcome in enumerate(outcomes):
        assert isinstance(outcome, Embedded)  # noqa: S101 - `computed` raised for the rest
        vector = outcome.vector if ask.base64 else _numbers(outcome.vector)
        item = json.dumps({"object": "embedding", "index": index, "embedding": vector})
        yield (b"," if index else b"") + item.encode()
    yield f'],"model":{json.dumps(model)},"usage":{json.dumps(usage(outcomes))}}}'.encode()


def _numbers(vector: str) -> list[float]:
    return array("f", base64.b64decode(vector)).tolist()

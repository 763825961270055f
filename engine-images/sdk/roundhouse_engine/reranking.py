"""`POST /v1/rerank` and `/v2/rerank`: which documents answer a query best.

The answer has what Cohere's clients read and what Jina's do.
"""

import json
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from typing_extensions import override

from roundhouse_engine.batching import Outcome
from roundhouse_engine.errors import EngineError, invalid
from roundhouse_engine.json_body import Fields
from roundhouse_engine.lease import Lease
from roundhouse_engine.outcomes import computed, usage
from roundhouse_engine.text_events import Ranked, TextAsk, TextWork
from roundhouse_engine.text_route import Reply, TextRoute

MOST_DOCUMENTS: Final = 10_000
_DOCUMENTS_A_UNIT: Final = 100
"""Cohere's unit of billing, which its clients read."""
_RESULTS_A_PART: Final = 50


@dataclass(frozen=True, slots=True)
class RerankAsk:
    model: str
    query: str
    documents: tuple[str, ...]
    top_n: int
    return_documents: bool
    tokens: int | None
    """What a longer document is cut to; it is cut to what the model takes in any case, as Cohere's are."""


def read_rerank(fields: Fields, served: tuple[str, ...]) -> RerankAsk:
    model = fields.model(served)
    query = fields.text("query")
    if not query:
        raise invalid("query must be a text, and not empty.", param="query")
    fields.refuse(
        "rank_fields", [], ["text"], why="Documents are ranked by their text; leave out rank_fields."
    )
    documents = _documents(fields.items("documents"))
    top_n = fields.integer("top_n", 1, 1 << 31) or len(documents)
    return RerankAsk(
        model,
        query,
        documents,
        min(top_n, len(documents)),
        fields.flag("return_documents"),
        fields.integer("max_tokens_per_doc", 1, 1 << 31),
    )


def _documents(told: list[Any]) -> tuple[str, ...]:
    if not told:
        raise _wrong("documents is empty: send at least one.")
    if len(told) > MOST_DOCUMENTS:
        raise _wrong(f"documents must be at most {MOST_DOCUMENTS}, not {len(told)}. Send several requests.")
    return tuple(_document(at, each) for at, each in enumerate(told))


def _document(at: int, told: object) -> str:
    text = told.get("text") if isinstance(told, dict) else told
    if not isinstance(text, str) or not text:
        raise _wrong(f"documents[{at}] must be a text, or an object with text, and not empty.")
    return text


def _wrong(message: str) -> EngineError:
    return invalid(message, param="documents")


class Reranking(TextRoute[RerankAsk]):
    @override
    def read(self, fields: Fields, served: tuple[str, ...]) -> RerankAsk:
        return read_rerank(fields, served)

    @override
    async def compute(self, lease: Lease, ask: RerankAsk, reply: Reply) -> Iterable[bytes]:
        pairs = [(ask.query, document) for document in ask.documents]
        outcomes = await lease.compute_together(TextAsk(ask.model, TextWork.SCORE), pairs, ask.tokens)
        return _answer(ask, reply.model, computed(outcomes, "documents"))


def _answer(ask: RerankAsk, model: str, outcomes: list[Outcome]) -> Iterator[bytes]:
    """Some results at a time: other requests are waiting while ten thousand documents are written."""
    scored = [(outcome.score, index) for index, outcome in enumerate(outcomes) if isinstance(outcome, Ranked)]
    best = sorted(scored, key=lambda one: (-one[0], one[1]))[: ask.top_n]
    units = -(-len(outcomes) // _DOCUMENTS_A_UNIT)
    head = {"id": f"rerank-{secrets.token_hex(12)}", "model": model}
    tail = {
        "usage": usage(outcomes),
        "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": units}},
    }
    yield json.dumps(head)[:-1].encode() + b',"results":['
    for start in range(0, len(best), _RESULTS_A_PART):
        results = [_result(ask, index, score) for score, index in best[start : start + _RESULTS_A_PART]]
        part = json.dumps(results, ensure_ascii=False)[1:-1].encode()
        yield (b"," if start else b"") + part
    yield b"]," + json.dumps(tail)[1:].encode()


def _result(ask: RerankAsk, index: int, score: float) -> dict[str, Any]:
    document = {"document": {"text": ask.documents[index]}} if ask.return_documents else {}
    return {"index": index, "relevance_score": score, **document}

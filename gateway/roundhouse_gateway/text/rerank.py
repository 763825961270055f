"""Rerank between the shapes of clients (Cohere v1 and v2, Jina) and those of engines.

Clients get one answer that satisfies all three: `results` of index and `relevance_score`, the best first.
Most engines speak Jina's shape, which is Cohere's but for trifles; text-embeddings-inference has its own.
Ten thousand documents are a tenth of a second of work: it is done document by document, and others have their
turn between.
"""

from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import Any, Final

import msgspec

from roundhouse_gateway.error_shapes import RERANK_V1, RERANK_V2
from roundhouse_gateway.errors import InvalidRequestError
from roundhouse_gateway.snapshot import Entry
from roundhouse_gateway.text.dialects import is_tei
from roundhouse_gateway.text.request import TextRequest, decoded_value
from roundhouse_gateway.text.rewrite import rewrite, with_members
from roundhouse_gateway.text.slices import in_slices

V1: Final = RERANK_V1
V2: Final = RERANK_V2

_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TEI_KEPT: Final = ("truncate", "truncation_direction", "raw_scores")


class _Ranked(msgspec.Struct, gc=False):
    """One result, of whichever engine: `score` is text-embeddings-inference's word."""

    index: int
    relevance_score: float | None = None
    score: float | None = None
    document: msgspec.Raw = msgspec.Raw(b"")
    text: msgspec.Raw = msgspec.Raw(b"")


class _Answer(msgspec.Struct):
    results: list[msgspec.Raw]
    id: str | None = None
    usage: msgspec.Raw = msgspec.Raw(b"")
    meta: dict[str, msgspec.Raw] | None = None


_ANSWER: Final = msgspec.json.Decoder(_Answer)
_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])
_ONE: Final = msgspec.json.Decoder(_Ranked)
_NOTHING: Final = (b"", b"null")
_QUOTE: Final = ord('"')
_SCORE: Final = attrgetter("relevance_score")


async def body_for(entry: Entry, body: bytes, request: TextRequest) -> bytes:
    """What the engine is asked: the client's own bytes where they are what it understands."""
    defaults = entry.record.text.defaults
    objects = any(memoryview(each)[0] != _QUOTE for each in request.documents)
    if not objects and not is_tei(entry):
        return rewrite(body, request.model, entry.model.engine_model, defaults)
    members = with_members(_MEMBERS.decode(body), msgspec.json.encode(entry.model.engine_model), defaults)
    texts = await in_slices(map(_text_of, request.documents))
    if not is_tei(entry):
        return msgspec.json.encode({**members, "documents": texts})
    kept = {name: members[name] for name in _TEI_KEPT if name in members}
    return msgspec.json.encode({"query": members["query"], "texts": texts, "return_text": False, **kept})


async def answer_for(path: str, model: str, request_id: str, body: bytes, request: TextRequest) -> bytes:
    """What the client is told.

    `msgspec.DecodeError` where the engine's answer is none, `IndexError` where it ranks what was not sent.
    """
    found = _Answer(_LIST.decode(body)) if body.lstrip()[:1] == b"[" else _ANSWER.decode(body)
    ranked = await in_slices(_ranked(found.results))
    ranked.sort(key=_SCORE, reverse=True)
    results = await in_slices(_results(ranked[: request.top_n], path, request))
    version = path.split("/")[1].removeprefix("v")
    answer: dict[str, Any] = {"id": found.id or request_id, "model": model, "results": results}
    if bytes(found.usage) not in _NOTHING:
        answer["usage"] = found.usage
    answer["meta"] = {**(found.meta or {}), "api_version": {"version": version}}
    return msgspec.json.encode(answer)


def _ranked(results: Sequence[msgspec.Raw]) -> Iterator[_Ranked]:
    """With the score where Jina has it."""
    for each in map(_ONE.decode, results):
        if each.relevance_score is None:
            each.relevance_score = each.score
        if each.relevance_score is None:
            raise msgspec.DecodeError("a result has no score")
        yield each


def _results(ranked: Sequence[_Ranked], path: str, request: TextRequest) -> Iterator[msgspec.Raw]:
    """With documents where that was asked for; Jina's engines give them unasked, and on `/v1` they stay."""
    for each in ranked:
        if not 0 <= each.index < len(request.documents):
            raise IndexError(f"index {each.index} of {len(request.documents)} documents")
        result: dict[str, Any] = {"index": each.index, "relevance_score": each.relevance_score}
        given = each.text if bytes(each.document) in _NOTHING else each.document
        asked = request.return_documents
        if asked or (asked is None and path == V1 and bytes(given) not in _NOTHING):
            result["document"] = {"text": _text_of(request.documents[each.index])}
        yield msgspec.Raw(msgspec.json.encode(result))


def _text_of(document: msgspec.Raw) -> str:
    match decoded_value(document, "documents"):
        case str(text):
            return text
        case {"text": str(text)}:
            return text
        case _:
            raise InvalidRequestError(
                "`documents` must hold texts, or objects with a `text`.", param="documents"
            )

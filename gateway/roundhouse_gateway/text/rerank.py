"""Rerank between the shapes of clients (Cohere v1 and v2, Jina) and those of engines.

Clients get one answer that satisfies all three: `results` of index and `relevance_score`, the best first.
Most engines speak Jina's shape, which is Cohere's but for trifles; text-embeddings-inference has its own.
"""

from typing import Any, Final

import msgspec

from roundhouse_gateway.errors import InvalidRequestError
from roundhouse_gateway.snapshot import Entry
from roundhouse_gateway.text.dialects import is_tei
from roundhouse_gateway.text.request import TextRequest, decoded_value
from roundhouse_gateway.text.rewrite import rewrite, with_members

V1: Final = "/v1/rerank"
V2: Final = "/v2/rerank"

_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TEI_KEPT: Final = ("truncate", "truncation_direction", "raw_scores")


class _Ranked(msgspec.Struct):
    """One result, of whichever engine: `score` is text-embeddings-inference's word."""

    index: int
    relevance_score: float | None = None
    score: float | None = None
    document: Any = None
    text: str | None = None


class _Answer(msgspec.Struct):
    results: list[_Ranked]
    id: str | None = None
    usage: msgspec.Raw = msgspec.Raw(b"")
    meta: dict[str, msgspec.Raw] | None = None


_ANSWER: Final = msgspec.json.Decoder(_Answer)
_LIST: Final = msgspec.json.Decoder(list[_Ranked])


def body_for(entry: Entry, body: bytes, request: TextRequest) -> bytes:
    """What the engine is asked: the client's own bytes where they are what it understands."""
    defaults = entry.record.text.defaults
    objects = any(bytes(each)[:1] != b'"' for each in request.documents)
    if not objects and not is_tei(entry):
        return rewrite(body, request.model, entry.model.engine_model, defaults)
    members = with_members(_MEMBERS.decode(body), msgspec.json.encode(entry.model.engine_model), defaults)
    texts = [_text_of(each) for each in request.documents]
    if not is_tei(entry):
        return msgspec.json.encode({**members, "documents": texts})
    kept = {name: members[name] for name in _TEI_KEPT if name in members}
    return msgspec.json.encode({"query": members["query"], "texts": texts, "return_text": False, **kept})


def answer_for(path: str, model: str, request_id: str, body: bytes, request: TextRequest) -> bytes:
    """What the client is told.

    `msgspec.DecodeError` where the engine's answer is none, `IndexError` where it ranks what was not sent.
    """
    found = _Answer(_LIST.decode(body)) if body.lstrip()[:1] == b"[" else _ANSWER.decode(body)
    ranked = sorted(found.results, key=_score, reverse=True)[: request.top_n]
    version = path.split("/")[1].removeprefix("v")
    answer: dict[str, Any] = {
        "id": found.id or request_id,
        "model": model,
        "results": [_result(each, path, request) for each in ranked],
    }
    if bytes(found.usage) not in (b"", b"null"):
        answer["usage"] = found.usage
    answer["meta"] = {**(found.meta or {}), "api_version": {"version": version}}
    return msgspec.json.encode(answer)


def _score(each: _Ranked) -> float:
    score = each.score if each.relevance_score is None else each.relevance_score
    if score is None:
        raise msgspec.DecodeError("a result has no score")
    return score


def _result(each: _Ranked, path: str, request: TextRequest) -> dict[str, Any]:
    """With its document where that was asked for; Jina's engines give it unasked, and on `/v1` that stays."""
    if not 0 <= each.index < len(request.documents):
        raise IndexError(f"index {each.index} of {len(request.documents)} documents")
    result: dict[str, Any] = {"index": each.index, "relevance_score": _score(each)}
    given = each.text if each.document is None else each.document
    asked = request.return_documents
    if asked or (asked is None and path == V1 and given is not None):
        result["document"] = {"text": _text_of(request.documents[each.index])}
    return result


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

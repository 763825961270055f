"""Rerank by Cohere's official client, in both versions, over engines of either shape."""

from dataclasses import replace
from typing import Any

import cohere
import httpx
import pytest

from tests.conformance.gateway import text_engine as scripts
from tests.conformance.gateway.conftest import World
from tests.conformance.gateway.manifests import Variant
from tests.conformance.gateway.scripted_engine import Answer, answering
from tests.conformance.gateway.test_text import post
from tests.support.waiting import wait_until

QUERY = "the red house"
DOCUMENTS = ["a blue boat", "the red house", "that house"]
BEST = [1, 2, 0]
JINA = Variant("bge", stage="Rerank", languages=None)
TEI = Variant("bge", stage="Rerank", languages=None, dialect="TEI")


def address(world: World) -> str:
    return f"http://127.0.0.1:{world.gateway.port}"


def scores() -> list[float]:
    return [scripts.likeness(QUERY, DOCUMENTS[index]) for index in BEST]


@pytest.mark.req("S2-21")
@pytest.mark.parametrize(("variant", "answer"), [(JINA, scripts.rerank), (TEI, scripts.tei_rerank)])
def test_version_2(world: World, variant: Variant, answer: Answer) -> None:
    world.serve(variant).answer = answer
    with httpx.Client(timeout=60) as http:
        api = cohere.ClientV2(api_key="x", base_url=address(world), httpx_client=http)
        found = api.rerank(model="bge", query=QUERY, documents=DOCUMENTS)
        first = api.rerank(model="bge", query=QUERY, documents=DOCUMENTS, top_n=2)
    assert [each.index for each in found.results] == BEST
    assert [each.relevance_score for each in found.results] == pytest.approx(scores())
    assert found.meta is not None
    assert found.meta.api_version is not None
    assert found.meta.api_version.version == "2"
    assert [each.index for each in first.results] == BEST[:2]


@pytest.mark.parametrize(("variant", "answer"), [(JINA, scripts.rerank), (TEI, scripts.tei_rerank)])
def test_version_1_with_documents_that_are_objects(world: World, variant: Variant, answer: Answer) -> None:
    engine = world.serve(variant)
    engine.answer = answer
    documents: list[Any] = [{"text": text} for text in DOCUMENTS]
    with httpx.Client(timeout=60) as http:
        api = cohere.Client(api_key="x", base_url=address(world), httpx_client=http)
        found = api.rerank(model="bge", query=QUERY, documents=documents, top_n=1, return_documents=True)
    (best,) = found.results
    assert (best.index, best.document and best.document.text) == (1, DOCUMENTS[1])
    sent = engine.requests[0].json
    assert sent.get("documents") or sent.get("texts") == DOCUMENTS


@pytest.mark.parametrize("document", [b"1e999", b'{"text":1e999}', b'"\\ud800"', b'{"text":"x\xff"}', b"7"])
def test_a_document_that_cannot_be_read(world: World, document: bytes) -> None:
    world.serve(TEI).answer = scripts.tei_rerank
    reply = post(world, "/v2/rerank", b'{"model":"bge","query":"x","documents":["x",%b]}' % document)
    assert reply.status == 400
    assert reply.error["type"] == "invalid_request_error"


def test_jina_s_clients_have_theirs(world: World) -> None:
    engine = world.serve(JINA)
    engine.answer = scripts.rerank
    asked = {"model": "bge", "query": QUERY, "documents": DOCUMENTS, "top_n": 2}
    reply = post(world, "/v1/rerank", asked)
    assert engine.requests[0].json == {**asked, "model": "engine-bge"}
    body = reply.json
    assert body["model"] == "bge"
    assert body["usage"] == {"total_tokens": 12, "prompt_tokens": 12}
    assert body["results"][0]["document"] == {"text": DOCUMENTS[1]}
    without = post(world, "/v1/rerank", {**asked, "return_documents": False}).json
    assert all("document" not in each for each in without["results"])


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [({"prompt_tokens": 12, "total_tokens": 12}, 12), ({"total_tokens": 7}, 7), (None, 0)],
)
def test_its_tokens_are_counted_wherever_it_tells_them(world: World, usage: object, tokens: int) -> None:
    results = [{"index": index, "relevance_score": 0.5, "text": "x" * 9000} for index in range(3)]
    world.serve(JINA).answer = answering(200, {"usage": usage, "results": results})
    labels = {"model": JINA.id, "kind": "input"}
    before = world.gateway.metric("roundhouse_gateway_tokens_total", **labels)
    assert post(world, "/v2/rerank", {"model": "bge", "query": QUERY, "documents": DOCUMENTS}).status == 200
    wait_until(
        lambda: world.gateway.metric("roundhouse_gateway_tokens_total", **labels) == before + tokens,
        seconds=60,
        what="they are counted",
        every=0.02,
    )


@pytest.mark.parametrize(
    "said",
    [
        {"results": [{"index": 9, "relevance_score": 0.5}]},
        {"results": [{"index": 0}]},
        {"results": "none"},
        "no JSON",
    ],
)
def test_an_answer_that_is_none_is_the_engine_s_fault(world: World, said: object) -> None:
    world.serve(JINA).answer = answering(200, said)
    reply = post(world, "/v2/rerank", {"model": "bge", "query": QUERY, "documents": DOCUMENTS})
    assert (reply.status, reply.error["code"]) == (502, "engine_failed")


def test_cohere_s_clients_find_the_message_where_they_look_for_it(world: World) -> None:
    world.publish(replace(JINA, available="False", reason="Stopped", replicas=0))
    world.wait_for(JINA.id, "available")
    with httpx.Client(timeout=60) as http:
        api = cohere.ClientV2(api_key="x", base_url=address(world), httpx_client=http)
        for model, told in (("nobody", "nobody"), (JINA.id, "is not currently running")):
            with pytest.raises(cohere.core.ApiError) as refused:
                api.rerank(model=model, query=QUERY, documents=DOCUMENTS, request_options={"max_retries": 0})
            assert told in refused.value.body["message"]
            assert refused.value.body["error"]["message"] == refused.value.body["message"]


def test_documents_must_hold_texts(world: World) -> None:
    world.serve(JINA).answer = scripts.rerank
    reply = post(world, "/v2/rerank", {"model": "bge", "query": QUERY, "documents": [{"title": "x"}]})
    assert (reply.status, reply.error["param"]) == (400, "documents")

"""Embeddings and rankings against a real engine process, with OpenAI's and Cohere's own clients."""

import base64
import contextlib
import json
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cohere
import httpx
import numpy as np
import pytest

from tests.conformance.engine.running import ROOT, Answer, Engine, running
from tests.conformance.engine.text_handlers import LIMIT, WIDTH, vector
from tests.support.waiting import wait_until

VECTORS = ("-m", "tests.conformance.engine.text_handlers", "Vectors")
VECTORS_THREADED = ("-m", "tests.conformance.engine.text_handlers", "VectorsThreaded")
EMBEDDINGS = "/v1/embeddings"


@pytest.fixture(scope="module", params=[VECTORS, VECTORS_THREADED], ids=["process", "thread"])
def vectors(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with running(request.param, tmp_path_factory.mktemp("vectors")) as engine:
        engine.until_ready()
        yield engine


def post(engine: Engine, path: str = EMBEDDINGS, **fields: Any) -> Answer:
    return engine.request("POST", path, json.dumps({"model": "m"} | fields))


def embedded(engine: Engine, *texts: str) -> list[list[float]]:
    found = post(engine, input=list(texts))
    assert found.status == 200, found.body
    return [each["embedding"] for each in found.json["data"]]


@contextlib.contextmanager
def stuck(engine: Engine) -> Iterator[None]:
    """The engine computes a batch that takes until its client leaves."""
    with contextlib.closing(engine.connect()) as connection:
        connection.request("POST", EMBEDDINGS, json.dumps({"model": "m", "input": "wait"}))
        wait_until(lambda: engine.metric("slots_computing") == 1, seconds=30, what="it computes", every=0.02)
        yield


def test_what_is_computed_for_nobody_is_time_spent_too(vectors: Engine) -> None:
    before = vectors.metric("compute_seconds_total", model="m")
    with stuck(vectors):
        pass
    wait_until(
        lambda: vectors.metric("compute_seconds_total", model="m") > before,
        seconds=60,
        what="the time of who left is counted",
        every=0.02,
    )


@pytest.mark.req("S2-18")
def test_the_vectors_of_texts(vectors: Engine) -> None:
    with vectors.client as client:
        found = client.embeddings.create(model="m", input=["one two", "three"])
    assert [each.index for each in found.data] == [0, 1]
    assert np.allclose(
        [each.embedding for each in found.data], [vector("one two"), vector("three")], atol=1e-6
    )
    assert (found.usage.prompt_tokens, found.usage.total_tokens) == (3, 3)


def test_both_formats_are_the_same_numbers(vectors: Engine) -> None:
    plain = post(vectors, input="one").json["data"][0]["embedding"]
    packed = post(vectors, input="one", encoding_format="base64").json["data"][0]["embedding"]
    assert np.frombuffer(base64.b64decode(packed), "<f4").tolist() == plain
    assert len(plain) == WIDTH


def test_a_small_answer_comes_in_one_go_and_a_large_one_in_pieces(vectors: Engine) -> None:
    small, large = post(vectors, input="one"), post(vectors, input=["one"] * 5_000)
    assert int(small.headers["content-length"]) == len(small.body)
    assert len(large.body) > 100_000
    assert "content-length" not in large.headers


def test_shortened_vectors_are_of_length_one(vectors: Engine) -> None:
    short = np.array(post(vectors, input="one", dimensions=3).json["data"][0]["embedding"])
    assert short.shape == (3,)
    assert np.linalg.norm(short) == pytest.approx(1, abs=1e-5)
    long = post(vectors, input="one", dimensions=WIDTH + 1)
    assert (long.status, long.error["param"]) == (400, "dimensions")


def test_ids_of_tokens(vectors: Engine) -> None:
    with vectors.client as client:
        found = client.embeddings.create(model="m", input=[[1, 2], [3]], encoding_format="float")
    assert np.allclose(found.data[0].embedding, vector((1, 2)), atol=1e-6)
    assert found.usage.prompt_tokens == 3


def test_ten_thousand_texts(vectors: Engine) -> None:
    texts = [f"text {number}" for number in range(10_000)]
    found = post(vectors, input=texts, encoding_format="base64").json
    assert [each["index"] for each in found["data"]] == list(range(10_000))
    last = np.frombuffer(base64.b64decode(found["data"][-1]["embedding"]), "<f4")
    assert np.allclose(last, vector("text 9999"), atol=1e-6)
    assert found["usage"]["prompt_tokens"] == 20_000


@pytest.mark.parametrize(
    ("fields", "param", "told"),
    [
        ({"input": ""}, "input", "empty text"),
        ({"input": ["a", ""]}, "input", "input[1]"),
        ({"input": []}, "input", "not empty"),
        ({}, "input", "must be a text"),
        ({"input": {"a": 1}}, "input", "must be a text"),
        ({"input": ["a", 5]}, "input", "input[1]"),
        ({"input": [1.5]}, "input", "input"),
        ({"input": [1 << 31]}, "input", "ids of its tokens"),
        ({"input": ["a", [10**30]]}, "input", "input[1]"),
        ({"input": ["a"] * 10_001}, "input", "10000"),
        ({"input": ["a", "b " * (LIMIT + 1)]}, "input", "input[1]: The text is 501 tokens long"),
        ({"input": "a", "dimensions": 0}, "dimensions", "dimensions"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format", "float, base64"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_texts_that_cannot_be_embedded(vectors: Engine, fields: Any, param: str, told: str) -> None:
    found = post(vectors, **fields)
    assert (found.status, found.error["param"]) == (400, param)
    assert told in found.error["message"]


@pytest.mark.req("S2-21")
def test_the_best_documents_with_coheres_clients(vectors: Engine) -> None:
    documents = ["a bird", "the red house", "a house", "the red bird house"]
    with httpx.Client(timeout=60) as wire:
        new = cohere.ClientV2(api_key="none", base_url=vectors.url, httpx_client=wire)
        ranked = new.rerank(model="m", query="red bird", documents=documents, top_n=2)
        cut = new.rerank(model="m", query="red bird", documents=documents, max_tokens_per_doc=2)
        old = cohere.Client(api_key="none", base_url=vectors.url, httpx_client=wire)
        told: Any = [{"text": text} for text in documents]
        asked = old.rerank(model="m", query="red bird", documents=told, return_documents=True)
    assert [(each.index, each.relevance_score) for each in ranked.results] == [(3, 1.0), (0, 0.5)]
    assert [each.index for each in cut.results] == [0, 1, 3, 2], "who is red or a bird in two words"
    assert ranked.meta is not None
    assert ranked.meta.billed_units is not None
    assert ranked.meta.billed_units.search_units == 1
    assert [each.index for each in asked.results] == [3, 0, 1, 2]
    assert asked.results[0].document is not None
    assert asked.results[0].document.text == "the red bird house"


def test_jinas_shape(vectors: Engine) -> None:
    found = post(vectors, "/v1/rerank", query="red", documents=["a red one", "none"], return_documents=True)
    assert found.json["results"][0] == {
        "index": 0,
        "relevance_score": 1.0,
        "document": {"text": "a red one"},
    }
    assert found.json["usage"] == {"prompt_tokens": 6, "total_tokens": 6}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"query": "", "documents": ["a"]}, "query"),
        ({"documents": ["a"]}, "query"),
        ({"query": "a", "documents": []}, "documents"),
        ({"query": "a", "documents": ["a", ""]}, "documents"),
        ({"query": "a", "documents": [{"title": "a"}]}, "documents"),
        ({"query": "a", "documents": ["a"] * 10_001}, "documents"),
        ({"query": "a", "documents": ["a"], "top_n": 0}, "top_n"),
        ({"query": "a", "documents": ["a"], "max_tokens_per_doc": 0}, "max_tokens_per_doc"),
        ({"query": "a", "documents": ["a"], "rank_fields": ["title"]}, "rank_fields"),
        ({"query": "b " * LIMIT, "documents": ["a"]}, "query"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_rankings_that_cannot_be_made(vectors: Engine, fields: Any, param: str) -> None:
    found = post(vectors, "/v2/rerank", **fields)
    assert (found.status, found.error["param"]) == (400, param)


def test_what_comes_while_a_batch_computes_is_computed_together(vectors: Engine) -> None:
    """Sixteen requests in two batches, which one by one would be sixteen."""
    before = vectors.metric("batches_total")
    with ThreadPoolExecutor(17) as clients:
        with stuck(vectors):
            found = [clients.submit(embedded, vectors, f"text {number}") for number in range(16)]
            wait_until(lambda: vectors.in_use == 17, seconds=60, what="all wait", every=0.02)
        for number, one in enumerate(found):
            assert np.allclose(one.result(60)[0], vector(f"text {number}"), atol=1e-6)
    assert vectors.metric("batches_total") == before + 2


def test_a_small_request_rides_along_with_a_large_one(vectors: Engine) -> None:
    """The thousandth batch of another need not be waited for: everybody has a share of the next."""
    done: list[str] = []

    def ask(name: str, texts: list[str]) -> None:
        embedded(vectors, *texts)
        done.append(name)

    large = threading.Thread(target=ask, args=("large", [f"text {n}" for n in range(5000)]))
    small = threading.Thread(target=ask, args=("small", ["one"]))
    with stuck(vectors):
        large.start()
        wait_until(lambda: vectors.in_use == 2, seconds=60, what="the large one waits", every=0.02)
        small.start()
        wait_until(lambda: vectors.in_use == 3, seconds=60, what="both wait", every=0.02)
    small.join(60)
    large.join(60)
    assert done == ["small", "large"]


def test_one_that_leaves_stops_no_other(vectors: Engine) -> None:
    with ThreadPoolExecutor(1) as clients:
        with stuck(vectors):
            with contextlib.closing(vectors.connect()) as leaver:
                leaver.request("POST", EMBEDDINGS, json.dumps({"model": "m", "input": ["one", "two"]}))
                wait_until(lambda: vectors.in_use == 2, seconds=30, what="it waits", every=0.02)
                stays = clients.submit(embedded, vectors, "three")
                wait_until(lambda: vectors.in_use == 3, seconds=30, what="both wait", every=0.02)
                assert vectors.metric("requests_waiting") == 2
            wait_until(lambda: vectors.in_use == 2, seconds=30, what="one has left", every=0.02)
        assert len(stays.result(60)) == 1
    assert vectors.metric("restarts_total") == 0


def test_a_client_that_leaves_stops_the_batch(vectors: Engine) -> None:
    before = vectors.metric("cancel_seconds_count")
    with stuck(vectors):
        pass
    wait_until(lambda: vectors.metric("slots_computing") == 0, seconds=30, what="the slot is free")
    wait_until(lambda: vectors.metric("cancel_seconds_count") == before + 1, seconds=30, what="it is counted")


def test_of_many_texts_that_are_left_no_other_batch_begins(vectors: Engine) -> None:
    """Of 63 batches the first is computed when the client leaves."""
    before = vectors.metric("batches_total")
    with contextlib.closing(vectors.connect()) as connection:
        texts = ["wait", *(f"text {number}" for number in range(1999))]
        connection.request("POST", EMBEDDINGS, json.dumps({"model": "m", "input": texts}))
        wait_until(lambda: vectors.metric("slots_computing") == 1, seconds=60, what="it computes", every=0.02)
    wait_until(lambda: vectors.in_use == 0, seconds=60, what="the place is free", every=0.02)
    assert len(embedded(vectors, "one")) == 1
    assert vectors.metric("batches_total") == before + 2


def test_a_text_that_cannot_be_computed_costs_itself_alone(vectors: Engine) -> None:
    with ThreadPoolExecutor(2) as clients:
        with stuck(vectors):
            bad = clients.submit(post, vectors, input=["one", "spoil"])
            good = clients.submit(embedded, vectors, "two")
            wait_until(lambda: vectors.in_use == 3, seconds=30, what="both wait", every=0.02)
        assert len(good.result(60)) == 1
        told = bad.result(60)
    assert (told.status, told.error["code"]) == (400, "unspeakable")
    assert told.error["message"] == "input[1]: The text cannot be said."


def test_a_text_that_the_engine_fails_at_costs_its_request_alone(vectors: Engine) -> None:
    with ThreadPoolExecutor(2) as clients:
        with stuck(vectors):
            bad = clients.submit(post, vectors, input=["one", "raise"])
            good = clients.submit(embedded, vectors, "two")
            wait_until(lambda: vectors.in_use == 3, seconds=30, what="both wait", every=0.02)
        assert len(good.result(60)) == 1
        told = bad.result(60)
    assert (told.status, told.error["code"]) == (500, "engine_failure")
    assert told.error["message"] == "input[1]: The engine failed while it computed (RuntimeError)."


def test_a_text_that_memory_does_not_bear(vectors: Engine) -> None:
    found = post(vectors, input=["one", "huge"])
    assert (found.status, found.error["code"]) == (500, "out_of_memory")
    assert len(embedded(vectors, "one")) == 1


def test_where_memory_is_short_batches_are_halved_and_stay_so(tmp_path: Path) -> None:
    with running(VECTORS, tmp_path, TEST_BEARS="8", ROUNDHOUSE_CAPACITY="1") as engine:
        engine.until_ready()
        texts = [f"text {number}" for number in range(64)]
        assert np.allclose(embedded(engine, *texts), [vector(text) for text in texts], atol=1e-6)
        halved = engine.metric("batches_halved_total")
        assert halved == 3  # one call of 32, two of 16
        assert "memory is short" in engine.logged
        embedded(engine, *texts)
        assert engine.metric("batches_halved_total") == halved
        with stuck(engine):
            refused = post(engine, input="one")
        assert (refused.status, refused.headers["x-roundhouse-load"]) == (429, "1/1")


def test_a_drain_answers_what_waits(tmp_path: Path) -> None:
    with running(VECTORS, tmp_path) as engine:
        engine.until_ready()
        with ThreadPoolExecutor(4) as clients:
            with stuck(engine):
                found = [clients.submit(embedded, engine, f"text {number}") for number in range(4)]
                wait_until(lambda: engine.in_use == 5, seconds=30, what="all wait", every=0.02)
                engine.terminate()
                wait_until(lambda: not engine.ready, seconds=30, what="it drains", every=0.02)
            assert all(len(one.result(60)) == 1 for one in found)
        assert engine.ended() == 0


def test_the_guides_engine_runs_as_it_is_printed(tmp_path: Path) -> None:
    guide = (ROOT / "docs/guides/writing-a-text-engine.md").read_text()
    match = re.search(r"```python\n(.*?)```", guide, re.DOTALL)
    assert match is not None
    assert len(match[1].splitlines()) < 60
    script = tmp_path / "spelling.py"
    script.write_text(match[1])
    with running([str(script)], tmp_path) as engine:
        engine.until_ready()
        one, near, far = embedded(engine, "roundhouse", "the roundhouses", "octopus")
        assert np.dot(one, near) > 0.5 > np.dot(one, far)
        found = post(engine, "/v1/rerank", query="house", documents=["a mouse", "octopus", "houses"])
        assert [each["index"] for each in found.json["results"]] == [2, 0, 1]
        engine.terminate()
        assert engine.ended() == 0

"""Large requests of texts, and libraries that hold Python's lock: whether others are answered all along."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.engine.running import SCRIPTED, THREADED, Answer, Engine, running, tones
from tests.conformance.engine.stalling import (
    ask,
    assert_others_are_answered,
    assert_others_are_kept_waiting,
    meanwhile,
)
from tests.conformance.engine.test_long_recordings import conversation
from tests.conformance.engine.test_texts import VECTORS, VECTORS_THREADED
from tests.support.processors import stolen_seconds

CHAT = "/v1/chat/completions"
CALLER = ("-m", "tests.conformance.engine.text_handlers", "Caller")
STALL_SECONDS = 0.5
"""Of the server's own processor time, before a probe was answered: ten times what is promised."""
SHORT_SECONDS, SHARE = 0.1, 0.2
"""What is longer than this is no larger part of all that the request takes, however slow the processor is."""

TRIES = 3
"""What is seen in each of them is the engine's: a test that is kept waiting takes other work for a stall."""


@pytest.fixture(scope="module", params=[VECTORS, VECTORS_THREADED], ids=["process", "thread"])
def vectors(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """They rank, too, so that they take the 16 MB in which a parser that holds the lock is seen to do so."""
    with running(request.param, tmp_path_factory.mktemp("vectors")) as engine:
        engine.until_ready()
        yield engine


def asked(engine: Engine, path: str, fields: dict[str, Any]) -> Answer:
    """The answer to a request; meanwhile, others were answered in time."""
    body = json.dumps({"model": "m"} | fields)
    for _ in range(TRIES):
        found, longest, whole = watched(engine, path, body)
        if longest < min(max(SHORT_SECONDS, whole * SHARE), STALL_SECONDS):
            return found
    raise AssertionError(f"{longest:.3f} s of {whole:.3f} passed before a probe was answered, each time")


def watched(engine: Engine, path: str, body: str) -> tuple[Answer, float, float]:
    """The answer, the longest time that a probe waited for the server, and what the request took of it."""
    found: list[Answer] = []
    begun = engine.processor_seconds
    with contextlib.closing(engine.connect()) as probe:

        def spent() -> float:
            before, stolen = engine.processor_seconds, stolen_seconds()
            ask(probe)
            return engine.processor_seconds - before - (stolen_seconds() - stolen)

        spent_each = meanwhile(lambda: found.append(engine.request("POST", path, body)), spent)
    return found[0], max(spent_each, default=0.0), engine.processor_seconds - begun


def test_a_million_and_a_half_ids_of_tokens_are_read_while_others_are_answered(vectors: Engine) -> None:
    found = asked(vectors, "/v1/embeddings", {"input": [[100_000 + n for n in range(1_500_000)]]})
    assert (found.status, found.error["code"]) == (400, "context_length_exceeded")


def test_ten_thousand_documents_are_ranked_while_others_are_answered(vectors: Engine) -> None:
    documents = ["word " * 80 + str(number) for number in range(10_000)]
    fields = {"query": "word 77", "documents": documents, "return_documents": True}
    found = asked(vectors, "/v1/rerank", fields).json["results"]
    assert found[0] == {"index": 77, "relevance_score": 1.0, "document": {"text": documents[77]}}
    assert [each["index"] for each in found[1:]] == [n for n in range(10_000) if n != 77]


def test_a_body_that_is_larger_than_texts_are_is_refused(tmp_path: Path) -> None:
    with running(VECTORS, tmp_path) as engine:
        engine.until_ready()
        found = engine.request(
            "POST", "/v1/embeddings", json.dumps({"model": "m", "input": "a" * (16 << 20)})
        )
    assert (found.status, found.error["code"]) == (413, "body_too_large")


def test_what_is_nested_costs_about_as_much_as_what_is_not(tmp_path: Path) -> None:
    def cost(levels: int) -> float:
        schema: Any = [""] * 60_000
        for _ in range(levels):
            schema = [schema]
        tool = {"type": "function", "function": {"name": "f", "parameters": {"enum": schema}}}
        before = engine.processor_seconds
        found = engine.request("POST", CHAT, json.dumps(request | {"tools": [tool]}))
        assert found.status == 200, found.body
        return engine.processor_seconds - before

    request = {"model": "m", "messages": [{"role": "user", "content": "a"}]}
    with running(CALLER, tmp_path) as engine:
        engine.until_ready()
        cost(0)
        flat = max(cost(0) for _ in range(3))
        assert min(cost(90) for _ in range(3)) < 4 * flat
        deeper = engine.request(
            "POST", CHAT, json.dumps(request | {"more": json.loads("[" * 200 + "]" * 200)})
        )
    assert (deeper.status, deeper.error["code"]) == (400, "json_too_deep")


def test_a_library_that_holds_pythons_lock_is_found_out_in_a_thread_and_harmless_in_a_process(
    tmp_path: Path,
) -> None:
    """What shows of every engine that it does neither is held to show those that do."""
    for program, held_up in ((THREADED, True), (SCRIPTED, False)):
        folder = tmp_path / program[-1]
        folder.mkdir()
        with running(program, folder) as engine:
            engine.until_ready()
            judged = assert_others_are_kept_waiting if held_up else assert_others_are_answered
            judged(engine, lambda: holding(engine))


def holding(engine: Engine) -> None:
    assert engine.post(tones(1), prompt="hold 3").status == 200


@pytest.mark.parametrize("name", ["pocketsphinx", "whisper"])
def test_others_are_answered_while_speech_is_heard(name: str, request: pytest.FixtureRequest) -> None:
    """Of engines whose models take longer to load the same is shown where their other tests are."""
    engine: Engine = request.getfixturevalue(name)
    recording, words = conversation(2)
    told = {"model": {"pocketsphinx": "english", "whisper": "m"}[name], "language": "en"}

    def heard() -> None:
        answer = engine.post(recording, **told)
        assert answer.status == 200, answer.body
        assert answer.json["text"] == (
            words if name == "pocketsphinx" else "hello world" + " hello world" * 7
        )

    assert_others_are_answered(engine, heard)

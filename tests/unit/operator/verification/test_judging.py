"""What a test or a probe makes of an engine's answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from roundhouse_api.v1alpha1 import Capabilities, EngineSpec, KnownAnswerTest, Stage, Verification
from roundhouse_operator.core.verification import known_answers, probes
from roundhouse_operator.core.verification.asks import Answer, Ask, Engine
from tests.unit.operator.samples import engine as engine_manifest

INPUT = {"name": "speech", "key": "go.wav"}
CONTENTS = {("speech", "go.wav"): b"RIFF", ("speech", "vector"): b"[1, 0, 0]"}


def known(**spec: Any) -> KnownAnswerTest:
    return KnownAnswerTest.model_validate({"name": "go", "inputConfigMapRef": INPUT, **spec})


def answer(value: object, status: int = 200) -> Answer:
    return Answer(status, "application/json", json.dumps(value).encode())


def spoken(text: str) -> Answer:
    return answer({"text": text})


def asked(stage: str, **api: Any) -> Engine:
    return Engine(EngineSpec.model_validate(engine_manifest(stage=stage, api=api)["spec"]), "base.en")


@pytest.mark.parametrize(
    ("allowed", "heard", "result", "score"),
    [
        (None, "Go forward ten meters", "Passed", "0.0 %"),
        (None, "go forward then meters", "Failed", "25.0 %"),
        (25, "go forward then meters", "Passed", "25.0 %"),
    ],
)
def test_a_transcript_is_judged_by_its_word_errors(
    allowed: int | None, heard: str, result: str, score: str
) -> None:
    test = known(expectText="go forward ten meters", **({"maxWordErrorPercent": allowed} if allowed else {}))
    found = known_answers.judge(test, Stage.TRANSCRIBE, spoken(heard), CONTENTS)
    assert (found.result.value, found.score) == (result, score)
    assert (repr(heard) in found.message) == (result == "Failed")


def test_an_engine_that_refuses_fails_in_its_own_words_without_its_secrets() -> None:
    refusal = Answer(400, "text/plain", b"no such model; api_key=sk-1234567890abcdef")
    found = known_answers.judge(known(expectText="x"), Stage.TRANSCRIBE, refusal, CONTENTS)
    assert found.message == "the engine answered 400: 'no such model; api_key=***'"


@pytest.mark.parametrize("body", [[], {}, {"text": 5}, "go", None])
def test_an_answer_without_a_text_fails(body: object) -> None:
    found = known_answers.judge(known(expectText="go"), Stage.TRANSCRIBE, answer(body), CONTENTS)
    assert found.message == "the answer holds no text"


@pytest.mark.parametrize(
    ("vector", "least", "message"),
    [
        ([1, 0, 0.01], None, ""),
        ([1, 1, 0], None, "cosine of 70.71 %, 99 % expected"),
        ([1, 1, 0], 70, ""),
        ([1, 0], None, "the answer's vector: it has 2 dimensions, and 3 are expected"),
        ("x", None, "the answer's vector: it is not a JSON list of numbers"),
    ],
)
def test_a_vector_is_judged_by_its_cosine(vector: object, least: int | None, message: str) -> None:
    spec: dict[str, Any] = {"expectEmbeddingRef": {"name": "speech", "key": "vector"}}
    test = known(**spec, **({"minCosinePercent": least} if least else {}))
    found = known_answers.judge(test, Stage.EMBED, answer({"data": [{"embedding": vector}]}), CONTENTS)
    assert found.message == message
    assert found.passed == (not message)


def test_an_expected_vector_that_is_none_is_named() -> None:
    test = known(expectEmbeddingRef={"name": "speech", "key": "go.wav"})
    found = known_answers.judge(test, Stage.EMBED, answer({"data": [{"embedding": [1]}]}), CONTENTS)
    assert "key 'go.wav' of ConfigMap 'speech': it is not JSON" in found.message


def test_the_engine_is_asked_on_its_own_route_by_its_own_name_of_the_model() -> None:
    routes = [{"name": "Transcriptions", "path": "/inference"}]
    ask = known_answers.ask(known(expectText="x"), asked("Transcribe", routes=routes), CONTENTS)
    assert ask == Ask("/inference", fields={"model": "base.en", "response_format": "json"}, recording=b"RIFF")
    ask = known_answers.ask(known(), asked("Embed"), CONTENTS)
    assert (ask.path, ask.body and ask.body["input"]) == ("/v1/embeddings", "RIFF")
    assert known_answers.ask(known(), asked("Chat"), CONTENTS).path == "/v1/chat/completions"


@pytest.mark.parametrize(
    ("stage", "spec", "problem"),
    [
        (Stage.MUSIC, {}, "stage Music are not tested"),
        (Stage.TRANSCRIBE, {"expectEmbeddingRef": INPUT}, "only an engine of stage Embed"),
        (Stage.EMBED, {"expectText": "x"}, "use `expectEmbeddingRef`"),
    ],
)
def test_a_test_that_could_never_be_run_is_named(stage: Stage, spec: dict[str, Any], problem: str) -> None:
    verification = Verification.model_validate(
        {"policy": "Advisory", "tests": [{"name": "go", "inputConfigMapRef": INPUT, **spec}]}
    )
    [found] = known_answers.problems(verification, stage)
    assert found.startswith("spec.verification.tests[0]")
    assert problem in found


CLAIMS = Capabilities.model_validate(
    {
        "streaming": "Chunked",
        "wordTimestamps": "Native",
        "features": ["LanguageDetection", "Punctuation", "Translation", "Diarization"],
    }
)
WORDS = [{"word": "go", "start": 0.1, "end": 0.3}, {"word": "forward", "start": 0.3, "end": 0.9}]


def test_claims_that_no_request_shows_yet_are_not_probed() -> None:
    found = [one.feature for one in probes.probes(CLAIMS, asked("Transcribe"), b"RIFF")]
    assert found == ["LanguageDetection", "Punctuation", "Streaming", "Translation", "WordTimestamps"]
    assert set(probes.claims(CLAIMS)) - set(found) == {"Diarization"}
    assert not list(probes.probes(CLAIMS, asked("Transcribe"), None)), "nothing to hear"
    assert not list(probes.probes(None, asked("Transcribe"), b"RIFF"))


def shown(feature: str, given: Answer) -> bool:
    found = {one.feature: one for one in probes.probes(CLAIMS, asked("Transcribe"), b"RIFF")}
    return found[feature].shown(given)


@pytest.mark.parametrize(
    ("feature", "given", "proven"),
    [
        ("WordTimestamps", answer({"text": "go forward", "words": WORDS}), True),
        ("WordTimestamps", answer({"text": "go forward", "words": []}), False),
        ("WordTimestamps", answer({"text": "go", "words": [{"word": "go"}]}), False),
        ("WordTimestamps", answer({"text": "go", "words": WORDS[::-1]}), False),
        ("WordTimestamps", answer([]), False),
        ("LanguageDetection", answer({"language": "english"}), True),
        ("LanguageDetection", answer({"language": "und"}), False),
        ("Punctuation", spoken("Go forward."), True),
        ("Punctuation", spoken("go forward"), False),
        ("Translation", spoken("go"), True),
        ("Translation", spoken(""), False),
    ],
)
def test_a_feature_is_shown_by_what_comes(feature: str, given: Answer, proven: bool) -> None:
    assert shown(feature, given) is proven


def events(*kinds: str) -> Answer:
    lines = "".join(f'data: {{"type": "{kind}"}}\n\n' for kind in kinds)
    return Answer(200, "text/event-stream", f"{lines}data: [DONE]\n\n".encode())


def test_a_stream_comes_in_pieces() -> None:
    assert shown("Streaming", events("transcript.text.delta", "transcript.text.done"))
    assert not shown("Streaming", events("transcript.text.done"))
    assert not shown("Streaming", spoken("all at once"))


CHAT = Capabilities.model_validate({"streaming": "Native", "features": ["StructuredOutputs", "Tools"]})


def replied(**message: Any) -> Answer:
    return answer({"choices": [{"message": message}]})


@pytest.mark.parametrize(
    ("feature", "given", "proven"),
    [
        ("StructuredOutputs", replied(content='{"weather": "mild"}'), True),
        ("StructuredOutputs", replied(content="It is mild."), False),
        ("Tools", replied(content=None, tool_calls=[{"id": "1"}]), True),
        ("Tools", replied(content="It is mild."), False),
        ("Streaming", events("a", "b"), True),
        ("Streaming", replied(content="It is mild."), False),
    ],
)
def test_what_a_chat_model_claims(feature: str, given: Answer, proven: bool) -> None:
    found = {one.feature: one for one in probes.probes(CHAT, asked("Chat"), None)}
    assert found[feature].shown(given) is proven


def test_the_dimensions_of_an_embedding_are_counted() -> None:
    claimed = Capabilities.model_validate({"embedding": {"dimensions": 2}})
    [probe] = probes.probes(claimed, asked("Embed"), None)
    assert probe.shown(answer({"data": [{"embedding": [1, 2]}]}))
    assert not probe.shown(answer({"data": [{"embedding": [1, 2, 3]}]}))
    assert not probe.shown(answer({}))

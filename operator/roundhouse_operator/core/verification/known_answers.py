"""Known-answer tests: a request of which the right answer is known, and the judgement of what came."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from roundhouse_api.v1alpha1 import KeyRef, KnownAnswerTest, Stage, Verification, VerificationResult
from roundhouse_operator.core.verification import asks
from roundhouse_operator.core.verification.asks import Answer, Ask, Engine, quoted
from roundhouse_operator.core.verification.vectors import (
    NoVectorError,
    as_vector,
    cosine_percent,
    read_vector,
)
from roundhouse_operator.core.verification.words import word_error_percent

LEAST_COSINE_PERCENT: Final = 99
MESSAGE_LENGTH: Final = 256
TESTED_STAGES: Final = frozenset({Stage.TRANSCRIBE, Stage.EMBED, Stage.CHAT})

Contents = Mapping[tuple[str, str], bytes]
"""What ConfigMaps hold, by name and key."""


@dataclass(frozen=True, slots=True)
class Judged:
    """The outcome of one test, as `status.verification.tests` shows it."""

    name: str
    result: VerificationResult
    score: str = ""
    message: str = ""

    @property
    def passed(self) -> bool:
        return self.result is VerificationResult.PASSED


def problems(verification: Verification, stage: Stage) -> Iterator[str]:
    """Why the tests of a variant could never be run on an engine of the stage."""
    for number, test in enumerate(verification.tests):
        where = f"spec.verification.tests[{number}]"
        if stage not in TESTED_STAGES:
            yield f"{where}: engines of stage {stage.value} are not tested"
        elif test.expect_embedding_ref and stage is not Stage.EMBED:
            yield f"{where}.expectEmbeddingRef: only an engine of stage Embed gives vectors"
        elif test.expect_text is not None and stage is Stage.EMBED:
            yield f"{where}.expectText: an engine of stage Embed gives vectors, use `expectEmbeddingRef`"


def references(verification: Verification) -> tuple[KeyRef, ...]:
    """The keys of ConfigMaps that the tests need, each once."""
    wanted = [
        ref for test in verification.tests for ref in (test.input_config_map_ref, test.expect_embedding_ref)
    ]
    return tuple({(ref.name, ref.key): ref for ref in wanted if ref}.values())


def ask(test: KnownAnswerTest, engine: Engine, contents: Contents) -> Ask:
    given = contents[test.input_config_map_ref.name, test.input_config_map_ref.key]
    match engine.spec.stage:
        case Stage.TRANSCRIBE:
            return engine.transcription(given, response_format="json")
        case Stage.EMBED:
            return engine.embedding(given.decode(errors="replace"))
        case _:
            return engine.chat(given.decode(errors="replace"))


def judge(test: KnownAnswerTest, stage: Stage, answer: Answer, contents: Contents) -> Judged:
    if not answer.good:
        return _failed(test, answer.refusal())
    if stage is Stage.EMBED:
        return _vector(test, answer, contents)
    return _text(test, asks.transcript(answer) if stage is Stage.TRANSCRIBE else asks.reply(answer))


def _text(test: KnownAnswerTest, heard: str | None) -> Judged:
    if heard is None:
        return _failed(test, "the answer holds no text")
    if test.expect_text is None:
        return _passed(test)
    allowed, errors = test.max_word_error_percent or 0, word_error_percent(test.expect_text, heard)
    score = f"{errors:.1f} %"
    if errors <= allowed:
        return _passed(test, score)
    return _failed(test, f"{score} word errors, {allowed} % allowed: {quoted(heard)}", score)


def _vector(test: KnownAnswerTest, answer: Answer, contents: Contents) -> Judged:
    ref = test.expect_embedding_ref
    try:
        found = as_vector(asks.vector(answer))
    except NoVectorError as error:
        return _failed(test, f"the answer's vector: {error}")
    if ref is None:
        return _passed(test)
    try:
        expected = read_vector(contents[ref.name, ref.key])
    except NoVectorError as error:
        return _failed(test, f"key {ref.key!r} of ConfigMap {ref.name!r}: {error}")
    try:
        cosine = cosine_percent(expected, found)
    except NoVectorError as error:
        return _failed(test, f"the answer's vector: {error}")
    least = LEAST_COSINE_PERCENT if test.min_cosine_percent is None else test.min_cosine_percent
    score = f"{cosine:.2f} %"
    if cosine >= least:
        return _passed(test, score)
    return _failed(test, f"cosine of {score}, {least} % expected", score)


def _passed(test: KnownAnswerTest, score: str = "") -> Judged:
    return Judged(test.name, VerificationResult.PASSED, score)


def _failed(test: KnownAnswerTest, message: str, score: str = "") -> Judged:
    return Judged(test.name, VerificationResult.FAILED, score, message[:MESSAGE_LENGTH])

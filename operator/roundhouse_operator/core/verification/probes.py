"""Claimed features, and the request that shows each of them on the routes that there are.

A feature that no request can show yet stays unproven; that is no failure, and status says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from roundhouse_api.v1alpha1 import Capabilities, Feature, Stage, Streaming, WordTimestamps
from roundhouse_operator.core.verification import asks
from roundhouse_operator.core.verification.asks import Answer, Ask, Engine
from roundhouse_operator.core.verification.vectors import NoVectorError, as_vector

WORD_TIMESTAMPS: Final = "WordTimestamps"
STREAMING: Final = "Streaming"
DIMENSIONS: Final = "EmbeddingDimensions"
_PUNCTUATION: Final = re.compile(r"[.,?!;:。、，？！]")
_PROMPT: Final = "Say in one short sentence what the weather in Oslo is like in May."
_TOOL: Final = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@dataclass(frozen=True, slots=True)
class Probe:
    """A request, and whether its answer shows the feature."""

    feature: str
    ask: Ask
    shown: Callable[[Answer], bool]


def claims(capabilities: Capabilities | None) -> tuple[str, ...]:
    """What can be claimed and either holds or not, sorted."""
    if capabilities is None:
        return ()
    found = {feature.value for feature in capabilities.features or ()}
    if capabilities.word_timestamps not in (None, WordTimestamps.NONE):
        found.add(WORD_TIMESTAMPS)
    if capabilities.streaming not in (None, Streaming.NONE):
        found.add(STREAMING)
    if capabilities.embedding and capabilities.embedding.dimensions:
        found.add(DIMENSIONS)
    return tuple(sorted(found))


def probes(capabilities: Capabilities | None, engine: Engine, recording: bytes | None) -> Iterator[Probe]:
    """Of the claims, those that a request can show. `recording` is speech, for an engine that hears."""
    found: dict[str, Probe] = {}
    if engine.spec.stage is Stage.TRANSCRIBE and recording:
        found = {one.feature: one for one in _speech(engine, recording)}
    elif engine.spec.stage is Stage.CHAT:
        found = {one.feature: one for one in _chat(engine)}
    elif engine.spec.stage is Stage.EMBED and capabilities and capabilities.embedding:
        dimensions = capabilities.embedding.dimensions
        ask = engine.embedding(_PROMPT)
        found = {DIMENSIONS: Probe(DIMENSIONS, ask, lambda answer: _dimensions(answer) == dimensions)}
    yield from (found[claim] for claim in claims(capabilities) if claim in found)


def _speech(engine: Engine, recording: bytes) -> Iterator[Probe]:
    timed = {"response_format": "verbose_json", "timestamp_granularities[]": "word"}
    yield Probe(WORD_TIMESTAMPS, engine.transcription(recording, **timed), _has_word_times)
    yield Probe(STREAMING, engine.transcription(recording, stream="true"), _comes_in_pieces)
    plain = engine.transcription(recording, response_format="verbose_json")
    yield Probe(Feature.LANGUAGE_DETECTION.value, plain, _names_the_language)
    yield Probe(Feature.PUNCTUATION.value, plain, lambda answer: bool(_PUNCTUATION.search(_heard(answer))))
    yield Probe(Feature.TRANSLATION.value, engine.translation(recording), lambda answer: bool(_heard(answer)))


def _chat(engine: Engine) -> Iterator[Probe]:
    yield Probe(STREAMING, engine.chat(_PROMPT, stream=True), lambda answer: len(answer.events()) > 1)
    structured = engine.chat(f"{_PROMPT} Answer as a JSON object.", response_format={"type": "json_object"})
    yield Probe(Feature.STRUCTURED_OUTPUTS.value, structured, _is_an_object)
    called = engine.chat(_PROMPT, tools=[_TOOL], tool_choice="required")
    yield Probe(Feature.TOOLS.value, called, lambda answer: bool(asks.tool_calls(answer)))


def _heard(answer: Answer) -> str:
    return asks.transcript(answer) or ""


def _has_word_times(answer: Answer) -> bool:
    """Times that begin and go on, for a recording in which somebody speaks."""
    spoken = answer.json()
    words = spoken.get("words") if isinstance(spoken, dict) else None
    if not isinstance(words, list) or not words:
        return False
    times = [one.get("start") for one in words if isinstance(one, dict)]
    known = [one for one in times if isinstance(one, int | float)]
    return len(known) == len(words) and known == sorted(known)


def _comes_in_pieces(answer: Answer) -> bool:
    kinds = [one.get("type") for one in answer.events() if isinstance(one, dict)]
    return "transcript.text.delta" in kinds and "transcript.text.done" in kinds


def _names_the_language(answer: Answer) -> bool:
    spoken = answer.json()
    language = spoken.get("language") if isinstance(spoken, dict) else None
    return isinstance(language, str) and language not in ("", "und", "unknown", "undetermined")


def _dimensions(answer: Answer) -> int:
    try:
        return len(as_vector(asks.vector(answer)))
    except NoVectorError:
        return 0


def _is_an_object(answer: Answer) -> bool:
    try:
        return isinstance(json.loads(asks.reply(answer) or ""), dict)
    except ValueError:
        return False

"""Batch speech through the official client: every format from engines of every dialect, or a true refusal."""

import json
from typing import Any

import openai
import pytest

from tests.conformance.gateway.client import AUDIO, field, file
from tests.conformance.gateway.conftest import World
from tests.conformance.gateway.dialect_engines import (
    SEGMENTS,
    TEXT,
    openais_breaking,
    speaches,
    speaches_in_openais_events,
    vllm,
    vllm_breaking,
    vllm_of_text_alone,
)
from tests.conformance.gateway.manifests import Variant
from tests.conformance.gateway.scripted_engine import Answer, ScriptedEngine, answering, transcript
from tests.conformance.gateway.subtitles import parse_srt, parse_vtt
from tests.conformance.gateway.text_engine import die, streaming
from tests.support.waiting import wait_until

# The client calls its own translations deprecated, because OpenAI's models are.
pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")

FILE = ("speech.wav", AUDIO)
TOKENS = {"type": "tokens", "input_tokens": 14, "output_tokens": 45, "total_tokens": 59}
VLLM = Variant("vllm", dialect="VLLM", word_timestamps="None", features=("Translation",))
SPEACHES = Variant("speaches", dialect="Speaches", features=("Translation", "Diarization"))
OPENAI = Variant("elsewhere", dialect="OpenAI", features=("Diarization",))


@pytest.fixture
def world(either_world: World) -> World:
    """Small forms take the fast lane where there is one."""
    return either_world


def serve(world: World, variant: Variant, answer: Answer) -> ScriptedEngine:
    engine = world.serve(variant)
    engine.answer = answer
    return engine


@pytest.fixture(params=["VLLM", "Speaches"])
def foreign(request: pytest.FixtureRequest, world: World) -> ScriptedEngine:
    """An engine of another dialect, published as `foreign`."""
    variant = Variant("foreign", dialect=request.param, word_timestamps="None", features=("Translation",))
    return serve(world, variant, vllm if request.param == "VLLM" else speaches)


def create(world: World, model: str, **asked: Any) -> Any:
    return world.gateway.openai().audio.transcriptions.create(model=model, file=FILE, **asked)


def test_json_and_text(world: World, foreign: ScriptedEngine) -> None:
    assert create(world, "foreign").text.strip() == TEXT
    assert create(world, "foreign", response_format="text") == TEXT + "\n"


@pytest.mark.parametrize(("name", "parse"), [("srt", parse_srt), ("vtt", parse_vtt)])
def test_subtitles_are_made_of_segments(world: World, foreign: ScriptedEngine, name: str, parse: Any) -> None:
    cues = parse(create(world, "foreign", response_format=name, language="en-GB"))
    assert [cue.text for cue in cues] == [text.strip() for *_, text in SEGMENTS]
    assert [(cue.start, cue.end) for cue in cues] == [(0.44, 1.02), (61.1, 3723.457)]
    (received,) = foreign.requests
    fields = dict(received.fields)
    assert (fields["response_format"], fields["language"]) == ("verbose_json", "en")


def test_verbose_json_has_all_that_clients_require(world: World, foreign: ScriptedEngine) -> None:
    raw = world.gateway.openai().audio.transcriptions.with_raw_response.create(
        model="foreign", file=FILE, response_format="verbose_json"
    )
    body = json.loads(raw.content)
    assert (body["task"], body["language"], body["duration"]) == ("transcribe", "english", 3723.5)
    assert set(body) == {"task", "language", "duration", "text", "segments", "usage"}
    first, _ = body["segments"]
    assert first | {"compression_ratio": 0} == {
        "id": 0,
        "seek": 44,
        "start": 0.44,
        "end": 1.02,
        "text": " Go forward.",
        "tokens": [50364, 1042],
        "temperature": 0.0,
        "avg_logprob": -0.25,
        "compression_ratio": 0,
        "no_speech_prob": 0.0,
    }


def test_a_translation(world: World, foreign: ScriptedEngine) -> None:
    translations = world.gateway.openai().audio.translations
    assert translations.create(model="foreign", file=FILE, prompt="Names: Ada").text.strip() == TEXT
    verbose = translations.create(model="foreign", file=FILE, response_format="verbose_json")
    assert (verbose.language, verbose.duration) == ("english", 3723.5)
    assert verbose.to_dict().keys() == {"task", "language", "duration", "text", "segments"}
    assert len(parse_vtt(translations.create(model="foreign", file=FILE, response_format="vtt"))) == 2
    assert {received.path for received in foreign.requests} == {"/v1/audio/translations"}


async def test_vllms_stream_becomes_openais(world: World) -> None:
    engine = serve(world, VLLM, vllm)
    async with openai.AsyncOpenAI(base_url=world.gateway.base_url, api_key="x", max_retries=0) as api:
        stream = await api.audio.transcriptions.create(
            model="vllm", file=FILE, stream=True, response_format="text"
        )
        *deltas, done = [event.to_dict() async for event in stream]
    assert [event["type"] for event in deltas] == ["transcript.text.delta"] * len(TEXT.split())
    assert "".join(str(event["delta"]) for event in deltas) == TEXT
    assert done == {"type": "transcript.text.done", "text": TEXT, "usage": TOKENS}
    assert dict(engine.requests[0].fields)["response_format"] == "json"


@pytest.mark.parametrize("answer", [speaches, speaches_in_openais_events])
def test_speaches_streams_of_both_kinds(world: World, answer: Answer) -> None:
    serve(world, SPEACHES, answer)
    *deltas, done = create(world, "speaches", stream=True)
    assert "".join(event.delta for event in deltas).strip() == done.text == TEXT


def test_an_engine_that_cannot_stream_answers_with_one_delta(world: World) -> None:
    serve(world, OPENAI, transcript)
    reply = world.gateway.transcribe(field("model", "elsewhere"), field("stream", "true"), file())
    assert reply.headers["content-type"].startswith("text/event-stream")
    delta, done = (json.loads(event[6:]) for event in reply.body.decode().split("\n\n") if event)
    assert delta == {"type": "transcript.text.delta", "delta": "go forward ten meters"}
    assert done["duration"] == 3


def test_a_stream_that_fails_on_the_way_ends_with_an_error(world: World) -> None:
    engine = serve(world, VLLM, vllm_breaking(after=2, ended=True))
    events = iter(create(world, "vllm", stream=True))
    assert [next(events).delta for _ in range(2)] == ["Go", " forward."]
    with pytest.raises(openai.APIError, match="EngineCore died"):
        next(events)
    engine.answer = vllm_breaking(after=1, ended=False)
    events = iter(create(world, "vllm", stream=True))
    assert next(events).delta == "Go"
    with pytest.raises(openai.APIError, match="broke off") as broken:
        next(events)
    assert broken.value.code == "engine_failed"


def test_a_stream_that_fails_before_its_first_word_is_an_error_with_a_status(world: World) -> None:
    serve(world, VLLM, vllm_breaking(after=0, ended=True))
    with pytest.raises(openai.InternalServerError, match="EngineCore died") as failed:
        create(world, "vllm", stream=True)
    assert failed.value.status_code == 502


def test_what_is_streamed_untouched_ends_with_an_error_where_it_breaks_off(world: World) -> None:
    serve(world, OPENAI, openais_breaking)
    events = iter(create(world, "elsewhere", stream=True))
    assert next(events).delta == "Go"
    with pytest.raises(openai.APIError, match="broke off"):
        next(events)


def test_a_stream_that_breaks_off_before_its_first_event_ends_with_an_error(world: World) -> None:
    serve(world, OPENAI, streaming(then=die))
    with pytest.raises(openai.APIError, match="broke off") as broken:
        list(create(world, "elsewhere", stream=True))
    assert broken.value.code == "engine_failed"


def test_seconds_are_counted_alike_whatever_the_format(world: World) -> None:
    told = {"X-Roundhouse-Audio-Seconds": "2.5"}
    serve(world, Variant("whisper"), answering(200, "go forward\n", told))
    serve(world, OPENAI, answering(200, "go forward\n", {"X-Roundhouse-Audio-Seconds": "nan"}))

    def counted() -> list[float]:
        name = "roundhouse_gateway_audio_seconds_total"
        return [world.gateway.metric(name, model=model) for model in ("whisper", "elsewhere")]

    before = counted()
    for kind in ("text", "srt", "vtt"):
        raw = world.gateway.openai().audio.transcriptions.with_raw_response
        reply = raw.create(model="whisper", file=FILE, response_format=kind)
        assert "x-roundhouse-audio-seconds" not in reply.headers, "a word between engine and gateway"
    create(world, "elsewhere", response_format="text")
    expected = [before[0] + 7.5, before[1]]
    wait_until(lambda: counted() == expected, seconds=10, what=f"{expected} are counted", every=0.05)


def test_what_was_used_is_counted_whether_an_answer_is_touched_or_not(world: World) -> None:
    serve(world, OPENAI, transcript)
    serve(world, VLLM, vllm)

    def counted() -> list[float]:
        audio, tokens = "roundhouse_gateway_audio_seconds_total", "roundhouse_gateway_tokens_total"
        named = [world.gateway.metric(audio, model=model) for model in ("elsewhere", "vllm")]
        return [*named, world.gateway.metric(tokens, model="vllm")]

    before = counted()
    create(world, "elsewhere", response_format="verbose_json")
    list(create(world, "elsewhere", stream=True))
    create(world, "vllm", response_format="text")
    list(create(world, "vllm", stream=True))
    expected = [earlier + used for earlier, used in zip(before, (3 + 3, 3724, 45 + 14), strict=True)]
    wait_until(lambda: counted() == expected, seconds=10, what=f"{expected} are counted", every=0.05)


def test_an_answer_that_is_written_anew_has_a_bound(world: World) -> None:
    serve(world, VLLM, answering(200, {"text": "x" * (33 << 20)}))
    before = world.gateway.rss_mib()
    reply = world.gateway.transcribe(field("model", "vllm"), field("response_format", "text"), file())
    assert (reply.status, reply.error["code"]) == (502, "engine_failed")
    assert world.gateway.rss_mib() < before + 200


def test_words_of_speaches_with_and_without_segments(world: World) -> None:
    serve(world, SPEACHES, speaches)
    verbose = {"response_format": "verbose_json"}
    both = create(world, "speaches", **verbose, timestamp_granularities=["word", "segment"])
    assert [word.word for word in both.words] == ["Go", "forward.", "Ten", "<meters>", "& stop."]
    assert len(both.segments) == 2
    alone = create(world, "speaches", **verbose, timestamp_granularities=["word"])
    assert alone.segments is None, "only what was asked for, as at OpenAI"


def test_speakers(world: World) -> None:
    engine = serve(world, SPEACHES, speaches)
    answer = create(world, "speaches", response_format="diarized_json", chunking_strategy="auto")
    assert [segment.speaker for segment in answer.segments] == ["SPEAKER_00", "SPEAKER_01"]
    assert answer.text.startswith("SPEAKER_00: Go forward.\nSPEAKER_01: Ten")
    assert dict(engine.requests[0].fields)["diarization"] == "true"


def test_words_alone_become_subtitles(world: World) -> None:
    words = [
        {"word": "Go", "start": 0.1, "end": 0.4},
        {"word": "forward.", "start": 0.4, "end": 1.0},
        {"word": "Ten", "start": 1.1, "end": 1.3},
        {"word": "meters", "start": 3.0, "end": 3.5},
    ]
    serve(world, OPENAI, answering(200, {"text": "Go forward. Ten meters", "duration": 4, "words": words}))
    cues = parse_srt(create(world, "elsewhere", response_format="srt"))
    assert [(cue.start, cue.end, cue.text) for cue in cues] == [
        (0.1, 1.0, "Go forward."),
        (1.1, 1.3, "Ten"),
        (3.0, 3.5, "meters"),
    ]


REFUSED = [
    (VLLM, {"response_format": "diarized_json"}, "model"),
    (
        Variant("vllm", dialect="VLLM", features=("Diarization",)),
        {"response_format": "diarized_json"},
        "response_format",
    ),
    (VLLM, {"include": ["logprobs"]}, "include"),
    (
        Variant("vllm", dialect="VLLM"),
        {"response_format": "verbose_json", "timestamp_granularities": ["word"]},
        "timestamp_granularities",
    ),
    (SPEACHES, {"response_format": "diarized_json", "stream": True}, "stream"),
    (OPENAI, {"response_format": "srt"}, "response_format"),
]


@pytest.mark.parametrize(("variant", "asked", "param"), REFUSED)
def test_what_an_engine_does_not_tell_is_refused(
    world: World, variant: Variant, asked: dict[str, Any], param: str
) -> None:
    answers = {"VLLM": vllm, "Speaches": speaches, "OpenAI": transcript}
    serve(world, variant, answers[variant.dialect])
    with pytest.raises(openai.BadRequestError) as refused:
        create(world, variant.name, **asked)
    assert (refused.value.param, refused.value.code) == (param, "unsupported_value")
    assert variant.name in refused.value.message


def test_what_an_engine_will_not_tell_is_refused_without_waking_it(world: World) -> None:
    world.publish(VLLM.asleep())
    world.wait_for("vllm", "available")
    client = world.gateway.openai().with_options(timeout=20, max_retries=0)
    with pytest.raises(openai.BadRequestError, match="no log probabilities"):
        client.audio.transcriptions.create(model="vllm", file=FILE, include=["logprobs"])


def test_a_format_that_the_engine_itself_refuses_is_named(world: World) -> None:
    serve(world, VLLM, vllm_of_text_alone)
    for wanted in ("vtt", "verbose_json"):
        with pytest.raises(openai.BadRequestError, match="tells no times") as refused:
            create(world, "vllm", response_format=wanted)
        assert refused.value.param == "response_format"
    assert create(world, "vllm", response_format="text") == TEXT + "\n"


def test_a_model_that_does_not_translate_says_so(world: World) -> None:
    world.serve(Variant("plain"))
    translations = world.gateway.openai().audio.translations
    with pytest.raises(openai.BadRequestError, match="'plain' does not offer translation") as refused:
        translations.create(model="plain", file=FILE)
    assert refused.value.param == "model"
    serve(world, VLLM, vllm)
    answer = translations.with_raw_response.create(model="auto", file=FILE)
    assert answer.headers["x-roundhouse-model"] == "vllm"


def test_a_refusal_of_an_engine_of_another_dialect_comes_in_openais_shape(world: World) -> None:
    serve(world, Variant("absent", dialect="Speaches"), speaches)
    with pytest.raises(openai.BadRequestError, match="not installed locally") as refused:
        create(world, "absent", response_format="verbose_json")
    assert refused.value.type == "invalid_request_error"


def test_fields_after_the_file_are_said_in_the_engines_dialect_too(world: World) -> None:
    engine = serve(world, VLLM, vllm)
    reply = world.gateway.transcribe(
        field("model", "vllm"),
        file(),
        field("response_format", "srt"),
        field("keywords[]", "fjord"),
        field("keywords[]", "Ada"),
    )
    assert len(parse_srt(reply.body.decode())) == 2
    fields = engine.requests[0].fields
    assert [value for name, value in fields if name == "response_format"] == ["verbose_json"]
    assert ("hotwords", "fjord, Ada") in fields


def test_what_is_no_transcript_is_the_engines_fault(world: World) -> None:
    engine = serve(world, VLLM, answering(200, {"words": 1}))
    reply = world.gateway.transcribe(field("model", "vllm"), field("response_format", "text"), file())
    assert (reply.status, reply.error["code"]) == (502, "engine_failed")
    engine.answer = answering(200, "<html>", {"content-type": "text/html"})
    reply = world.gateway.transcribe(field("model", "vllm"), field("response_format", "text"), file())
    assert (reply.status, reply.error["code"]) == (502, "engine_failed")

"""`/v1/speech-to-text` through ElevenLabs' own client, which forgives: so answers are looked at by field."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest
from elevenlabs import AsyncElevenLabs, ElevenLabs
from elevenlabs.core.api_error import ApiError
from elevenlabs.errors import UnprocessableEntityError
from elevenlabs.types import ExportOptions_Srt, ExportOptions_Txt

from tests.conformance.gateway import client
from tests.conformance.gateway.client import AUDIO, field, file, form
from tests.conformance.gateway.conftest import World
from tests.conformance.gateway.dialect_engines import TEXT, speaches, vllm, vllm_of_text_alone
from tests.conformance.gateway.manifests import Variant
from tests.conformance.gateway.scripted_engine import ScriptedEngine, answering
from tests.conformance.gateway.subtitles import parse_srt
from tests.support.waiting import wait_until

FILE = ("speech.wav", AUDIO)
PATH = "/v1/speech-to-text"
SPEACHES = Variant("speaches", dialect="Speaches", features=("Diarization",))
WORDS = [
    {"word": "Good", "start": 0.1, "end": 0.3},
    {"word": "day", "start": 0.35, "end": 0.6},
    {"word": "Ada", "start": 1.0, "end": 1.5},
]
HEARD = {"text": " “Good day, Ada.”", "language": "english", "duration": 2.5, "words": WORDS}


@pytest.fixture
def engine(world: World) -> ScriptedEngine:
    """One that tells words without punctuation, as OpenAI's Whisper does."""
    made = world.serve(Variant("plain", dialect="OpenAI"))
    made.answer = answering(200, HEARD)
    return made


@pytest.fixture
def eleven(world: World) -> Iterator[ElevenLabs]:
    with httpx.Client(timeout=60) as connections:
        yield ElevenLabs(base_url=root(world), api_key="sk-test", httpx_client=connections)


def root(world: World) -> str:
    return f"http://127.0.0.1:{world.gateway.port}"


def post(world: World, *parts: bytes, headers: Mapping[str, str] | None = None) -> client.Reply:
    return world.gateway.request("POST", PATH, form(*parts), {**client.FORM_TYPE, **(headers or {})})


@pytest.mark.req("S1-19")
def test_words_and_what_stands_between_them_are_the_text(eleven: ElevenLabs, engine: ScriptedEngine) -> None:
    answer = eleven.speech_to_text.convert(
        model_id="scribe_v2", file=FILE, language_code="eng", tag_audio_events=True, temperature=0.5
    )
    body = answer.model_dump(exclude_none=True)
    assert (body["language_code"], body["language_probability"]) == ("eng", 1.0)
    assert (body["text"], body["audio_duration_secs"]) == ("“Good day, Ada.”", 2.5)
    assert "".join(word["text"] for word in body["words"]) == body["text"]
    assert body["words"] == [
        {"text": "“Good", "type": "word", "start": 0.1, "end": 0.3, "logprob": 0.0},
        {"text": " ", "type": "spacing", "start": 0.3, "end": 0.35, "logprob": 0.0},
        {"text": "day,", "type": "word", "start": 0.35, "end": 0.6, "logprob": 0.0},
        {"text": " ", "type": "spacing", "start": 0.6, "end": 1.0, "logprob": 0.0},
        {"text": "Ada.”", "type": "word", "start": 1.0, "end": 1.5, "logprob": 0.0},
    ]
    (received,) = engine.requests
    assert received.path == "/v1/audio/transcriptions"
    assert sorted(received.fields) == [
        ("language", "en"),
        ("model", "engine-plain"),
        ("response_format", "verbose_json"),
        ("temperature", "0.5"),
        ("timestamp_granularities[]", "word"),
    ]
    assert received.file_size == len(AUDIO)


async def test_the_asynchronous_client_and_what_follows_the_file(
    world: World, engine: ScriptedEngine
) -> None:
    async with httpx.AsyncClient(timeout=60) as connections:
        eleven = AsyncElevenLabs(base_url=root(world), api_key="sk-test", httpx_client=connections)
        answer = await eleven.speech_to_text.convert(
            model_id="scribe_v1",
            file=FILE,
            additional_formats=[
                ExportOptions_Srt(segment_on_silence_longer_than_s=0.2, max_characters_per_line=40),
                ExportOptions_Txt(include_timestamps=False),
            ],
        )
    found = answer.model_dump()
    assert found["language_probability"] == 0, "this engine found a language, and not how sure it is"
    srt, txt = found["additional_formats"]
    assert [cue.text for cue in parse_srt(srt["content"])] == ["“Good day,", "Ada.”"]
    assert (srt["requested_format"], srt["file_extension"], srt["content_type"]) == ("srt", "srt", "text/srt")
    assert txt["content"] == "“Good day, Ada.”\n"


def test_speakers_and_how_sure_the_engine_is(world: World, eleven: ElevenLabs) -> None:
    engine = world.serve(SPEACHES)
    engine.answer = speaches
    answer = eleven.speech_to_text.convert(
        model_id="any", file=FILE, diarize=True, num_speakers=2, keyterms=["Ada", "fjord"]
    )
    words = [word for word in answer.model_dump()["words"] if word["type"] == "word"]
    assert [(word["text"], word["speaker_id"]) for word in words] == [
        ("Go", "speaker_0"),
        ("forward.", "speaker_0"),
        ("Ten", "speaker_1"),
        ("<meters>", "speaker_1"),
        ("& stop.", "speaker_1"),
    ]
    assert words[0]["logprob"] == pytest.approx(-0.0202, abs=1e-4)
    fields = dict(engine.requests[0].fields)
    assert (fields["diarization"], fields["hotwords"]) == ("true", "Ada, fjord")


def test_speakers_are_not_made_up(world: World, eleven: ElevenLabs) -> None:
    engine = world.serve(Variant("silent", dialect="OpenAI", features=("Diarization",)))
    engine.answer = answering(200, HEARD)
    with pytest.raises(ApiError, match="tells no speakers"):
        eleven.speech_to_text.convert(model_id="any", file=FILE, diarize=True)


def test_without_times_any_engine_will_do(world: World, eleven: ElevenLabs) -> None:
    engine = world.serve(Variant("vllm", dialect="VLLM", word_timestamps="None", languages=("en",)))
    engine.answer = vllm
    answer = eleven.speech_to_text.convert(
        model_id="any", file=FILE, timestamps_granularity="none", seed=7
    ).model_dump(exclude_none=True)
    assert "".join(word["text"] for word in answer["words"]) == answer["text"] == TEXT
    assert not [word for word in answer["words"] if "start" in word]
    assert (answer["language_code"], answer["language_probability"]) == ("eng", 1.0)
    assert dict(engine.requests[0].fields)["seed"] == "7"
    with pytest.raises(ApiError) as refused:
        eleven.speech_to_text.convert(model_id="any", file=FILE)
    assert refused.value.status_code == 400
    assert refused.value.body["detail"]["status"] == "unsupported_value"
    assert "word timestamps" in refused.value.body["detail"]["message"]


def test_text_is_all_that_is_asked_for_where_it_is_enough(world: World, eleven: ElevenLabs) -> None:
    world.serve(Variant("voxtral", dialect="VLLM", word_timestamps="None")).answer = vllm_of_text_alone
    answer = eleven.speech_to_text.convert(
        model_id="any", file=FILE, timestamps_granularity="none", language_code="hrv"
    ).model_dump()
    assert (answer["text"], answer["language_code"]) == (TEXT, "hrv")


def test_bare_samples_reach_the_engine_as_a_wav(eleven: ElevenLabs, engine: ScriptedEngine) -> None:
    samples = bytes(32_000)
    eleven.speech_to_text.convert(model_id="m", file=samples, file_format="pcm_s16le_16")
    (received,) = engine.requests
    assert (received.filename, received.file_size) == ("audio.wav", 44 + len(samples))


def test_an_upload_reaches_the_engine_while_it_arrives(world: World, engine: ScriptedEngine) -> None:
    begin, rest = file(AUDIO * 64)[:200_000], file(AUDIO * 64)[200_000:]

    def pieces() -> Iterator[bytes]:
        yield field("model_id", "any") + begin
        wait_until(lambda: len(engine.requests) == 1, seconds=20, what="the engine is asked", every=0.02)
        yield rest
        yield field("additional_formats", '[{"format": "srt"}]') + form()

    reply = world.gateway.request("POST", PATH, pieces(), client.FORM_TYPE)
    assert reply.status == 200
    assert [each["requested_format"] for each in reply.json["additional_formats"]] == ["srt"]
    assert engine.requests[0].file_size == len(AUDIO) * 64


def test_a_file_that_comes_first(world: World, engine: ScriptedEngine) -> None:
    reply = post(world, file(), field("model_id", "scribe_v2"), field("language_code", "de"))
    assert reply.status == 400
    assert reply.json["detail"]["status"] == "unsupported_value"
    reply = post(world, file(), field("language_code", "hrv"), field("model_id", "scribe_v2"))
    assert reply.status == 200
    assert dict(engine.requests[-1].fields)["language"] == "hr"
    reply = post(world, file(), field("language_code", "hr"))
    assert (reply.status, reply.json["detail"][0]["loc"]) == (422, ["body", "model_id"])


REFUSED = [
    ({"source_url": "https://example.org/a.mp3"}, 400, "source_url"),
    ({"file": FILE, "use_multi_channel": True}, 400, "use_multi_channel"),
    ({"file": FILE, "entity_detection": "all"}, 400, "entity_detection"),
    ({"file": FILE, "webhook": True}, 400, "webhook"),
    ({"file": FILE, "timestamps_granularity": "character"}, 400, "timestamps_granularity"),
    ({"file": FILE, "temperature": 1.5}, 400, "temperature"),
    ({"file": FILE, "additional_formats": [{"format": "pdf"}]}, 400, "additional_formats"),
    ({"file": FILE, "diarize": True}, 400, None),
    ({"file": FILE, "temperature": 3}, 422, "temperature"),
    ({"file": FILE, "seed": -1}, 422, "seed"),
    ({"file": FILE, "language_code": "English!"}, 422, "language_code"),
    ({"file": FILE, "additional_formats": [{"format": "epub"}]}, 422, "additional_formats"),
    *(
        ({"file": FILE, "additional_formats": [{"format": "srt", option: value}]}, 422, "additional_formats")
        for option, value in (
            ("max_characters_per_line", -5),
            ("max_segment_duration_s", 0),
            ("max_segment_chars", 0),
            ("segment_on_silence_longer_than_s", -1),
        )
    ),
]


@pytest.mark.parametrize(("asked", "status", "param"), REFUSED)
def test_what_is_not_offered_is_refused_in_elevenlabs_shape(
    eleven: ElevenLabs, engine: ScriptedEngine, asked: dict[str, Any], status: int, param: str | None
) -> None:
    with pytest.raises((ApiError, UnprocessableEntityError)) as refused:
        eleven.speech_to_text.convert(model_id="any", **asked)
    assert refused.value.status_code == status
    detail = refused.value.body["detail"]
    if status == 422:
        assert [set(each) for each in detail] == [{"loc", "msg", "type"}]
        assert detail[0]["loc"] == ["body", param]
    else:
        assert {"status", "message", "type", "code", "param", "request_id"} == set(detail)
        assert detail["param"] == param


def test_errors_that_come_before_the_form_have_the_same_shape(world: World) -> None:
    for reply in (
        world.gateway.request("POST", PATH, b"{}", {"Content-Type": "application/json"}),
        world.gateway.get(PATH),
        post(world, field("model_id", "m")),
    ):
        assert reply.status in (405, 415, 400)
        assert set(reply.json) == {"detail"}
        assert reply.json["detail"]["message"]


def test_whoever_gets_no_token_is_told_so_in_the_same_shape(keyed: World) -> None:
    with httpx.Client(timeout=60) as http:
        stranger = ElevenLabs(base_url=root(keyed), api_key="nobody's", httpx_client=http)
        with pytest.raises(ApiError) as refused:
            stranger.tokens.single_use.create("realtime_scribe")
    assert refused.value.status_code == 401
    assert refused.value.body["detail"]["status"] == "invalid_api_key"


def test_the_engines_own_refusal_keeps_its_words(world: World, engine: ScriptedEngine) -> None:
    error = {"message": "no audio", "type": "invalid_request_error", "param": "file", "code": "audio_empty"}
    engine.answer = answering(400, {"error": error})
    reply = post(world, field("model_id", "m"), file())
    assert reply.status == 400
    assert reply.json["detail"] | {"request_id": ""} == {
        "type": "validation_error",
        "code": "audio_empty",
        "status": "audio_empty",
        "message": "no audio",
        "param": "file",
        "request_id": "",
    }
    assert json.loads(reply.body)["detail"]["request_id"] == reply.headers["x-request-id"]

"""Sessions with engines that speak OpenAI's, vLLM's or Speaches' protocol, on the gateway's three routes."""

import asyncio
import base64
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import openai
import pytest
from elevenlabs import AsyncElevenLabs, AudioFormat, CommitStrategy
from numpy.typing import NDArray
from websockets.exceptions import ConnectionClosed

from roundhouse_api.realtime import Close, SessionBegin, SpeechEnd, SpeechStart, Transcript
from tests.conformance.engine.streaming import DEADLINE, Stream, streaming
from tests.conformance.gateway.conftest import World
from tests.conformance.gateway.manifests import Variant, engine
from tests.conformance.gateway.realtime_engines import WORDS, OpenAI, Speaches, Vllm, silence, speech
from tests.conformance.gateway.scripted_engine import ScriptedEngine
from tests.conformance.gateway.test_realtime_elevenlabs import Heard, send

MODEL = "mistralai/Voxtral-Mini-4B-Realtime-2602"
SENTENCE = " ".join(WORDS)
COMPLETED = "conversation.item.input_audio_transcription.completed"


@dataclass
class House:
    """A model whose engine speaks a protocol of its own."""

    world: World
    behind: ScriptedEngine
    kind: OpenAI | Vllm | Speaches

    @property
    def rate(self) -> int:
        return 16_000 if isinstance(self.kind, Vllm) else 24_000

    def session(self, **query: str) -> Any:
        return streaming(self.world.gateway.port, {"model": "live", **query})


KINDS: dict[str, Callable[[], OpenAI | Vllm | Speaches]] = {
    "OpenAI": lambda: OpenAI(MODEL),
    "VLLM": lambda: Vllm(MODEL),
    "Speaches": Speaches,
}


@pytest.fixture(params=sorted(KINDS))
def house(request: pytest.FixtureRequest, world: World) -> Iterator[House]:
    dialect: str = request.param
    kind = KINDS[dialect]()
    variant = Variant(
        "live",
        engine="foreign",
        dialect=dialect,
        interfaces=("Batch", "Realtime"),
        streaming="Native",
        model_name=MODEL,
    )
    world.api.put("engines", engine("foreign", api={"dialect": dialect}))
    behind = world.serve(variant)
    behind.talk = kind.talk
    yield House(world, behind, kind)
    if isinstance(kind, Vllm):
        assert kind.thrown_away == 0, "audio was sent when it is not heard"


async def finals(stream: Stream, number: int) -> list[Transcript]:
    while len(stream.texts) < number:
        await stream.next()
    return [each for each in stream.seen if isinstance(each, Transcript)]


async def test_utterances_are_found_and_their_texts_told(house: House) -> None:
    async with house.session(silence_ms="600") as stream:
        begin = await stream.next()
        assert isinstance(begin, SessionBegin)
        assert (begin.model, begin.sample_rate, begin.vad) == ("live", 16_000, True)
        for _ in range(2):
            await stream.send(silence(0.5) + speech(1.0) + silence(3.5))
        first, second = await finals(stream, 2)
        assert (first.text, second.text) == (SENTENCE, SENTENCE)
        assert (first.utterance, second.utterance) == (1, 2)
        assert 0 <= first.start <= first.end <= second.start <= second.end <= 10.1
        starts = [each.at for each in stream.seen if isinstance(each, SpeechStart)]
        ends = [each.at for each in stream.seen if isinstance(each, SpeechEnd)]
        assert (len(starts), len(ends)) == (2, 2)
        await stream.say("end")
        assert (await stream.rest())[0] == Close.NORMAL
    assert stream.seen[-1].type == "session.end"
    assert ("transcript.partial" in stream.kinds) != isinstance(house.kind, Speaches)
    assert house.kind.samples >= 10 * house.rate * 0.98


async def test_an_utterance_ends_where_the_client_says_so(house: House) -> None:
    """Without a pause, twice, and what comes at once after it is not lost."""
    async with house.session(vad="false", interim_results="false") as stream:
        await stream.next()
        for number in range(3):
            await stream.send(speech(1.0), pace=1000)
            await stream.say("flush", id=f"f{number}")
        for number in range(3):
            flushed = await stream.until("flushed")
            assert (flushed.id, stream.texts) == (f"f{number}", [SENTENCE] * (number + 1))
        await stream.say("flush", id="nothing")
        assert (await stream.until("flushed")).id == "nothing"
        assert "vad.speech_start" not in stream.kinds
        assert "transcript.partial" not in stream.kinds
        await stream.send(speech(1.0), pace=1000)
        await stream.say("end")
        assert (await stream.rest())[0] == Close.NORMAL
    assert stream.texts == [SENTENCE] * 4, "the end flushes"


async def test_within_speech_a_flush_ends_an_utterance_too(house: House) -> None:
    """Where the engine finds them itself."""
    async with house.session() as stream:
        await stream.next()
        await stream.send(speech(1.0))
        await stream.say("flush", id="now")
        assert (await stream.until("flushed")).id == "now"
        assert stream.texts == [SENTENCE]
        await stream.send(speech(0.5))
        await stream.say("end")
        assert (await stream.rest())[0] == Close.NORMAL
    assert stream.texts == [SENTENCE, "go forward"]


async def test_what_was_cleared_is_in_no_transcript(house: House) -> None:
    async with house.session(vad="false") as stream:
        await stream.next()
        await stream.send(speech(0.5), pace=1000)
        await stream.say("clear", id="c")
        await stream.send(speech(1.0), pace=1000)
        await stream.say("flush", id="f")
        assert (await stream.until("cleared")).id == "c"
        await stream.until("flushed")
    assert stream.texts == [SENTENCE]


@pytest.mark.parametrize(
    ("encoding", "rate"), [("mulaw", 8_000), ("alaw", 8_000), ("pcm_f32le", 48_000), ("pcm_s16le", 24_000)]
)
async def test_audio_comes_as_the_engine_wants_it(encoding: str, rate: int, house: House) -> None:
    whole = np.frombuffer(speech(1.0, rate), "<i2")
    encoded = _encoded(whole, encoding)
    async with house.session(vad="false", encoding=encoding, sample_rate=str(rate)) as stream:
        await stream.next()
        await stream.send(encoded, byte_rate=len(encoded) + 1, pace=1000)  # pieces that end within samples
        await stream.say("flush")
        await stream.until("flushed")
    assert stream.texts == [SENTENCE]
    assert house.kind.samples == pytest.approx(house.rate, rel=0.02)


def _encoded(samples: NDArray[np.int16], encoding: str) -> bytes:
    """In G.711 a square wave: the codes of full scale and of its negative."""
    match encoding:
        case "pcm_s16le":
            return samples.tobytes()
        case "pcm_f32le":
            return (samples / 32768).astype("<f4").tobytes()
        case _:
            loudest = {"mulaw": 0x80, "alaw": 0xAA}[encoding]
            return np.where(samples >= 0, loudest, loudest ^ 0x80).astype(np.uint8).tobytes()


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"sample_rate": "7"}, "sample_rate must be a whole number"),
        ({"samplerate": "8000"}, "There is no parameter 'samplerate'"),
        ({"encoding": "opus"}, "encoding must be one of"),
        ({"vad": "perhaps"}, "vad must be true or false"),
    ],
)
async def test_what_is_wrong_is_said_in_the_close_frame(
    query: dict[str, str], says: str, house: House
) -> None:
    async with house.session(**query) as stream:
        code, reason = await stream.rest()
    assert (code, stream.kinds) == (Close.PARAMETERS, ["error"])
    assert says in reason
    assert house.behind.requests == [], "the engine was not asked"


async def test_an_engine_that_fails_ends_the_session_with_its_words(house: House) -> None:
    house.kind.fails = True
    async with house.session(vad="false") as stream:
        await stream.next()
        with suppress(ConnectionClosed):  # vLLM fails as soon as it hears something
            await stream.send(speech(0.5), pace=1000)
            await stream.say("flush")
        code, reason = await stream.rest()
    assert code == Close.FAILED
    assert reason in ("EngineCore died", "the model could not be loaded")
    assert stream.kinds[-1] == "error"


async def test_an_engine_that_is_none_is_no_session(house: House) -> None:
    async def silent(request: Any, socket: Any) -> None:
        await socket.send_str("hello?")

    house.behind.talk = silent
    async with house.session() as stream:
        code, reason = await stream.rest()
    assert (code, reason) == (Close.FAILED, "Engine 'live' does not speak JSON.")


async def test_an_engine_that_refuses_the_session_says_why(house: House) -> None:
    """Speaches takes any model, and fails on the first utterance."""
    if isinstance(house.kind, Speaches):
        return
    house.kind.model = "another"
    async with house.session(vad="false") as stream:
        with suppress(ConnectionClosed):
            await stream.send(speech(0.2), pace=1000)
            await stream.say("flush")
        code, reason = await stream.rest()
    assert code == Close.FAILED
    assert MODEL in reason


@pytest.mark.parametrize("by_hand", [True, False])
async def test_openais_client_at_its_own_rate(by_hand: bool, house: House) -> None:
    seen: list[Any] = []
    made = openai.AsyncOpenAI(base_url=house.world.gateway.base_url, api_key="sk-x", max_retries=0)
    heard: Any = {"transcription": {"model": "live", "language": "en"}}
    if by_hand:
        heard["turn_detection"] = None
    async with made, made.realtime.connect(extra_query={"intent": "transcription"}) as connection:
        await connection.session.update(session={"type": "transcription", "audio": {"input": heard}})
        audio = speech(1.0, 24_000) + (b"" if by_hand else silence(3.5, 24_000))
        for start in range(0, len(audio), 4800):
            piece = base64.b64encode(audio[start : start + 4800]).decode()
            await connection.input_audio_buffer.append(audio=piece)
        if by_hand:
            await connection.input_audio_buffer.commit()
        while not seen or seen[-1].type != COMPLETED:
            seen.append(await asyncio.wait_for(connection.recv(), DEADLINE))
            assert seen[-1].type != "error", seen[-1]
    assert seen[-1].transcript == SENTENCE
    kinds = [each.type for each in seen]
    assert ("input_audio_buffer.speech_started" in kinds) == (not by_hand)
    assert "input_audio_buffer.committed" in kinds
    if isinstance(house.kind, Speaches):
        assert house.kind.queries == [{"model": MODEL, "intent": "transcription", "language": "en"}]
    if isinstance(house.kind, OpenAI):
        assert house.kind.queries == [{"intent": "transcription"}]
        (said,) = house.kind.sessions
        assert said["audio"]["input"]["transcription"] == {"model": MODEL, "language": "en"}


@pytest.mark.parametrize("strategy", [CommitStrategy.VAD, CommitStrategy.MANUAL])
async def test_elevenlabs_client(strategy: CommitStrategy, house: House) -> None:
    address = house.world.gateway.base_url.removesuffix("/v1")
    connection = await AsyncElevenLabs(base_url=address, api_key="xi").speech_to_text.realtime.connect(
        {
            "model_id": "live",
            "audio_format": AudioFormat.PCM_16000,
            "sample_rate": 16_000,
            "commit_strategy": strategy,
            "vad_silence_threshold_secs": 0.6,
        }
    )
    heard = Heard(connection)
    await send(connection, speech(1.0) + (silence(3.5) if strategy is CommitStrategy.VAD else b""))
    if strategy is CommitStrategy.MANUAL:
        await connection.commit()
    assert (await heard.until("committed_transcript"))["text"] == SENTENCE
    await connection.close()

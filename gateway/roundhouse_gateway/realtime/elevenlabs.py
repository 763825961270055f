"""`WS /v1/speech-to-text/realtime`: ElevenLabs' realtime transcription, for its client as it is.

Everything stands in the query, so a place with an engine is taken before the client is let in, unless that
has to be waited for. Whoever is refused is let in to be told, in a message of ElevenLabs' own kind before
the close frame.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, Final

import aiohttp
import msgspec

from roundhouse_api.realtime import Close, Event, Flushed, Partial, SessionEnding, Transcript, known_event
from roundhouse_gateway.errors import GatewayError, InvalidRequestError
from roundhouse_gateway.json_words import wrong_in
from roundhouse_gateway.realtime import voice
from roundhouse_gateway.realtime.call import Call
from roundhouse_gateway.realtime.closing import GONE, Ending, ended_by, ending_of
from roundhouse_gateway.realtime.elevenlabs_config import Config, read_config
from roundhouse_gateway.realtime.engine_socket import EngineSocket
from roundhouse_gateway.realtime.leaving import REASON, Leaving
from roundhouse_gateway.realtime.pumps import Bounds, Idle, first
from roundhouse_gateway.realtime.sessions import Sessions, Wanted
from roundhouse_gateway.usage import Usage

PATH: Final = "/v1/speech-to-text/realtime"
_ERRORS: Final = {
    Close.UNAUTHENTICATED: "auth_error",
    Close.FORBIDDEN: "auth_error",
    Close.LIMIT: "rate_limited",
    Close.NOTHING_RUNS: "resource_exhausted",
    Close.GOING_AWAY: "resource_exhausted",
    Close.PARAMETERS: "invalid_request",
    Close.UNKNOWN_MODEL: "invalid_request",
    Close.IDLE: "session_time_limit_exceeded",
    Close.LAG: "queue_overflow",
    Close.TOO_LARGE: "chunk_size_exceeded",
}


class _Chunk(msgspec.Struct):
    message_type: str
    audio_base_64: str = ""
    commit: bool = False
    sample_rate: int | None = None


_DECODER: Final = msgspec.json.Decoder(_Chunk)


@dataclass(frozen=True, slots=True)
class ElevenLabs:
    """The route."""

    sessions: Sessions
    bounds: Bounds

    async def serve(self, call: Call) -> Ending:
        return await first(self._session(call), _leave(call, self.sessions.leaving))

    async def _session(self, call: Call) -> Ending:
        config = read_config(call.credentials.query)
        wanted = Wanted(config.model, config.parameters)
        async with self.sessions.open(wanted, call, call.exchange) as engine:
            if not call.accepted:
                await call.accept()
            session = _Session(call, engine, config, Idle(self.bounds))
            try:
                return await session.run()
            finally:
                call.exchange.usage = Usage(audio_seconds=session.bytes / config.byte_rate)

    async def end(self, call: Call, ending: Ending) -> None:
        if ending.code != Close.NORMAL:
            await call.say(_error(ending))
        await call.end(ending)

    async def refuse(self, call: Call, error: GatewayError) -> Ending:
        ending = ending_of(error)
        if not call.accepted:
            await call.accept()
        await self.end(call, ending)
        return ending


class _Session:
    """`bytes`: of audio, so far."""

    def __init__(self, call: Call, engine: EngineSocket, config: Config, idle: Idle) -> None:
        self._call = call
        self._engine = engine
        self._config = config
        self._idle = idle
        self._heard: list[Transcript] = []
        self.bytes = 0

    async def run(self) -> Ending:
        config = {**self._config.shown(), "model_id": self._call.exchange.model}
        await self._call.say(
            {"message_type": "session_started", "session_id": token_hex(16), "config": config}
        )
        return await first(self._read(), self._tell(), self._idle.over())

    async def _read(self) -> Ending:
        while True:
            message = await self._call.receive()
            if message["type"] == "websocket.disconnect":
                return GONE
            self._idle.heard()
            try:
                await self._heed(_decoded(message.get("text")))
            except InvalidRequestError as error:
                await self._call.say({"message_type": "input_error", "error": error.message})
            except ConnectionError:
                await asyncio.Event().wait()  # the engine is gone, which `_tell` hears of

    async def _heed(self, chunk: _Chunk) -> None:
        if chunk.message_type != "input_audio_chunk":
            raise InvalidRequestError(f"There is no message {chunk.message_type[:80]!r}.")
        if chunk.sample_rate not in (None, self._config.rate):
            raise InvalidRequestError(
                f"`sample_rate` is {chunk.sample_rate}, and the session's is {self._config.rate}."
            )
        if chunk.audio_base_64:
            audio = voice.decoded(chunk.audio_base_64, "audio_base_64")
            self.bytes += len(audio)
            await voice.send_audio(self._engine, audio)
        if chunk.commit:
            await voice.flush(self._engine, "commit")

    async def _tell(self) -> Ending:
        engine = self._engine
        while (message := await engine.receive()).type is aiohttp.WSMsgType.TEXT:
            heard = known_event(message.data)
            for each in self._told(heard) if heard else ():
                await self._call.say(each)
        return ended_by(message, self._call.exchange.model)

    def _told(self, event: Event) -> Iterator[dict[str, Any]]:
        match event:
            case Partial():
                yield {"message_type": "partial_transcript", "text": event.text}
            case Transcript() if self._config.by_hand:
                self._heard.append(event)
            case Transcript():
                yield from self._committed([event])
            case Flushed() if self._config.by_hand:
                heard, self._heard = self._heard, []
                yield from self._committed(heard)
            case SessionEnding():
                yield _ending_soon(event.deadline_ms, event.reason)
            case _:
                pass

    def _committed(self, heard: list[Transcript]) -> Iterator[dict[str, Any]]:
        text = " ".join(each.text for each in heard if each.text)
        yield {"message_type": "committed_transcript", "text": text}
        if not self._config.timestamps:
            return
        words = [word for each in heard for word in each.words or ()]
        language = next((each.language for each in heard if each.language), None)
        yield {
            "message_type": "committed_transcript_with_timestamps",
            "text": text,
            "language_code": language,
            "words": [
                {"text": word.text, "start": word.start, "end": word.end, "type": "word"} for word in words
            ],
        }


async def _leave(call: Call, leaving: Leaving) -> Ending:
    """Tells also a client that waits for a place."""
    await leaving.told()
    if not call.accepted:
        await call.accept()
    await call.say(_ending_soon(round(leaving.seconds_left * 1000), REASON))
    await asyncio.sleep(leaving.seconds_left)
    return Ending(Close.GOING_AWAY, REASON)


def _ending_soon(deadline_ms: int, reason: str) -> dict[str, Any]:
    """ElevenLabs has no message for this."""
    return {"message_type": "error", "error": f"The session ends in {deadline_ms} ms: {reason}"}


def _error(ending: Ending) -> dict[str, Any]:
    kind = _ERRORS.get(Close(ending.code), "transcriber_error")
    return {"message_type": kind, "error": ending.reason}


def _decoded(text: str | None) -> _Chunk:
    try:
        return _DECODER.decode(text or "")
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidRequestError(f"The message is no audio chunk: {wrong_in(error).message}.") from error

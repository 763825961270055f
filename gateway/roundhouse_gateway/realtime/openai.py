"""`WS /v1/realtime?intent=transcription`: OpenAI's realtime transcription, for its clients as they are.

The model may come late, with `session.update`: a place with an engine is taken with the first audio, but a
model that there is not, or that cannot do this, ends the session as soon as it is named. What else a
client gets wrong is told in an `error` event, and the session goes on; what ends it is told in one before the
close frame. Whoever is refused at the door gets an HTTP answer, or, in a browser, such an event.
"""

import asyncio
import contextlib
from contextlib import AsyncExitStack
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, Final

import aiohttp
import msgspec

from roundhouse_api.realtime import Close, SessionEnding, known_event
from roundhouse_gateway.errors import GatewayError, InvalidRequestError, NotReadyError
from roundhouse_gateway.json_words import wrong_in
from roundhouse_gateway.realtime import openai_config, voice
from roundhouse_gateway.realtime.call import Call
from roundhouse_gateway.realtime.closing import GONE, Ending, ended_by, ending_of
from roundhouse_gateway.realtime.engine_socket import EngineSocket
from roundhouse_gateway.realtime.leaving import REASON, Leaving
from roundhouse_gateway.realtime.openai_config import Config
from roundhouse_gateway.realtime.openai_events import Items, error_event, event, session_event
from roundhouse_gateway.realtime.pumps import Bounds, Idle, first
from roundhouse_gateway.realtime.sessions import Sessions, Wanted
from roundhouse_gateway.usage import Usage

PATH: Final = "/v1/realtime"
_LAST_WORDS_SECONDS: Final = 30.0
"""How long an engine may take over what it has when a client changes what it wants."""
_SAMPLE_BYTES: Final = {"audio/pcm": 2, "audio/pcmu": 1, "audio/pcma": 1}


class _ClientEvent(msgspec.Struct):
    type: str
    event_id: str | None = None
    audio: str = ""
    session: Any = None


_DECODER: Final = msgspec.json.Decoder(_ClientEvent)


class _RefusedError(Exception):
    """No engine takes the session."""

    def __init__(self, error: GatewayError) -> None:
        super().__init__(error.message)
        self.error = error


class EmptyCommitError(InvalidRequestError):
    code = "input_audio_buffer_commit_empty"

    def __init__(self) -> None:
        super().__init__("There is no audio to commit: append some first.")


@dataclass(frozen=True, slots=True)
class OpenAI:
    """The route."""

    sessions: Sessions
    bounds: Bounds

    async def serve(self, call: Call) -> Ending:
        query = call.credentials.query
        intent = query.get("intent", ["transcription"])[0]
        if intent != "transcription":
            raise InvalidRequestError(
                f"`intent` must be 'transcription': there are no conversations here, and {intent!r} is none.",
                param="intent",
            )
        config = Config(model=query.get("model", [""])[0])
        if call.token is not None and call.token.session:
            config = openai_config.updated(config, call.token.session)
        await call.accept()
        session = _Session(call, self.sessions, self.bounds, config)
        try:
            return await session.run()
        except _RefusedError as refused:
            raise refused.error from None
        finally:
            call.exchange.usage = Usage(audio_seconds=session.seconds)

    async def end(self, call: Call, ending: Ending) -> None:
        await call.end(ending)

    async def refuse(self, call: Call, error: GatewayError) -> Ending:
        ending = ending_of(error)
        if not call.accepted and call.credentials.subprotocol is None:
            await call.deny(error)
            return ending
        if not call.accepted:
            await call.accept()
        await call.say(error_event(error))
        await call.end(ending)
        return ending


class _Session:
    """One client's. `seconds`: of audio, so far."""

    def __init__(self, call: Call, sessions: Sessions, bounds: Bounds, config: Config) -> None:
        self._call = call
        self._sessions = sessions
        self._bounds = bounds
        self._config = config
        self._id = f"sess_{token_hex(10)}"
        self._idle = Idle(bounds)
        self._items = Items()
        self._opened = AsyncExitStack()
        self._engine: EngineSocket | None = None
        self._telling: asyncio.Task[None] | None = None
        self._over: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self._uncommitted = 0.0
        self.seconds = 0.0

    async def run(self) -> Ending:
        self._check(self._config)
        await self._show("session.created")
        try:
            return await first(
                self._read(), self._ended(), self._idle.over(), self._leave(self._sessions.leaving)
            )
        finally:
            await self._close()

    async def _show(self, kind: str) -> None:
        await self._call.say(session_event(kind, self._id, self._config, self._bounds.session))

    async def _ended(self) -> Ending:
        return await self._over

    async def _read(self) -> Ending:
        """From the client, until it leaves."""
        while True:
            message = await self._call.receive()
            if message["type"] == "websocket.disconnect":
                return GONE
            self._idle.heard()
            given: _ClientEvent | None = None
            try:
                given = _decoded(message.get("text"))
                await self._heed(given)
            except InvalidRequestError as error:
                await self._call.say(error_event(error, given.event_id if given else None))
            except ConnectionError:
                await asyncio.Event().wait()  # the engine is gone, which `_tell` has heard of

    async def _heed(self, given: _ClientEvent) -> None:
        match given.type:
            case "input_audio_buffer.append":
                await self._append(voice.decoded(given.audio, "audio"))
            case "input_audio_buffer.commit":
                await self._commit()
            case "input_audio_buffer.clear":
                await self._clear()
            case "session.update":
                await self._configure(openai_config.updated(self._config, given.session))
            case "transcription_session.update":
                await self._configure(openai_config.updated_as_before(self._config, given.session))
            case _:
                raise InvalidRequestError(
                    f"A transcription session has no event {given.type[:80]!r}.", param="type"
                )

    async def _append(self, audio: bytes) -> None:
        engine = self._engine or await self._open()
        seconds = len(audio) / (self._config.rate * _SAMPLE_BYTES[self._config.encoding])
        self.seconds += seconds
        self._uncommitted += seconds
        await voice.send_audio(engine, audio)

    async def _commit(self) -> None:
        if self._engine is None or not self._uncommitted:
            raise EmptyCommitError
        item = ""
        if self._items.by_hand:
            item, events = self._items.committed(self._uncommitted)
            for each in events:
                await self._call.say(each)
        self._uncommitted = 0.0
        await voice.flush(self._engine, item)

    async def _clear(self) -> None:
        self._uncommitted = 0.0
        if self._engine is not None:
            await voice.clear(self._engine)
        await self._call.say(event("input_audio_buffer.cleared"))

    async def _configure(self, config: Config) -> None:
        if (config.model, config.language) != (self._config.model, self._config.language):
            self._check(config)
        if self._engine is not None and (config.model, config.parameters) != (
            self._config.model,
            self._config.parameters,
        ):
            await self._part()
        self._config = config
        await self._show("session.updated")

    def _check(self, config: Config) -> None:
        """Raises `_RefusedError`: to go on would be to listen with another model than was wanted."""
        try:
            self._sessions.check(Wanted(config.model, config.parameters), self._call.exchange)
        except GatewayError as error:
            raise _RefusedError(error) from error

    async def _open(self) -> EngineSocket:
        """A place with an engine; `_RefusedError` where there is none."""
        wanted = Wanted(self._config.model, self._config.parameters)
        opening = self._sessions.open(wanted, self._call, self._call.exchange)
        try:
            with self._idle.stands():
                engine = await self._opened.enter_async_context(opening)
        except GatewayError as error:
            raise _RefusedError(error) from error
        self._engine = engine
        self._items.by_hand = self._config.turn_detection is None
        self._items.offset_ms = round(self.seconds * 1000)
        self._telling = asyncio.create_task(self._tell(engine))
        return engine

    async def _tell(self, engine: EngineSocket) -> None:
        """From the engine to the client, until the engine ends the session."""
        try:
            while (message := await engine.receive()).type is aiohttp.WSMsgType.TEXT:
                heard = known_event(message.data)
                if isinstance(heard, SessionEnding):
                    await self._warn(heard.deadline_ms, heard.reason)
                for each in self._items.told(heard) if heard else ():
                    await self._call.say(each)
        except OSError:
            ending = GONE
        except Exception as fault:  # noqa: BLE001 - handed on to whoever waits for the end
            if not self._over.done():
                self._over.set_exception(fault)
            return
        else:
            ending = ended_by(message, self._call.exchange.model)
        if engine is self._engine and not self._over.done():
            self._over.set_result(ending)

    async def _part(self) -> None:
        """From this engine, once it has said what it heard."""
        engine, self._engine = self._engine, None
        if engine is not None and self._telling is not None:
            # An engine that has died has no last words, and the next one is asked without it.
            with contextlib.suppress(ConnectionError, TimeoutError):
                await voice.finish(engine)
                await asyncio.wait_for(self._telling, _LAST_WORDS_SECONDS)
        await self._close()

    async def _close(self) -> None:
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.gather(self._telling, return_exceptions=True)
        await self._opened.aclose()
        self._items.clear()

    async def _leave(self, leaving: Leaving) -> Ending:
        await leaving.told()
        await self._warn(round(leaving.seconds_left * 1000), REASON)
        await asyncio.sleep(leaving.seconds_left)
        return Ending(Close.GOING_AWAY, REASON)

    async def _warn(self, deadline_ms: int, reason: str) -> None:
        """OpenAI has no event for this."""
        await self._call.say(error_event(NotReadyError(f"The session ends in {deadline_ms} ms: {reason}")))


def _decoded(text: str | None) -> _ClientEvent:
    try:
        return _DECODER.decode(text or "")
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidRequestError(f"The message is no event: {wrong_in(error).message}.") from error

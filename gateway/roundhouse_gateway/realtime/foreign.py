"""A session's socket to an engine that speaks another protocol: to those who use it, one that speaks ours.

Which protocol is in the `Speaker`; here is what waits: the greeting, the engine's frames, and whoever is
slower.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final, Protocol

import aiohttp
import msgspec
from pydantic import ValidationError

from roundhouse_api.enums import Dialect
from roundhouse_api.realtime import Close, Control, Failed, Problem, SessionBegin, read_control, write
from roundhouse_gateway.access import Access
from roundhouse_gateway.entry import Entry
from roundhouse_gateway.errors import EngineFailedError
from roundhouse_gateway.realtime.asked import Asked
from roundhouse_gateway.realtime.closing import Ending
from roundhouse_gateway.realtime.engine_socket import EngineSocket
from roundhouse_gateway.realtime.openai_engine import OpenAISpeaker
from roundhouse_gateway.realtime.speaches import SpeachesSpeaker
from roundhouse_gateway.realtime.speaker import LAG, Said, Speaker, begin, failed
from roundhouse_gateway.realtime.turns import HANDSHAKE_SECONDS
from roundhouse_gateway.realtime.vllm import VllmSpeaker

SPEAKERS: Final[dict[str, Callable[[str, Asked], Speaker]]] = {
    Dialect.OPENAI: OpenAISpeaker,
    Dialect.VLLM: VllmSpeaker,
    Dialect.SPEACHES: SpeachesSpeaker,
}
log = logging.getLogger("roundhouse.gateway.realtime")

_HEARD_AHEAD: Final = 256
"""Events that wait for a slow client, before the engine waits too."""
PATIENCE_SECONDS: Final = 120.0
"""How long an engine may say nothing while so much waits for it that its client waits too."""


class Inlet(Protocol):
    """See `inlet`, which is imported where there is need of it."""

    def take(self, data: bytes) -> bytes: ...

    def rest(self) -> bytes: ...


class ForeignSocket:
    """Speaks ours to the routes, and the speaker's to the engine."""

    def __init__(self, socket: EngineSocket, speaker: Speaker, inlet: Inlet, access: Access) -> None:
        self._socket = socket
        self._speaker = speaker
        self._inlet = inlet
        self._access = access
        self._heard: asyncio.Queue[aiohttp.WSMessage] = asyncio.Queue(_HEARD_AHEAD)
        self._in_turn = asyncio.Lock()
        self._told = asyncio.Event()
        self._over = False
        self._listening: asyncio.Task[None] | None = None

    async def greet(self, begin: SessionBegin) -> None:
        """Until the engine listens; raises `EngineFailedError` where it does not get there."""
        ready = False
        while not ready:
            message = await self._socket.receive()
            if message.type is not aiohttp.WSMsgType.TEXT:
                raise EngineFailedError(f"Engine '{begin.model}' broke off its session.")
            try:
                greeting = self._speaker.greet(self._access.blotted_text(message.data))
            except msgspec.DecodeError as error:
                raise EngineFailedError(f"Engine '{begin.model}' does not speak JSON.") from error
            for each in greeting.says:
                await self._socket.send_str(each)
            ready = greeting.ready
        self._heard.put_nowait(_text(write(begin)))
        self._listening = asyncio.create_task(self._listen(begin.model))

    async def send_bytes(self, data: bytes) -> None:
        if self._waits():
            await self._until_it_goes_on()
        samples = self._inlet.take(data)
        if samples:
            async with self._in_turn:
                await self._say(self._speaker.audio(samples))

    async def send_str(self, data: str) -> None:
        try:
            control = read_control(data)
        except ValidationError:
            await self._heard.put(_text(write(_not_heeded(data))))
            await self._heard.put(_close(Ending(Close.PARAMETERS, "The message is none that there is.")))
            return
        if self._waits():
            await self._until_it_goes_on()
        async with self._in_turn:
            await self._say(self._ended(control))

    async def receive(self) -> aiohttp.WSMessage:
        return await self._heard.get()

    async def close(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
        await self._socket.close()

    def _waits(self) -> bool:
        return self._speaker.full and not self._over

    async def _until_it_goes_on(self) -> None:
        """Nothing more is taken from the client meanwhile. Raises `ConnectionError` where it does not."""
        try:
            while self._waits():
                self._told.clear()
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await self._told.wait()
        except TimeoutError:
            await self._say(failed(f"The engine has said nothing for {PATIENCE_SECONDS:g} s."))
            raise ConnectionAbortedError("the engine does not go on") from None
        if self._over:
            raise ConnectionResetError("the engine has ended the session")

    def _ended(self, control: Control) -> Iterable[Said]:
        """What a resampler keeps belongs to the utterance that ends."""
        if samples := self._inlet.rest():
            yield from self._speaker.audio(samples)
        yield from self._speaker.control(control)

    async def _listen(self, model: str) -> None:
        """Whatever ends it, those who wait for the engine hear of it."""
        try:
            await self._hear()
        except msgspec.DecodeError as error:
            log.warning("Engine %r does not speak its protocol any more: %s", model, error)
        except Exception:
            log.exception("What engine %r said in a session cannot be told", model)
        self._over = True
        self._told.set()
        await self._heard.put(aiohttp.WSMessage(aiohttp.WSMsgType.CLOSED, None, None))

    async def _hear(self) -> None:
        while (message := await self._socket.receive()).type is aiohttp.WSMsgType.TEXT:
            try:
                async with self._in_turn:
                    await self._say(self._speaker.told(self._access.blotted_text(message.data)))
            except ConnectionError:
                continue  # the next frame tells how it ended
            self._told.set()

    async def _say(self, parts: Iterable[Said]) -> None:
        """In order: all of them are known before the first has gone."""
        for each in list(parts):
            match each:
                case str():
                    await self._socket.send_str(each)
                case Ending():
                    await self._heard.put(_close(each))
                case _:
                    await self._heard.put(_text(write(each)))


async def inlet_for(asked: Asked, speaker: Speaker) -> Inlet:
    """Made before there is a socket: the first takes a second, in which a client may leave."""
    return await asyncio.to_thread(_inlet, asked, speaker.rate)


async def speaking(
    socket: EngineSocket, speaker: Speaker, inlet: Inlet, asked: Asked, entry: Entry
) -> ForeignSocket:
    """The socket once its engine listens, closed where it does not; a silent one raises `TimeoutError`."""
    made = ForeignSocket(socket, speaker, inlet, entry.access)
    try:
        async with asyncio.timeout(HANDSHAKE_SECONDS):
            await made.greet(begin(entry.model.id, asked))
    except BaseException:
        await made.close()
        raise
    return made


def _inlet(asked: Asked, rate: int) -> Inlet:
    from roundhouse_gateway.realtime import inlet  # noqa: PLC0415 - megabytes, for some

    return inlet.Inlet(asked.encoding, asked.sample_rate, rate)


def _text(data: str) -> aiohttp.WSMessage:
    return aiohttp.WSMessage(aiohttp.WSMsgType.TEXT, data, None)


def _close(ending: Ending) -> aiohttp.WSMessage:
    return aiohttp.WSMessage(aiohttp.WSMsgType.CLOSE, ending.code, ending.reason)


def _not_heeded(data: str) -> Failed:
    message = f"There is no message {data[:80]!r}; there are flush, clear and end."
    problem = Problem(type="invalid_request_error", message=message, param=None, code="invalid_value")
    return Failed(type="error", lag_ms=LAG, error=problem)

"""A session between two sockets: what comes from one is written to the other before anything else is done.

No task, queue or future is touched for a frame. Whoever takes nothing more has the other side wait, in the
network. How long a session lasts, and what is said at its end, is left to the route.
"""

import asyncio
from typing import Final

import aiohttp
import msgspec

from roundhouse_api.realtime import MESSAGE_BYTES, Close
from roundhouse_gateway.errors import EngineFailedError
from roundhouse_gateway.realtime.client_socket import ClientSocket
from roundhouse_gateway.realtime.closing import Ending, ended_by, ending_of
from roundhouse_gateway.realtime.engine_link import EngineLink
from roundhouse_gateway.realtime.pumps import Idle
from roundhouse_gateway.realtime.wire import BINARY, TEXT, masked, masked_anew, payload_start, unmasked

TOO_LARGE: Final = Ending(Close.TOO_LARGE, f"A frame may have {MESSAGE_BYTES} bytes at most.")


class Relay:
    """One session. `bytes`: of audio, so far."""

    def __init__(self, client: ClientSocket, engine: EngineLink, idle: Idle, model: str) -> None:
        self._client = client
        self._engine = engine
        self._idle = idle
        self._model = model
        self._begun = False
        self._ended: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self.bytes = 0

    def takes(self) -> bool:
        """Whether the client can be taken as it is, just let in."""
        return self._client.take(self, MESSAGE_BYTES)

    async def run(self) -> Ending:
        """Until the engine has ended it, or is gone."""
        self._engine.hear(self)
        if not self._client.writable.is_set():
            self.client_full()  # it was when it was taken, or is by what it has just heard
        return await self._ended

    def release(self) -> None:
        """What the client says is for others again."""
        self._client.release()

    def audio(self, frame: bytes) -> None:
        self._idle.heard()
        self.bytes += len(frame) - payload_start(frame)
        self._engine.send(masked_anew(frame))

    def message(self, data: bytes, *, is_text: bool) -> None:
        self._idle.heard()
        if len(data) > MESSAGE_BYTES:
            self.too_long()
        elif is_text:
            self._engine.send(masked(TEXT, data))
        else:
            self.bytes += len(data)
            self._engine.send(masked(BINARY, data))

    def too_long(self) -> None:
        self._client.pause()
        self._end(TOO_LARGE)

    def client_full(self) -> None:
        self._engine.pause()

    def client_free(self) -> None:
        self._engine.resume()

    def said(self, frame: bytes) -> None:
        if self._begun:
            self._client.write(frame)
        else:
            self._begin(frame[payload_start(frame) :])

    def _begin(self, event: bytes) -> None:
        """The first event names the model as the client knows it."""
        self._begun = True
        try:
            told = begun(event, self._model)
        except msgspec.MsgspecError:
            self._end(ending_of(EngineFailedError(f"Engine '{self._model}' does not speak JSON.")))
        else:
            self._client.write(unmasked(TEXT, told))

    def over(self, message: aiohttp.WSMessage) -> None:
        self._end(ended_by(message, self._model))

    def engine_full(self) -> None:
        self._client.pause()

    def engine_free(self) -> None:
        if not self._ended.done():
            self._client.resume()

    def _end(self, ending: Ending) -> None:
        if not self._ended.done():
            self._ended.set_result(ending)


def begun(event: bytes | str, model: str) -> bytes:
    """An engine's first event, which knows the model by the engine's name. Raises `msgspec.MsgspecError`."""
    members = msgspec.json.decode(event, type=dict[str, msgspec.Raw])
    return msgspec.json.encode(members | {"model": model})

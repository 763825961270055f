"""`WS /v1/audio/transcriptions/stream`: the protocol that engines speak, frames handed through as they are.

Only the first event is read, which names the engine's model where the client knows the public one. The engine
stops reading when it has enough, so a client that is too fast, or one that takes nothing, is waited for in
the network.
"""

import asyncio
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import msgspec

from roundhouse_api.realtime import DEFAULT_SAMPLE_RATE, MESSAGE_BYTES, Close, Parameter
from roundhouse_gateway.errors import GatewayError, InvalidRequestError
from roundhouse_gateway.realtime.call import Call
from roundhouse_gateway.realtime.closing import GONE, Ending, ended_by, ending_of
from roundhouse_gateway.realtime.engine_socket import EngineSocket
from roundhouse_gateway.realtime.leaving import REASON, Leaving
from roundhouse_gateway.realtime.pumps import Bounds, Idle, first
from roundhouse_gateway.realtime.sessions import Sessions, WaitingClient, Wanted
from roundhouse_gateway.usage import Usage

_SAMPLE_BYTES: Final = {"pcm_s16le": 2, "pcm_f32le": 4, "mulaw": 1, "alaw": 1}


@dataclass(frozen=True, slots=True)
class Native:
    """The route."""

    sessions: Sessions
    bounds: Bounds

    async def serve(self, call: Call) -> Ending:
        wanted = _wanted(call)
        async with self.sessions.open(wanted, WaitingClient(call.receive), call.exchange) as engine:
            await call.accept()
            relay = _Relay(call, engine, Idle(self.bounds))
            try:
                return await first(
                    relay.up(), relay.down(), relay.idle.over(), relay.leave(self.sessions.leaving)
                )
            finally:
                call.exchange.usage = Usage(audio_seconds=relay.bytes / _byte_rate(wanted))

    async def end(self, call: Call, ending: Ending) -> None:
        await call.end(ending)

    async def refuse(self, call: Call, error: GatewayError) -> Ending:
        if not call.accepted:
            await call.accept()
        told = {"type": error.type, "message": error.message, "param": error.param, "code": error.code}
        await call.say({"type": "error", "error": told, "lagMs": 0})
        ending = ending_of(error)
        await call.end(ending)
        return ending


class _Relay:
    """One session. `bytes`: of audio, so far."""

    def __init__(self, call: Call, engine: EngineSocket, idle: Idle) -> None:
        self._call = call
        self._engine = engine
        self.idle = idle
        self.bytes = 0

    async def up(self) -> Ending:
        """From the client to the engine, until the client leaves."""
        receive, engine = self._call.receive, self._engine
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                return GONE
            self.idle.heard()
            data: bytes | None = message.get("bytes")
            try:
                if data is not None:
                    if len(data) > MESSAGE_BYTES:
                        return Ending(Close.TOO_LARGE, f"A frame may have {MESSAGE_BYTES} bytes at most.")
                    self.bytes += len(data)
                    await engine.send_bytes(data)
                else:
                    await engine.send_str(message.get("text") or "")
            except ConnectionError:
                await asyncio.Event().wait()  # `down` has what the engine said, or that it is gone

    async def down(self) -> Ending:
        """From the engine to the client, until the engine ends the session."""
        engine, call = self._engine, self._call
        message = await engine.receive()
        if message.type is aiohttp.WSMsgType.TEXT:
            await call.say(msgspec.json.decode(message.data) | {"model": call.exchange.model})
            while (message := await engine.receive()).type is aiohttp.WSMsgType.TEXT:
                await call.send({"type": "websocket.send", "text": message.data})
        return ended_by(message, call.exchange.model)

    async def leave(self, leaving: Leaving) -> Ending:
        await leaving.told()
        deadline_ms = round(leaving.seconds_left * 1000)
        event: dict[str, Any] = {"type": "session.ending", "deadlineMs": deadline_ms, "reason": REASON}
        await self._call.say({**event, "lagMs": 0})
        await asyncio.sleep(leaving.seconds_left)
        return Ending(Close.GOING_AWAY, REASON)


def _wanted(call: Call) -> Wanted:
    query = call.credentials.query
    for name, values in query.items():
        if len(values) > 1:
            raise InvalidRequestError(f"The parameter {name!r} is given {len(values)} times.", param=name)
    single = {name: values[0] for name, values in query.items() if values[0]}
    return Wanted(single.pop(Parameter.MODEL, ""), single)


def _byte_rate(wanted: Wanted) -> float:
    """As the engine has taken the parameters by now."""
    given = wanted.parameters
    rate = int(given.get(Parameter.SAMPLE_RATE, DEFAULT_SAMPLE_RATE))
    return float(rate * _SAMPLE_BYTES[given.get(Parameter.ENCODING, "pcm_s16le")])

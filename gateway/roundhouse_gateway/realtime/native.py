"""`WS /v1/audio/transcriptions/stream`: the protocol that engines speak, frames handed through as they are.

Only the first event is read, which names the engine's model where the client knows the public one. Frames of
an engine that speaks the protocol itself pass in a `Relay`, socket to socket; those of one that speaks
another, or of a client that spoke before it was let in, are pumped message by message. The engine stops
reading when it has enough, so a client that is too fast, or one that takes nothing, is waited for in the
network.
"""

import asyncio
import re
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from roundhouse_api.realtime import DEFAULT_SAMPLE_RATE, MESSAGE_BYTES, Close, Parameter
from roundhouse_gateway.errors import GatewayError, InvalidRequestError
from roundhouse_gateway.realtime.call import Call
from roundhouse_gateway.realtime.client_socket import socket_of
from roundhouse_gateway.realtime.closing import GONE, Ending, ended_by, ending_of
from roundhouse_gateway.realtime.engine_link import EngineLink
from roundhouse_gateway.realtime.engine_socket import EngineSocket
from roundhouse_gateway.realtime.leaving import REASON, Leaving
from roundhouse_gateway.realtime.pumps import Bounds, Idle, first
from roundhouse_gateway.realtime.relay import TOO_LARGE, Relay, begun
from roundhouse_gateway.realtime.sessions import Sessions, Wanted
from roundhouse_gateway.usage import Usage

_SAMPLE_BYTES: Final = {"pcm_s16le": 2, "pcm_f32le": 4, "mulaw": 1, "alaw": 1}


@dataclass(frozen=True, slots=True)
class Native:
    """The route."""

    sessions: Sessions
    bounds: Bounds

    async def serve(self, call: Call) -> Ending:
        return await first(self._session(call), _leave(call, self.sessions.leaving))

    async def _session(self, call: Call) -> Ending:
        wanted = _wanted(call)
        async with self.sessions.open(wanted, call, call.exchange) as engine:
            if not call.accepted:
                await call.accept()
            idle = Idle(self.bounds)
            way = _relay(call, engine, idle) or _Pumps(call, engine, idle)
            ways = [_gone(call), way.run()] if isinstance(way, Relay) else [way.up(), way.down()]
            try:
                return await first(*ways, idle.over())
            finally:
                if isinstance(way, Relay):
                    way.release()
                call.exchange.usage = Usage(audio_seconds=way.bytes / _byte_rate(wanted))

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


def _relay(call: Call, engine: EngineSocket, idle: Idle) -> Relay | None:
    """None where messages cannot be passed on as they are."""
    client = socket_of(call.scope)
    if client is None or not isinstance(engine, EngineLink):
        return None
    relay = Relay(client, engine, idle, call.exchange.model)
    return relay if relay.takes() else None


async def _gone(call: Call) -> Ending:
    """Once the client is."""
    while (await call.receive())["type"] != "websocket.disconnect":
        pass
    return GONE


async def _leave(call: Call, leaving: Leaving) -> Ending:
    """Tells also a client that waits for a place."""
    await leaving.told()
    if not call.accepted:
        await call.accept()
    deadline_ms = round(leaving.seconds_left * 1000)
    event: dict[str, Any] = {"type": "session.ending", "deadlineMs": deadline_ms, "reason": REASON}
    await call.say({**event, "lagMs": 0})
    await asyncio.sleep(leaving.seconds_left)
    return Ending(Close.GOING_AWAY, REASON)


class _Pumps:
    """One session. `bytes`: of audio, so far."""

    def __init__(self, call: Call, engine: EngineSocket, idle: Idle) -> None:
        self._call = call
        self._engine = engine
        self._idle = idle
        self.bytes = 0

    async def up(self) -> Ending:
        """From the client to the engine, until the client leaves."""
        receive, engine = self._call.receive, self._engine
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                return GONE
            self._idle.heard()
            data: bytes | None = message.get("bytes")
            try:
                if data is not None:
                    if len(data) > MESSAGE_BYTES:
                        return TOO_LARGE
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
            told = begun(message.data, call.exchange.model).decode()
            await call.send({"type": "websocket.send", "text": told})
            while (message := await engine.receive()).type is aiohttp.WSMsgType.TEXT:
                await call.send({"type": "websocket.send", "text": message.data})
        return ended_by(message, call.exchange.model)


def _wanted(call: Call) -> Wanted:
    query = call.credentials.query
    for name, values in query.items():
        if len(values) > 1:
            raise InvalidRequestError(f"The parameter {name!r} is given {len(values)} times.", param=name)
    single = {name: values[0] for name, values in query.items() if values[0]}
    return Wanted(single.pop(Parameter.MODEL, ""), single)


def _byte_rate(wanted: Wanted) -> float:
    """As far as the parameters can be read: what is right is for the engine to say, and some let all pass."""
    given = wanted.parameters
    rate = given.get(Parameter.SAMPLE_RATE, "")
    samples = int(rate) if re.fullmatch("[1-9][0-9]{0,5}", rate, re.ASCII) else DEFAULT_SAMPLE_RATE
    return float(samples * _SAMPLE_BYTES.get(given.get(Parameter.ENCODING, ""), _SAMPLE_BYTES["pcm_s16le"]))

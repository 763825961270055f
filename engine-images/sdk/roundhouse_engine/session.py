"""One realtime session on the server's side: audio and orders to its runner, events back to the client.

Every session ends with a reason. The client's audio is read some minutes ahead of the runner: its pings stand
behind its audio, and most clients leave that hear nothing of theirs for twenty seconds. What a recording
holds beyond that waits in the network and not in memory.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, assert_never

from starlette.types import Message, Receive, Send

from roundhouse_engine.errors import EngineError, Refusal
from roundhouse_engine.events import (
    Cleared,
    Event,
    Flushed,
    Guessed,
    Heard,
    SpeechBegan,
    SpeechOver,
    Uttered,
)
from roundhouse_engine.formats import Segment
from roundhouse_engine.freeing import end
from roundhouse_engine.lag import Lag, Verdict
from roundhouse_engine.orders import Unanswered, read_order
from roundhouse_engine.samples import sample_bytes
from roundhouse_engine.stream_ask import StreamAsk
from roundhouse_engine.stream_frames import Frame, Order, packed

AHEAD_BYTES: Final = 8 << 20
"""How much of one session is read before its runner takes it: four minutes of 16 kHz, 16 bit."""
AHEAD_BYTES_IN_ALL: Final = 64 << 20
"""And of all sessions together, where these are more than eight."""
_READ_ON_BYTES: Final = 64 << 10
"""Once so much has been taken more is read: soon, for there may be a ping in it."""
_WAITS_SECONDS: Final = 1.0
"""Whoever has so much audio unheard waits for it, and is not idle."""
WATCH_SECONDS: Final = 0.25
_PIECE_SECONDS: Final = 0.5
_LONGEST_REASON: Final = 120

NORMAL, GOING_AWAY, FAILED = 1000, 1012, 1011
LAG, PARAMETERS, IDLE, LIMIT, NOTHING_RUNS = 4010, 4400, 4408, 4429, 4503
_OF_REFUSAL: Final = {Refusal.FULL: LIMIT, Refusal.LOADING: NOTHING_RUNS, Refusal.DRAINING: GOING_AWAY}


@dataclass(frozen=True, slots=True)
class Ending:
    """`code` 0: the client is gone, and nobody is there to be told."""

    code: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long a client may be silent, and the session go on once the engine leaves; what is read ahead."""

    idle_seconds: float
    drain_seconds: float
    ahead_bytes: int = AHEAD_BYTES


@dataclass(frozen=True, slots=True)
class Client:
    """The other side of the WebSocket, as ASGI has it; `gone` is set when its connection is."""

    receive: Receive
    send: Send
    gone: asyncio.Event


@dataclass(frozen=True, slots=True)
class Runner:
    """Where the audio goes, what comes of it, and when all that is to leave."""

    writer: asyncio.StreamWriter
    events: AsyncGenerator[Event, None]
    leaving: Callable[[], Awaitable[None]]


class Session:
    """`begin` and `run` are the whole of it after the handshake."""

    def __init__(self, ask: StreamAsk, bounds: Bounds, lag: Lag, client: Client) -> None:
        self._ask = ask
        self._bounds = bounds
        self._lag = lag
        self._receive, self._send, self._gone = client.receive, client.send, client.gone
        self._unanswered = Unanswered()
        self._byte_rate = ask.stream.sample_rate * sample_bytes(ask.stream.encoding)

    async def begin(self, session_id: str, version: int) -> None:
        """The first event: what was agreed."""
        stream = self._ask.stream
        await self._say(
            {
                "type": "session.begin",
                "version": version,
                "sessionId": session_id,
                "model": self._ask.model,
                "language": self._ask.options.language,
                "encoding": stream.encoding,
                "sampleRate": stream.sample_rate,
                "interimResults": stream.interim_results,
                "wordTimestamps": self._ask.options.words,
                "vad": stream.vad,
            }
        )

    async def run(self, runner: Runner, on_lag: Callable[[float], None]) -> Ending:
        """How it ended, as the client was told unless it is gone. `on_lag` hears of the lag in seconds."""
        ahead = self._bounds.ahead_bytes
        runner.writer.transport.set_write_buffer_limits(ahead, max(ahead - _READ_ON_BYTES, 0))
        try:
            ending = await _first(
                self._read(runner.writer),
                self._left(),
                self._tell(runner.events),
                self._watch(on_lag),
                self._leave(runner.leaving),
            )
        except EngineError as error:
            ending = ending_of(error)
            if ending.code != GOING_AWAY:  # which `session.ending` has told of
                await self._say({"type": "error", "error": error.problem.envelope})
        except (ConnectionError, OSError):
            ending = Ending(0)
        finally:
            runner.writer.transport.abort()  # what the runner has not taken is for nobody any more
        if ending.code:
            told = {"reason": ending.reason, "audioSeconds": round(self._lag.received, 3)}
            await self._say({"type": "session.end", **told})
            await self._send(close_message(ending))
        return ending

    async def _say(self, event: dict[str, Any]) -> None:
        text = json.dumps({**event, "lagMs": self._lag.milliseconds}, ensure_ascii=False)
        await self._send({"type": "websocket.send", "text": text})

    async def _read(self, writer: asyncio.StreamWriter) -> Ending:
        """From the client to the runner, until the client leaves."""
        ended = False
        while True:
            try:
                async with asyncio.timeout(self._bounds.idle_seconds):
                    message = await self._receive()
            except TimeoutError:
                if ended or self._unanswered.orders or self._lag.backlog > _WAITS_SECONDS:
                    continue
                return Ending(IDLE, f"Nothing was sent for {self._bounds.idle_seconds:g} seconds.")
            if message["type"] == "websocket.disconnect":
                return Ending(0)
            for frame in () if ended else self._frames(message):
                ended = ended or frame.order is Order.END
                await self._unanswered.add(frame.order)
                writer.write(packed(frame))
                with contextlib.suppress(ConnectionError):  # its runner died, which `_tell` hears of
                    await writer.drain()

    async def _left(self) -> Ending:
        """A client that is not read from leaves unheard: its connection tells."""
        await self._gone.wait()
        return Ending(0)

    def _frames(self, message: Message) -> list[Frame]:
        if (audio := message.get("bytes")) is not None:
            self._lag.receive(len(audio) / self._byte_rate)
            piece = int(_PIECE_SECONDS * self._byte_rate)
            return [Frame(Order.AUDIO, audio[start : start + piece]) for start in range(0, len(audio), piece)]
        return [read_order(message.get("text") or "")]

    async def _tell(self, events: AsyncGenerator[Event, None]) -> Ending:
        """From the runner to the client, until the runner is through."""
        began = 0.0
        async with contextlib.aclosing(events):
            async for event in events:
                if isinstance(event, SpeechBegan):
                    began = event.at
                elif isinstance(event, SpeechOver):
                    self._lag.excuse(event.at - began)
                if isinstance(event, Heard):
                    self._lag.process(event.seconds)
                elif (told := self._told(event)) is not None:
                    await self._say(told)
        return Ending(NORMAL, "The client ended the session.")

    def _told(self, event: Event) -> dict[str, Any] | None:
        match event:
            case SpeechBegan(utterance, at):
                return {"type": "vad.speech_start", "utterance": utterance, "at": _time(at)}
            case SpeechOver(utterance, at):
                return {"type": "vad.speech_end", "utterance": utterance, "at": _time(at)}
            case Guessed(utterance, text, start, end):
                times = {"start": _time(start), "end": _time(end)}
                return {"type": "transcript.partial", "utterance": utterance, "text": text, **times}
            case Uttered(utterance, found):
                return {"type": "transcript.final", "utterance": utterance, **self._final(found)}
            case Flushed(given) | Cleared(given):
                self._unanswered.answered()
                name = "flushed" if isinstance(event, Flushed) else "cleared"
                return {"type": name, **({"id": given} if given else {})}
            case _:
                return None  # of recordings, or of the runner

    def _final(self, found: Segment) -> dict[str, Any]:
        final: dict[str, Any] = {
            "text": found.text.strip(),
            "start": _time(found.start),
            "end": _time(found.end),
            "language": found.language,
        }
        if self._ask.options.words:
            final["words"] = [
                {"text": word.text, "start": _time(word.start), "end": _time(word.end)}
                for word in found.words
            ]
        return final

    async def _watch(self, on_lag: Callable[[float], None]) -> Ending:
        """Until the engine is too far behind."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            on_lag(self._lag.seconds)
            match self._lag.judge():
                case Verdict.FINE:
                    pass
                case Verdict.WARN:
                    message = "The engine falls behind the audio; it has too much to do."
                    await self._say({"type": "warning", "code": "lag", "message": message})
                case Verdict.END:
                    return Ending(LAG, f"The engine is {self._lag.seconds:.1f} s behind the audio.")
                case _ as never:
                    assert_never(never)

    async def _leave(self, leaving: Callable[[], Awaitable[None]]) -> Ending:
        await leaving()
        seconds = self._bounds.drain_seconds
        reason = "The engine, or this model in it, is leaving; begin another session."
        deadline = {"deadlineMs": round(seconds * 1000), "reason": reason}
        await self._say({"type": "session.ending", **deadline})
        await asyncio.sleep(seconds)
        return Ending(GOING_AWAY, reason)


def ending_of(error: EngineError) -> Ending:
    problem = error.problem
    if problem.reason is not None:
        return Ending(_OF_REFUSAL[problem.reason], problem.message)
    return Ending(PARAMETERS if problem.status < 500 else FAILED, problem.message)


def close_message(ending: Ending) -> Message:
    """A close frame has room for 123 bytes of reason."""
    reason = ending.reason.encode()[:_LONGEST_REASON].decode(errors="ignore")
    return {"type": "websocket.close", "code": ending.code, "reason": reason}


def _time(seconds: float) -> float:
    return round(seconds, 3)


async def _first(*ways: Awaitable[Ending]) -> Ending:
    """How the first of them ends; the others are cancelled."""
    tasks = [asyncio.ensure_future(way) for way in ways]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(task for task in tasks if task in done).result()
    finally:
        await end(*tasks)

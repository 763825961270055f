"""Engines on loopback that hold sessions as OpenAI, vLLM and Speaches do, their quirks included.

Written after vLLM's commit 055e47c (`speech_to_text/realtime/{connection,protocol}.py`) and Speaches' commit
870e1e1 (`realtime/input_audio_buffer_event_router.py`, `session_event_router.py`, `types/realtime.py`). What
they hear is scripted: every quarter of a second of sound is a word, silence is none. OpenAI's events are
those of its official client, by which all that is said to it and by it is checked.
"""

import asyncio
import base64
import json
from dataclasses import dataclass, field
from itertools import count, cycle, islice
from typing import Any

import numpy as np
from aiohttp import WSMsgType, web
from numpy.typing import NDArray
from openai.types.realtime import RealtimeClientEvent, RealtimeServerEvent
from pydantic import TypeAdapter

WORDS = ("go", "forward", "ten", "meters")
WORD_SECONDS = 0.25
LOUD = 0.05
FRAME_SECONDS = 0.08

Samples = NDArray[np.float32]


def speech(seconds: float, rate: int = 16_000) -> bytes:
    """A tone of 440 Hz, 16 bit."""
    times = np.arange(round(seconds * rate)) / rate
    return (np.sin(2 * np.pi * 440 * times) * 12_000).astype("<i2").tobytes()


def silence(seconds: float, rate: int = 16_000) -> bytes:
    return bytes(2 * round(seconds * rate))


def _samples(event: dict[str, Any]) -> Samples:
    return np.frombuffer(base64.b64decode(event["audio"]), "<i2").astype(np.float32) / np.float32(32768)


def _loud(samples: Samples, rate: int) -> NDArray[np.bool_]:
    """Whether each 10 ms are."""
    size = rate // 100
    pieces = samples[: len(samples) // size * size].reshape(-1, size)
    return np.asarray(np.abs(pieces).max(axis=1, initial=0.0) > LOUD)


def spoken(seconds: float) -> list[str]:
    """The words of so much sound."""
    return list(islice(cycle(WORDS), round(seconds / WORD_SECONDS)))


@dataclass
class Vllm:
    """One engine, and what came in its sessions. `model` is the only one that it knows."""

    model: str
    samples: int = 0
    thrown_away: int = 0
    asked: list[str] = field(default_factory=list)
    fails: bool = False

    async def talk(self, _: web.Request, socket: web.WebSocketResponse) -> None:
        await _VllmSession(self, socket).run()


class _VllmSession:
    def __init__(self, engine: Vllm, socket: web.WebSocketResponse) -> None:
        self._engine = engine
        self._socket = socket
        self._queue: asyncio.Queue[Samples | None] = asyncio.Queue()
        self._generation: asyncio.Task[None] | None = None
        self._known = False

    async def run(self) -> None:
        await self._send(type="session.created", id="sess-1", created=1)
        async for message in self._socket:
            if message.type is WSMsgType.TEXT:
                await self._heed(json.loads(message.data))
        if self._generation is not None:
            self._generation.cancel()

    async def _heed(self, event: dict[str, Any]) -> None:
        self._engine.asked.append(event["type"])
        match event["type"]:
            case "session.update" if event.get("model") != self._engine.model:
                said = f"The model `{event.get('model')}` does not exist."
                await self._send(type="error", error=said, code="model_not_found")
            case "session.update":
                self._known = True
            case "input_audio_buffer.append":
                found = _samples(event)
                if not len(found):
                    await self._send(type="error", error="Invalid audio data", code="invalid_audio")
                    return
                self._engine.samples += len(found)
                self._queue.put_nowait(found)
            case "input_audio_buffer.commit" if not self._known:
                await self._send(type="error", error="Model not validated.", code="model_not_validated")
            case "input_audio_buffer.commit" if event.get("final"):
                self._queue.put_nowait(None)
            case "input_audio_buffer.commit":
                if self._generation is None or self._generation.done():  # else it is ignored
                    self._generation = asyncio.create_task(self._generate())
            case kind:
                await self._send(type="error", error=f"Unknown event type: {kind}", code="unknown_event")

    async def _generate(self) -> None:
        """A delta for each 80 ms of audio: a word as soon as its sound is whole, else nothing."""
        words, said, loud, rest = cycle(WORDS), "", 0.0, np.zeros(0, np.float32)
        size, over = round(FRAME_SECONDS * 16_000), False
        while not over:
            samples = await self._queue.get()
            over = samples is None
            if self._engine.fails:
                await self._send(type="error", error="EngineCore died", code="processing_error")
                return
            rest = np.concatenate((rest, np.zeros(size, np.float32) if samples is None else samples))
            while len(rest) >= size:
                loud += float(_loud(rest[:size], 16_000).sum()) / 100
                rest, delta = rest[size:], ""
                if loud >= WORD_SECONDS - 0.02:
                    loud, delta = loud - WORD_SECONDS, f" {next(words)}"
                said += delta
                await self._send(type="transcription.delta", delta=delta)
        usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
        await asyncio.sleep(0.05)  # what comes now is thrown away
        await self._send(type="transcription.done", text=said, usage=usage)
        while not self._queue.empty():
            left = self._queue.get_nowait()
            self._engine.thrown_away += 0 if left is None else len(left)

    async def _send(self, **event: object) -> None:
        await self._socket.send_json(event)


@dataclass
class Speaches:
    """One engine, and what came in its sessions."""

    samples: int = 0
    queries: list[dict[str, str]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    fails: bool = False

    async def talk(self, request: web.Request, socket: web.WebSocketResponse) -> None:
        self.queries.append(dict(request.query))
        await _SpeachesSession(self, socket).run()


@dataclass
class _Buffer:
    id: str
    samples: Samples = field(default_factory=lambda: np.zeros(0, np.float32))
    start_ms: int | None = None
    end_ms: int | None = None

    @property
    def ms(self) -> int:
        return len(self.samples) // 16


class _SpeachesSession:
    def __init__(self, engine: Speaches, socket: web.WebSocketResponse) -> None:
        self._engine = engine
        self._socket = socket
        self._ids = (f"item_{number}" for number in count(1))
        self._buffer = _Buffer(next(self._ids))
        self._detection: dict[str, Any] = {"threshold": 0.9, "silence_duration_ms": 550}
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        await self._send("session.created", session={"id": "sess_1", "turn_detection": self._detection})
        async for message in self._socket:
            if message.type is WSMsgType.TEXT:
                await self._heed(json.loads(message.data))
        for task in self._tasks:
            task.cancel()

    async def _heed(self, event: dict[str, Any]) -> None:
        self._engine.asked.append(event["type"])
        match event["type"]:
            case "session.update":
                await self._update(event["session"])
            case "input_audio_buffer.append":
                await self._append(_samples(event))
            case "input_audio_buffer.commit" if self._buffer.ms < 100:
                size = (
                    f"Expected at least 100ms of audio, but buffer only has {self._buffer.ms}.00ms of audio."
                )
                await self._error(f"Error committing input audio buffer: buffer too small. {size}")
            case "input_audio_buffer.commit":
                await self._commit()
            case "input_audio_buffer.clear":
                self._buffer = _Buffer(next(self._ids))
                await self._send("input_audio_buffer.cleared")
            case kind:
                await self._error(f"{kind!r} is no event of a client")

    async def _update(self, session: dict[str, Any]) -> None:
        found = session.get("turn_detection", {})
        if found is None:  # which its own types do not allow
            await self._error("validation error for tagged-union")
            return
        if "prefix_padding_ms" in found:
            await self._error("Specifying `session.turn_detection.prefix_padding_ms` is not supported.")
        self._detection = self._detection | found
        await self._send("session.updated", session={"id": "sess_1", "turn_detection": self._detection})

    async def _append(self, samples: Samples) -> None:
        """At 24 kHz; the detector looks at the last three seconds."""
        self._engine.samples += len(samples)
        places = np.arange(0, len(samples), 1.5)
        resampled = np.interp(places, np.arange(len(samples)), samples).astype(np.float32)
        buffer = self._buffer
        buffer.samples = np.concatenate((buffer.samples, resampled))
        window = buffer.samples[-3 * 16_000 :]
        detects = self._detection["threshold"] < 1
        loud: list[int] = np.flatnonzero(_loud(window, 16_000)).tolist() if detects else []
        if buffer.start_ms is None:
            if loud:
                buffer.start_ms = buffer.ms - len(window) // 16 + loud[0] * 10
                await self._send(
                    "input_audio_buffer.speech_started", item_id=buffer.id, audio_start_ms=buffer.start_ms
                )
            return
        quiet_ms = len(window) // 16 - (loud[-1] + 1) * 10 if loud else 3000
        over = quiet_ms >= self._detection["silence_duration_ms"]
        if not loud or (over and buffer.ms > 3000):
            buffer.end_ms = buffer.ms
            await self._send(
                "input_audio_buffer.speech_stopped", item_id=buffer.id, audio_end_ms=buffer.end_ms
            )
            await self._commit()

    async def _commit(self) -> None:
        buffer, self._buffer = self._buffer, _Buffer(next(self._ids))
        await self._send("input_audio_buffer.committed", item_id=buffer.id, previous_item_id=None)
        if buffer.start_ms is not None and buffer.end_ms is None:
            await self._socket.close(code=1011)  # of its own assertion
            return
        self._tasks.append(asyncio.create_task(self._transcribe(buffer)))

    async def _transcribe(self, buffer: _Buffer) -> None:
        item = {"id": buffer.id, "type": "message", "role": "user", "status": "completed"}
        await self._send("conversation.item.created", item=item, previous_item_id=None)
        await asyncio.sleep(0.02)
        if self._engine.fails:
            await self._error("the model could not be loaded", kind="server_error")
            return
        text = " ".join(spoken(float(_loud(buffer.samples, 16_000).sum()) / 100))
        await self._send(
            "conversation.item.input_audio_transcription.completed",
            item_id=buffer.id,
            content_index=0,
            transcript=text,
            usage={"type": "duration", "seconds": buffer.ms / 1000},
        )

    async def _error(self, message: str, kind: str = "invalid_request_error") -> None:
        await self._send("error", error={"type": kind, "message": message, "code": None, "param": None})

    async def _send(self, kind: str, **members: object) -> None:
        await self._socket.send_json({"type": kind, "event_id": "event_1", **members})


_CLIENTS: TypeAdapter[Any] = TypeAdapter(RealtimeClientEvent)
_SERVERS: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)


@dataclass
class OpenAI:
    """One service, and what came in its sessions. `model` is the only one that it knows."""

    model: str
    samples: int = 0
    queries: list[dict[str, str]] = field(default_factory=list)
    sessions: list[dict[str, Any]] = field(default_factory=list)
    fails: bool = False

    async def talk(self, request: web.Request, socket: web.WebSocketResponse) -> None:
        self.queries.append(dict(request.query))
        await _OpenAISession(self, socket).run()


class _OpenAISession:
    """At 24 kHz; a commit ends what is spoken, and what it has no text for is told as the client's error."""

    def __init__(self, engine: OpenAI, socket: web.WebSocketResponse) -> None:
        self._engine = engine
        self._socket = socket
        self._ids = (f"item_{number}" for number in count(1))
        self._id = next(self._ids)
        self._buffer = np.zeros(0, np.float32)
        self._before_ms = 0
        self._speaks = False
        self._detection: dict[str, Any] | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        await self._send("session.created", session={"type": "transcription", "id": "sess_1", "object": "x"})
        async for message in self._socket:
            if message.type is WSMsgType.TEXT:
                event = json.loads(message.data)
                _CLIENTS.validate_python(event)
                await self._heed(event)
        for task in self._tasks:
            task.cancel()

    @property
    def _ms(self) -> int:
        return len(self._buffer) // 24

    async def _heed(self, event: dict[str, Any]) -> None:
        match event["type"]:
            case "session.update":
                await self._update(event["session"])
            case "input_audio_buffer.append":
                await self._append(_samples(event))
            case "input_audio_buffer.commit" if self._ms < 100:
                said = f"buffer too small. Expected at least 100ms of audio, but it has {self._ms}.00ms."
                error = {"code": "input_audio_buffer_commit_empty", "event_id": event.get("event_id")}
                message = f"Error committing input audio buffer: {said}"
                await self._send(
                    "error", error={"type": "invalid_request_error", "message": message, **error}
                )
            case "input_audio_buffer.commit":
                await self._commit()
            case "input_audio_buffer.clear":
                self._take()
                await self._send("input_audio_buffer.cleared")
            case kind:
                raise AssertionError(f"{kind!r} is not for a session of transcription")

    async def _update(self, session: dict[str, Any]) -> None:
        heard = session["audio"]["input"]
        assert (session["type"], heard["format"]) == ("transcription", {"type": "audio/pcm", "rate": 24_000})
        if heard["transcription"]["model"] != self._engine.model:
            message = f"Model {heard['transcription']['model']!r} is not supported for transcription."
            await self._send("error", error={"type": "invalid_request_error", "message": message})
            return
        self._engine.sessions.append(session)
        self._detection = heard["turn_detection"]
        await self._send("session.updated", session={**session, "id": "sess_1", "object": "x"})

    async def _append(self, samples: Samples) -> None:
        self._engine.samples += len(samples)
        self._buffer = np.concatenate((self._buffer, samples))
        if self._detection is None:
            return
        loud: list[int] = np.flatnonzero(_loud(self._buffer, 24_000)).tolist()
        if loud and not self._speaks:
            self._speaks = True
            at = self._before_ms + loud[0] * 10
            await self._send("input_audio_buffer.speech_started", item_id=self._id, audio_start_ms=at)
        if self._speaks and self._ms - (loud[-1] + 1) * 10 >= self._detection.get("silence_duration_ms", 500):
            at = self._before_ms + (loud[-1] + 1) * 10
            await self._send("input_audio_buffer.speech_stopped", item_id=self._id, audio_end_ms=at)
            await self._commit()

    def _take(self) -> tuple[str, Samples]:
        self._before_ms += self._ms
        taken, self._id, self._buffer = (self._id, self._buffer), next(self._ids), self._buffer[:0]
        self._speaks = False
        return taken

    async def _commit(self) -> None:
        item_id, samples = self._take()
        await self._send("input_audio_buffer.committed", item_id=item_id, previous_item_id=None)
        self._tasks.append(asyncio.create_task(self._transcribe(item_id, samples)))

    async def _transcribe(self, item_id: str, samples: Samples) -> None:
        named = {"item_id": item_id, "content_index": 0}
        await asyncio.sleep(0.02)
        if self._engine.fails:
            error = {"type": "server_error", "code": None, "message": "the model could not be loaded"}
            await self._send("conversation.item.input_audio_transcription.failed", error=error, **named)
            return
        words = spoken(float(_loud(samples, 24_000).sum()) / 100)
        for place, word in enumerate(words):
            delta = f" {word}" if place else word
            await self._send("conversation.item.input_audio_transcription.delta", delta=delta, **named)
        usage = {"type": "duration", "seconds": len(samples) / 24_000}
        completed = {"transcript": " ".join(words), "usage": usage}
        await self._send("conversation.item.input_audio_transcription.completed", **completed, **named)

    async def _send(self, kind: str, **members: object) -> None:
        event = {"type": kind, "event_id": "event_1", **members}
        _SERVERS.validate_python(event)
        await self._socket.send_json(event)

"""An engine on loopback that reads the form it is sent and does what a test tells it to."""

import asyncio
import hashlib
import json
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import BodyPartReader, web

from tests.conformance.gateway.loop_thread import LoopThread
from tests.support import servers

TEXT = "go forward ten meters"
VERBOSE = {
    "task": "transcribe",
    "language": "english",
    "duration": 2.1,
    "text": TEXT,
    "segments": [
        {
            "id": 0,
            "seek": 0,
            "start": 0.0,
            "end": 2.1,
            "text": " " + TEXT,
            "tokens": [],
            "temperature": 0.0,
            "avg_logprob": -0.1,
            "compression_ratio": 1.0,
            "no_speech_prob": 0.0,
        }
    ],
    "words": [{"word": "go", "start": 0.1, "end": 0.3}],
    "usage": {"type": "duration", "seconds": 3},
}


@dataclass
class Received:
    """One request: its headers by lower-case name, text fields in order, and what came of the file."""

    headers: dict[str, str]
    path: str
    fields: list[tuple[str, str]] = field(default_factory=list)
    filename: str | None = None
    file_type: str | None = None
    file_size: int = 0
    file_sha256: str = ""
    complete: bool = False
    body: bytes = b""
    """Of a request that was JSON."""

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def model(self) -> str | None:
        return dict(self.fields).get("model")


Answer = Callable[[web.Request, Received], Awaitable[web.StreamResponse]]
Admit = Callable[[web.Request], web.StreamResponse | None]
Talk = Callable[[web.Request, web.WebSocketResponse], Awaitable[None]]


async def transcript(request: web.Request, received: Received) -> web.StreamResponse:
    """What a well-behaved engine says."""
    match dict(received.fields).get("response_format"):
        case "text":
            return web.Response(text=TEXT + "\n")
        case "verbose_json":
            return web.json_response(VERBOSE)
        case _:
            return web.json_response({"text": TEXT, "usage": {"type": "duration", "seconds": 3}})


class ScriptedEngine:
    """`answer` makes the answer once the form is read, `admit` may refuse before; `read` off leaves it.

    `talk` holds the engine's side of a session over a WebSocket.
    """

    def __init__(
        self, thread: LoopThread, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
    ) -> None:
        self._thread = thread
        self._host = host
        self._tls = tls
        self._runner: web.AppRunner | None = None
        self.requests: list[Received] = []
        self.answer: Answer = transcript
        self.admit: Admit | None = None
        self.talk: Talk | None = None
        self.read = True
        self.gone: list[float] = []
        self.connections = 0
        self.port = 0
        self.start()

    def start(self) -> None:
        """Again, where it listened before."""
        self._thread.run(self._start())

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://{self._host}:{self.port}"

    def stop(self) -> None:
        if self._runner is not None:
            self._thread.run(servers.end(self._runner))
            self._runner = None

    async def _start(self) -> None:
        app = web.Application(client_max_size=1 << 40)
        app.router.add_post("/{path:.*}", self._post, expect_handler=self._expect)
        app.router.add_get("/{path:.*}", self._listen)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self.port, ssl_context=self._tls).start()
        self.port = self._runner.addresses[0][1]

    async def _expect(self, request: web.Request) -> web.StreamResponse | None:
        self.connections += 1
        refusal = self.admit(request) if self.admit else None
        if refusal is None and request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return refusal

    async def _listen(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.requests.append(Received(headers, request.path_qs))
        if self.admit is not None and (refusal := self.admit(request)) is not None:
            return refusal
        assert self.talk is not None, f"nobody speaks at {request.path}"
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await self.talk(request, socket)
        return socket

    async def _post(self, request: web.Request) -> web.StreamResponse:
        if "expect" not in request.headers and request.content_type == "multipart/form-data":
            self.connections += 1
            if self.admit is not None and (refusal := self.admit(request)) is not None:
                return refusal
        received = Received({name.lower(): value for name, value in request.headers.items()}, request.path)
        self.requests.append(received)
        try:
            if self.read:
                await self._read(request, received)
            return await self.answer(request, received)
        except (asyncio.CancelledError, ConnectionError):
            self.gone.append(asyncio.get_running_loop().time())
            raise

    async def _read(self, request: web.Request, received: Received) -> None:
        if request.content_type == "application/json":
            received.body = await request.read()
            received.complete = True
            return
        reader = await request.multipart()
        async for part in reader:
            assert isinstance(part, BodyPartReader)
            if part.name != "file":
                received.fields.append((part.name or "", (await part.read()).decode()))
                continue
            received.filename, received.file_type = part.filename, part.headers.get("Content-Type")
            digest = hashlib.sha256()
            # Larger than what comes at once: aiohttp warns of itself where it reads more than was asked for.
            while chunk := await part.read_chunk(1 << 24):
                received.file_size += len(chunk)
                digest.update(chunk)
            received.file_sha256 = digest.hexdigest()
        received.complete = True


def answering(status: int, body: Any, headers: dict[str, str] | None = None) -> Answer:
    """Always the same answer: JSON, or text where `body` is a string."""

    async def answer(request: web.Request, received: Received) -> web.StreamResponse:
        if isinstance(body, str):
            return web.Response(text=body, status=status, headers=headers)
        return web.json_response(body, status=status, headers=headers)

    return answer


def raw(answer: bytes) -> Answer:
    """Bytes that no server would write."""

    async def write(request: web.Request, received: Received) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.write(answer)
        request.transport.close()
        return web.Response()

    return write


async def hang_up(request: web.Request, received: Received) -> web.StreamResponse:
    """Dies before its answer."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def hang_up_midway(request: web.Request, received: Received) -> web.StreamResponse:
    """Dies in the middle of its answer."""
    response = web.StreamResponse(headers={"content-type": "application/json", "content-length": "100"})
    await response.prepare(request)
    await response.write(b'{"text": "go for')
    assert request.transport is not None
    request.transport.close()
    return response


async def answer_while_reading(request: web.Request, received: Received) -> web.StreamResponse:
    """Begins its answer at once and ends it when all of the upload has come."""
    response = web.StreamResponse(headers={"content-type": "application/json"})
    await response.prepare(request)
    async for _ in request.content.iter_any():
        pass
    await response.write(b'{"text": "read all"}')
    return response


def answering_at_length(size: int) -> Answer:
    """More than the sockets between here and the client hold."""

    async def answer(request: web.Request, received: Received) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/plain"})
        await response.prepare(request)
        for _ in range(size // 65536):
            await response.write(b"y" * 65536)
        return response

    return answer


async def never(request: web.Request, received: Received) -> web.StreamResponse:
    """Says nothing until it is cancelled."""
    await asyncio.Event().wait()
    raise AssertionError


def after(seconds: float) -> Answer:
    async def answer(request: web.Request, received: Received) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return await transcript(request, received)

    return answer


def breaking_off(request: web.Request) -> web.StreamResponse | None:
    """Ends the connection instead of a word."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)


def refusing(status: int, reason: str) -> Admit:
    """Refuses before the body is read, as the engine SDK does."""

    def admit(request: web.Request) -> web.StreamResponse:
        error = {"message": f"The engine is {reason}.", "type": "rate_limit", "param": None, "code": reason}
        return web.json_response(
            {"error": error}, status=status, headers={"X-Roundhouse-Reason": reason, "Retry-After": "2"}
        )

    return admit

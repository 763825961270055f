"""Realtime clients of each protocol: some say all that they have, some go in the midst of it."""

import asyncio
import base64
import json
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from roundhouse_api.realtime import PATH as NATIVE
from roundhouse_api.realtime import Close
from tests.conformance.gateway.soak.caller import Keys
from tests.conformance.gateway.soak.tally import Tally, code_of

OPENAI: Final = "/v1/realtime"
ELEVENLABS: Final = "/v1/speech-to-text/realtime"
PIECE: Final = 3200
SECONDS: Final = 60.0
"""For what takes one on an idle machine."""
REFUSED: Final = frozenset(Close)
Talk = Callable[[ClientConnection], Awaitable[None]]
CONFIG: Final[dict[str, Any]] = {
    "type": "transcription",
    "audio": {
        "input": {
            "format": {"type": "audio/pcm", "rate": 16_000},
            "transcription": {"model": "live"},
            "turn_detection": None,
        }
    },
}


class EndedError(Exception):
    """The gateway ended the session with a code that it declares."""

    def __init__(self, how: str) -> None:
        super().__init__(how)
        self.how = how


@dataclass
class Listeners:
    """`audio`: 16 bit at 16 kHz, with speech in it."""

    port: int
    keys: Keys
    tally: Tally
    chance: random.Random
    http: aiohttp.ClientSession
    audio: bytes

    @property
    def kinds(self) -> Mapping[Callable[[], Awaitable[None]], int]:
        return {self.native: 4, self.openai: 3, self.elevenlabs: 3, self.strangers: 2}

    async def native(self) -> None:
        async def talk(socket: ClientConnection) -> None:
            await self._until(socket, "type", "session.begin")
            for piece in self._pieces():
                await socket.send(piece)
                await asyncio.sleep(0.005)
            if self._leaves():
                socket.transport.abort()
                return
            await socket.send('{"type": "end"}')
            await self._until(socket, "type", "transcript.final")
            await socket.wait_closed()
            if socket.close_code != Close.NORMAL:
                raise EndedError(str(socket.close_code))

        await self._session("native", talk, NATIVE, {"model": "live"})

    async def openai(self) -> None:
        """With a key of its own, or one for a moment."""
        own = self.chance.random() < 0.7
        key = "" if own else await self._token("openai", "/v1/realtime/client_secrets", "value")
        if not (own or key):
            return

        async def talk(socket: ClientConnection) -> None:
            await self._until(socket, "type", "session.created")
            await self._say(socket, {"type": "session.update", "session": CONFIG})
            await self._until(socket, "type", "session.updated")
            for piece in self._pieces():
                audio = base64.b64encode(piece).decode()
                await self._say(socket, {"type": "input_audio_buffer.append", "audio": audio})
            if self._leaves():
                socket.transport.abort()
                return
            await self._say(socket, {"type": "input_audio_buffer.commit"})
            done = "conversation.item.input_audio_transcription.completed"
            await self._until(socket, "type", done)

        await self._session("openai", talk, OPENAI, {"intent": "transcription"}, key)

    async def elevenlabs(self) -> None:
        query = {"model_id": "live", "audio_format": "pcm_16000"}
        token = self.chance.random() < 0.3
        if token:
            path = "/v1/single-use-token/realtime_scribe"
            query["token"] = await self._token("elevenlabs realtime", path, "token")
            if not query["token"]:
                return

        async def talk(socket: ClientConnection) -> None:
            await self._until(socket, "message_type", "session_started")
            for piece in self._pieces():
                audio = base64.b64encode(piece).decode()
                await self._say(socket, {"message_type": "input_audio_chunk", "audio_base_64": audio})
            if self._leaves():
                socket.transport.abort()
                return
            chunk = {"message_type": "input_audio_chunk", "audio_base_64": "", "commit": True}
            await self._say(socket, chunk)
            await self._until(socket, "message_type", "committed_transcript")

        await self._session("elevenlabs realtime", talk, ELEVENLABS, query, "-" if token else "")

    async def strangers(self) -> None:
        """No good key, no such model, no such thing to say."""
        key, query, code = self.chance.choice(
            (
                ("rh_nobody", {"model": "live"}, Close.UNAUTHENTICATED),
                ("", {"model": "nobody"}, Close.UNKNOWN_MODEL),
                ("", {"model": "live", "sample_rate": "7"}, Close.PARAMETERS),
            )
        )
        try:
            async with self._connect(NATIVE, query, key) as socket, asyncio.timeout(SECONDS):
                await socket.wait_closed()
        except (OSError, TimeoutError, InvalidStatus) as error:
            self.tally.fault("stranger", repr(error))
            return
        if socket.close_code in {code, Close.NOTHING_RUNS}:
            self.tally.right("stranger")
        else:
            self.tally.fault("stranger", f"{code} expected: {socket.close_code} {socket.close_reason}")

    async def _session(
        self, kind: str, talk: Talk, path: str, query: Mapping[str, str], key: str = ""
    ) -> None:
        """Its end is counted: that of the talk, or what the gateway declares instead, also at the door."""
        try:
            async with asyncio.timeout(SECONDS), self._connect(path, query, key) as socket:
                await talk(socket)
            self.tally.right(kind)
        except EndedError as error:
            self.tally.ended(kind, error.how)
        except InvalidStatus as refused:
            body = bytes(refused.response.body or b"")
            self.tally.take(kind, refused.response.status_code, body, lambda _: False)
        except ConnectionClosed as closed:
            code = closed.rcvd.code if closed.rcvd else None
            if code in REFUSED and code != Close.NORMAL:
                self.tally.ended(kind, str(code))
            else:
                self.tally.fault(kind, repr(closed))
        except (OSError, TimeoutError) as error:
            self.tally.fault(kind, repr(error))

    def _connect(self, path: str, query: Mapping[str, str], key: str) -> connect:
        headers = {} if key == "-" else {"Authorization": f"Bearer {key or self.keys.owner}"}
        address = f"ws://127.0.0.1:{self.port}{path}?{urlencode(query)}"
        return connect(address, additional_headers=headers, open_timeout=SECONDS, proxy=None)

    async def _until(self, socket: ClientConnection, name: str, kind: str) -> None:
        while (told := json.loads(await socket.recv()))[name] != kind:
            if told[name] in {"error", "input_error"} or (name == "message_type" and "error" in told):
                await self._ended(socket, told)

    async def _ended(self, socket: ClientConnection, told: dict[str, Any]) -> None:
        """An error that ends the session: the code of its close frame says which."""
        async with asyncio.timeout(10):
            await socket.wait_closed()
        code = socket.close_code
        if code not in REFUSED:
            self.tally.fault("session", f"{code} {socket.close_reason} {told}")
        raise EndedError(f"{code} {code_of(json.dumps(told).encode())}")

    async def _say(self, socket: ClientConnection, message: dict[str, Any]) -> None:
        await socket.send(json.dumps(message))

    def _pieces(self) -> list[bytes]:
        return [self.audio[start : start + PIECE] for start in range(0, len(self.audio), PIECE)]

    def _leaves(self) -> bool:
        return self.chance.random() < 0.4

    async def _token(self, kind: str, path: str, member: str) -> str:
        """A key for a moment; empty where none is to be had, which is counted."""
        address, headers = f"http://127.0.0.1:{self.port}{path}", {"xi-api-key": self.keys.owner}
        async with self.http.post(address, headers=headers) as answer:
            told = await answer.read()
        if answer.status == 200:
            return str(json.loads(told)[member])
        self.tally.take(kind, answer.status, told, lambda _: False)
        return ""

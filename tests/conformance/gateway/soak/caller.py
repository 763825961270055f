"""How the clients of the soak ask over HTTP, and with which keys; what they ask for is theirs to say."""

import asyncio
import io
import json
import random
import socket
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from tests.conformance.gateway.soak.tally import Tally

CHAT: Final = "/v1/chat/completions"
UPLOAD: Final = "/v1/audio/transcriptions"
JSON: Final = {"Content-Type": "application/json"}


@dataclass
class Keys:
    """Those that are good just now, as their owners have them."""

    owner: str
    rotating: str
    limited: str


@dataclass
class Caller:
    port: int
    metrics_port: int
    keys: Keys
    tally: Tally
    chance: random.Random
    http: aiohttp.ClientSession
    guests: list[str]
    """Models that come and go."""

    def chat_body(self, said: str, **members: Any) -> bytes:
        return encoded({"model": "qwen", "messages": [{"role": "user", "content": said}], **members})

    def ask(self, path: str, body: Any, headers: Mapping[str, str], key: str = "", *, port: int = 0) -> Any:
        return self.http.request(
            "GET" if body is None else "POST",
            f"http://127.0.0.1:{port or self.port}{path}",
            data=io.BytesIO(body) if isinstance(body, bytes) else body,
            headers={"Authorization": f"Bearer {key or self.keys.owner}", **headers},
        )

    async def post(
        self,
        kind: str,
        path: str,
        body: Any,
        right: Callable[[Any], bool],
        *,
        headers: Mapping[str, str] = JSON,
        key: str = "",
        only: Mapping[int, str] | None = None,
    ) -> None:
        try:
            async with self.ask(path, body, headers, key) as answer:
                told = await answer.read()
        except aiohttp.ClientPayloadError:
            self.tally.cut(kind)
            return
        self.tally.take(kind, answer.status, told, right, only)

    async def say_and_leave(self, said: bytes, *, wait: float = 0.02) -> None:
        """With a farewell, or cut off."""
        _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(said)
            await writer.drain()
            await asyncio.sleep(wait)
            if self.chance.random() < 0.5:
                taken: socket.socket = writer.get_extra_info("socket")
                taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


def encoded(asked: dict[str, Any]) -> bytes:
    return json.dumps(asked).encode()

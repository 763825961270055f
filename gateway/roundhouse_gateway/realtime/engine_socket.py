"""The engine's side of a session, as the routes see it."""

from typing import Protocol

import aiohttp


class EngineSocket(Protocol):
    """What the routes need of an engine's socket, whatever the engine speaks."""

    async def send_bytes(self, data: bytes) -> None: ...

    async def send_str(self, data: str) -> None: ...

    async def receive(self) -> aiohttp.WSMessage: ...

    async def close(self) -> object: ...

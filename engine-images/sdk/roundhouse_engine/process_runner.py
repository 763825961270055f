"""Runs a handler in a child process: for libraries that hold Python's lock, and for what may crash.

Parent and child share a socket pair: JSON lines both ways, and the recording's descriptor beside the line
that asks for it, so that an upload needs no name in the file system and cannot be left behind there.
"""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO, Final

from roundhouse_engine.events import Ask, Event, from_wire
from roundhouse_engine.speech import ModelSpec

_LONGEST_LINE: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class Launch:
    """What a child is told at its start: the handler's reference, its models, how to log."""

    handler: str
    models: tuple[ModelSpec, ...]
    log_level: str
    log_format: str

    def to_wire(self) -> dict[str, Any]:
        models = [
            asdict(model) | {"path": str(model.path) if model.path else None, "source": dict(model.source)}
            for model in self.models
        ]
        return asdict(self) | {"models": models, "path": sys.path, "parent": os.getpid()}


class ProcessRunner:
    def __init__(self, launch: Launch) -> None:
        self._launch = launch
        self._process: asyncio.subprocess.Process | None = None
        self._commands: socket.socket | None = None

    async def events(self) -> AsyncGenerator[Event, None]:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "roundhouse_engine.child", str(theirs.fileno())),
                pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
            )
        self._commands = ours.dup()
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=_LONGEST_LINE)
        try:
            self._send(self._launch.to_wire())
            while line := await reader.readline():
                yield from_wire(json.loads(line))
        except ConnectionError:
            pass  # it died while something was on the way: the same as an end
        finally:
            self._commands.close()
            writer.close()
            self.kill()
            await self._process.wait()

    def begin(self, ask: Ask, file: BinaryIO) -> None:
        self._send(asdict(ask), (file.fileno(),))

    def cancel(self) -> None:
        self._send({"cancel": True})

    def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    def obituary(self) -> str:
        code = self._process.returncode if self._process is not None else None
        if code is not None and code < 0:
            return f"killed by {signal.Signals(-code).name}"
        return f"exit code {code}"

    def _send(self, message: dict[str, Any], descriptors: tuple[int, ...] = ()) -> None:
        if self._commands is None:
            return
        try:
            # One line at a time to a child that waits for it: far less than the socket's buffer.
            socket.send_fds(self._commands, [json.dumps(message).encode() + b"\n"], descriptors)
        except OSError:
            self.kill()  # `events` ends, and whoever waits for an answer learns that way

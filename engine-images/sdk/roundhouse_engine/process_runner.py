"""Runs a handler in a child process: for libraries that hold Python's lock, and for what may crash.

Parent and child share a socket pair: JSON lines both ways, and beside the line that asks for work the
descriptor of what is to be worked on, so that an upload needs no name in the file system and cannot be left
behind there.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO, Final

from roundhouse_engine.events import Event, Work, from_wire
from roundhouse_engine.handler import ModelSpec

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
        self._socket: socket.socket | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._failure = ""

    async def events(self) -> AsyncGenerator[Event, None]:
        try:
            ours = await self._start()
        except OSError as error:  # no process, descriptor or memory left: for now, perhaps
            self._failure = f"not started: {error.strerror}"
            return
        with ours.dup() as self._socket:
            reader, self._writer = await asyncio.open_unix_connection(sock=ours, limit=_LONGEST_LINE)
            try:
                self._writer.write(_line(self._launch.to_wire()))
                while line := await reader.readline():
                    yield from_wire(json.loads(line))
            except ConnectionError:
                pass  # it died while something was on the way: the same as an end
            except ValueError as error:
                self._failure = f"its answer could not be read: {error}"
            finally:
                self._writer.close()
                await self._bury()

    async def _start(self) -> socket.socket:
        """Start the child, in a process group of its own; returns this side of the socket pair."""
        ours, theirs = socket.socketpair()
        with contextlib.ExitStack() as unless_started, theirs:
            unless_started.callback(ours.close)
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "roundhouse_engine.child", str(theirs.fileno())),
                pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
            unless_started.pop_all()
        return ours

    def begin(self, ask: Work, file: BinaryIO) -> None:
        if self._socket is None or self._writer is None:
            return
        line = _line(asdict(ask))
        try:
            # The descriptor goes with the first bytes; a long prompt is more than the socket takes at once.
            sent = socket.send_fds(self._socket, [line], (file.fileno(),))
        except OSError:
            self.kill()  # `events` ends, and whoever waits for an answer learns that way
        else:
            self._writer.write(line[sent:])

    def cancel(self) -> None:
        if self._writer is not None:
            self._writer.write(_line({"cancel": True}))

    def kill(self) -> None:
        """End the child and what it started: orphans would keep memory, and the accelerator."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def _bury(self) -> None:
        """Nothing of the child stays: as the container's first process, the engine inherits its orphans."""
        assert self._process is not None  # noqa: S101 - buried are those that lived
        self.kill()
        await self._process.wait()
        await asyncio.to_thread(_reap, self._process.pid)

    def obituary(self) -> str:
        code = self._process.returncode if self._process is not None else None
        if self._failure or code is None:
            return self._failure
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"


def _reap(group: int) -> None:
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-group, 0)

"""Runs a handler in a child process: for libraries that hold Python's lock, and for what may crash.

Parent and child share a socket pair: JSON lines both ways, and beside the line that asks for work two
descriptors, of what is asked and of what is to be worked on, so that an upload needs no name in the file
system and cannot be left behind there. A handler that is not thread-safe has a process for each place; one
that is has one process, and one copy of the models, for all of them.
"""

import asyncio
import contextlib
import itertools
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator
from dataclasses import asdict, dataclass, replace
from typing import Any, BinaryIO

from roundhouse_engine.events import LONGEST_LINE, Event, Loaded, Work, ends, from_wire
from roundhouse_engine.handler import ModelSpec
from roundhouse_engine.metrics import Metrics

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Launch:
    """What a child is told at its start: the handler's reference, its models, its places, how to log."""

    handler: str
    models: tuple[ModelSpec, ...]
    places: int
    log_level: str
    log_format: str

    def to_wire(self) -> dict[str, Any]:
        models = [
            asdict(model) | {"path": str(model.path) if model.path else None, "source": dict(model.source)}
            for model in self.models
        ]
        return asdict(self) | {"models": models, "path": sys.path, "parent": os.getpid()}


class Process:
    """A child, from when the first runner joins it until it dies or the last one leaves."""

    def __init__(self, launch: Launch, metrics: Metrics) -> None:
        self._launch = launch
        self._metrics = metrics
        self._child: asyncio.subprocess.Process | None = None
        self._socket: socket.socket | None = None
        self._living: asyncio.Task[None] | None = None
        self._runners: list[ProcessRunner] = []
        self._loading: dict[tuple[type[Event], str], Event] = {}
        self._numbers = itertools.count()
        self._working: dict[int, ProcessRunner] = {}
        self._given_up: set[int] = set()
        self._failure = ""
        self.over = False
        """Whether nobody may join it any more."""

    def join(self, runner: "ProcessRunner") -> None:
        """From now on the runner hears what the process tells, and first what it has told of its load."""
        self._runners.append(runner)
        if self._living is None:
            self._living = asyncio.create_task(self._live(), name="engine process")
        for event in self._loading.values():
            runner.hear(_for_another(event))

    async def leave(self, runner: "ProcessRunner") -> None:
        """Returns, where nobody else is left, once the process is gone."""
        self._runners.remove(runner)
        if not self._runners and self._living is not None:
            self.over = True
            self._living.cancel()
            await asyncio.wait({self._living})

    def begin(self, runner: "ProcessRunner", ask: Work, file: BinaryIO) -> int | None:
        """The work's number; None: the process is dead or deaf, and its runners will hear of its end."""
        if self._socket is None:
            return None
        number = next(self._numbers)
        # However long, in a file: the line is as short as the socket takes at once, whoever else sends.
        with os.fdopen(os.memfd_create("ask"), "wb") as asked:
            asked.write(json.dumps(asdict(ask)).encode())
            asked.flush()
            try:
                socket.send_fds(self._socket, [_line({"work": number})], (asked.fileno(), file.fileno()))
            except OSError:
                self._kill()
                return None
        self._working[number] = runner
        return number

    def cancel(self, number: int) -> None:
        if self._socket is not None and number in self._working:
            with contextlib.suppress(OSError):  # dead, or deaf, and then it is killed in time
                self._socket.send(_line({"cancel": number}))

    def give_up(self, number: int) -> None:
        """The work does not stop: the process is ended, once it computes for nobody else."""
        self._given_up.add(number)
        self._kill_if_idle()

    def obituary(self) -> str:
        code = self._child.returncode if self._child is not None else None
        if self._failure or code is None:
            return self._failure
        if code == -signal.SIGKILL:
            return "killed by SIGKILL, as the kernel does where memory is short"
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    async def _live(self) -> None:
        try:
            await self._follow(await self._start())
        except OSError as error:  # no process, descriptor or memory left: for now, perhaps
            self._failure = f"not started: {error.strerror}"
        except Exception as error:
            logger.exception("engine process cannot be followed")
            self._failure = f"it cannot be followed: {type(error).__name__}: {error}"
        finally:
            self.over = True
        told = {"how": self.obituary(), "while_working": bool(self._working)}
        logger.error("engine process died", extra=told)
        self._metrics.restarts.inc()
        for runner in self._runners:
            runner.hear(None)

    async def _start(self) -> socket.socket:
        """Start the child, in a process group of its own; returns this side of the socket pair."""
        ours, theirs = socket.socketpair()
        with contextlib.ExitStack() as unless_started, theirs:
            unless_started.callback(ours.close)
            self._child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "roundhouse_engine.child", str(theirs.fileno())),
                pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
            unless_started.pop_all()
        return ours

    async def _follow(self, ours: socket.socket) -> None:
        """Hand on what the child tells, until it is gone."""
        try:
            with contextlib.ExitStack() as unless_connected:
                unless_connected.callback(ours.close)
                direct = unless_connected.enter_context(ours.dup())
                reader, writer = await asyncio.open_unix_connection(sock=ours, limit=LONGEST_LINE)
                unless_connected.pop_all()
            with direct, contextlib.closing(writer):
                self._socket = direct
                writer.write(_line(self._launch.to_wire()))
                while line := await reader.readline():
                    number, event = json.loads(line)
                    self._hear(number, from_wire(event))
        except ConnectionError:
            pass  # it died while something was on the way: the same as an end
        except (ValueError, LookupError, TypeError) as error:
            self._failure = f"its answer could not be read: {error}"
        finally:
            self._socket = None
            await self._bury()

    def _hear(self, number: int | None, event: Event) -> None:
        if number is not None:
            self._working[number].hear(event)
            if ends(event):
                del self._working[number]
                self._given_up.discard(number)
                self._kill_if_idle()
            return
        self._loading[type(event), getattr(event, "model", "")] = event
        for place, runner in enumerate(self._runners):
            runner.hear(_for_another(event) if place else event)

    def _kill_if_idle(self) -> None:
        if self._given_up and self._working.keys() <= self._given_up:
            self._failure = "ended by the engine, because work that was called off did not stop"
            self._kill()

    def _kill(self) -> None:
        """End the child and what it started: orphans would keep memory, and the accelerator."""
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)

    async def _bury(self) -> None:
        """Nothing of the child stays: as the container's first process, the engine inherits its orphans."""
        assert self._child is not None  # noqa: S101 - buried are those that lived
        self._kill()
        await self._child.wait()
        await asyncio.to_thread(_reap, self._child.pid)


class Processes:
    """Those of one pool: each runner's own, or `shared` by all runners until it dies."""

    def __init__(self, launch: Launch, metrics: Metrics, *, shared: bool) -> None:
        self._launch = launch
        self._metrics = metrics
        self._shared = shared
        self._last = Process(launch, metrics)

    def runner(self) -> "ProcessRunner":
        if self._last.over or not self._shared:
            self._last = Process(self._launch, self._metrics)
        return ProcessRunner(self._last)


class ProcessRunner:
    """One request at a time in a process, which others may compute in as well."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._heard: asyncio.Queue[Event | None] = asyncio.Queue()
        self._work: int | None = None

    async def events(self) -> AsyncGenerator[Event, None]:
        self._process.join(self)
        try:
            while (event := await self._heard.get()) is not None:
                yield event
        finally:
            await self._process.leave(self)

    def hear(self, event: Event | None) -> None:
        """None: the process is gone."""
        self._heard.put_nowait(event)

    def begin(self, ask: Work, file: BinaryIO) -> None:
        self._work = self._process.begin(self, ask, file)

    def cancel(self) -> None:
        if self._work is not None:
            self._process.cancel(self._work)

    def kill(self) -> None:
        if self._work is not None:
            self._process.give_up(self._work)

    def obituary(self) -> str:
        return self._process.obituary()


def _for_another(event: Event) -> Event:
    """What others hear of a process whose memory is counted for one of them."""
    return replace(event, ram_bytes=0) if isinstance(event, Loaded) else event


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"


def _reap(group: int) -> None:
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-group, 0)

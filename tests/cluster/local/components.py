"""Keeps the cluster's processes running: starts them, writes their logs, starts them again when they end."""

import asyncio
import contextlib
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from .config import Component
from .errors import ClusterError

LONGEST_PAUSE_SECONDS = 10.0
LOG_LINES_SHOWN = 12


@dataclass(slots=True)
class Running:
    """A component's process as it is now."""

    pid: int | None = None
    ends: int = 0
    task: asyncio.Task[None] | None = field(default=None, repr=False)


class Components:
    """The processes by name. One that ends is started again, after a pause that doubles up to ten seconds."""

    def __init__(self, logs: Path, on_end: Callable[[str, int], None]) -> None:
        self._logs = logs
        self._on_end = on_end
        self._running: dict[str, Running] = {}

    def start(self, component: Component, *, listener: int | None = None) -> None:
        """Run it from now on. It inherits `listener`, a socket, and is told its number as `-fd`."""
        running = Running()
        self._running[component.name] = running
        running.task = asyncio.create_task(self._keep(component, running, listener))

    async def stop(self, name: str) -> None:
        running = self._running.pop(name)
        if running.task:
            running.task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running.task

    def states(self) -> dict[str, dict[str, int | None]]:
        return {
            name: {"pid": running.pid, "restarts": running.ends} for name, running in self._running.items()
        }

    async def wait_healthy(self, component: Component, within_seconds: float, url: str | None = None) -> None:
        """Until it answers 200. One that ends three times or stays silent is an error with its log."""
        running = self._running[component.name]
        deadline = asyncio.get_running_loop().time() + within_seconds
        url = url or component.health_url
        while url and not await asyncio.to_thread(answers, url):
            if running.ends >= 3:
                raise ClusterError(f"{component.name} keeps ending.\n{self.log_tail(component.name)}")
            if asyncio.get_running_loop().time() > deadline:
                reason = f"{component.name} did not answer at {url} within {within_seconds:.0f} s"
                raise ClusterError(f"{reason}.\n{self.log_tail(component.name)}")
            await asyncio.sleep(0.05)

    def log_tail(self, name: str) -> str:
        path = self._logs / f"{name}.log"
        try:
            lines = path.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        except OSError:
            lines = []
        return "\n".join([f"The last lines of {path}:", *lines])

    async def _keep(self, component: Component, running: Running, listener: int | None) -> None:
        pause = 0.25
        try:
            while True:
                status = await self._run_once(component, running, listener)
                running.ends += 1
                self._on_end(component.name, status)
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
        finally:
            if listener is not None:
                os.close(listener)

    async def _run_once(self, component: Component, running: Running, listener: int | None) -> int:
        process = await self._spawn(component, listener)
        running.pid = process.pid
        try:
            return await process.wait()
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        finally:
            running.pid = None

    async def _spawn(self, component: Component, listener: int | None) -> asyncio.subprocess.Process:
        # A program that is given a socket is told its number as the first thing.
        told = () if listener is None else (f"-fd={listener}",)
        with (self._logs / f"{component.name}.log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                component.argv[0],
                *told,
                *component.argv[1:],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=() if listener is None else (listener,),
            )


def answers(url: str) -> bool:
    """Whether it answers 200. Certificates are not looked at: some components sign their own."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        ).open(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False

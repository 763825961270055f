"""Runs the loader as a pod does: its own process, told by the environment, judged by what it leaves."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .waiting import wait_until

KEY = "0a1b2c3d"
# Short, so that a source that stays away is given up while a test waits.
QUICK = {"ROUNDHOUSE_LOADER_PATIENCE_SECONDS": "3", "ROUNDHOUSE_LOADER_TIMEOUT_SECONDS": "5"}


@dataclass(frozen=True, slots=True)
class Ended:
    """How a loader ended."""

    status: int
    said: dict[str, Any]
    """The termination message."""
    log: str

    @property
    def reason(self) -> str:
        return str(self.said.get("reason", self.said.get("result")))


@dataclass(slots=True)
class Loader:
    """A loader of `source`, below `folder`; `start` it as often as need be, the cache stays."""

    folder: Path
    source: Mapping[str, Any]
    environment: dict[str, str] = field(default_factory=dict)
    credentials: dict[str, str] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()
    """A command that runs the loader in another setting."""
    name: str = "loader"
    arguments: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None

    @property
    def cache(self) -> Path:
        return self.folder / "cache" / KEY

    @property
    def files(self) -> dict[str, bytes]:
        """The weights, by path."""
        root = self.cache / "files"
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    @property
    def complete(self) -> dict[str, Any]:
        return dict(json.loads((self.cache / "complete.json").read_text()))

    def run(self, seconds: float = 60) -> Ended:
        return self.start().wait(seconds)

    def start(self) -> "Loader":
        mounted = self.folder / f"{self.name}-credentials"
        mounted.mkdir(exist_ok=True, parents=True)
        for name, value in self.credentials.items():
            (mounted / name).write_text(value)
        self._said.unlink(missing_ok=True)
        with self._log.open("wb") as log:
            command = [*self.prefix, sys.executable, "-m", "roundhouse_loader", *self.arguments]
            self.process = subprocess.Popen(command, env=self._environment(mounted), stdout=log, stderr=log)
        return self

    def wait(self, seconds: float = 60) -> Ended:
        assert self.process is not None
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            self.kill()
            raise AssertionError(f"the loader did not end; its log:\n{self.log()}") from error
        said = json.loads(self._said.read_bytes()) if self._said.exists() else {}
        return Ended(status, said, self.log())

    def kill(self, number: signal.Signals = signal.SIGKILL) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(30)

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def progress(self) -> dict[str, Any]:
        """What it answers now on its port."""
        port = wait_until(self._port, seconds=30, what="the loader says its port", every=0.05)
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/progress", timeout=10) as answer:
                return dict(json.load(answer))
        except OSError as error:
            raise AssertionError(f"no progress to be had: {error}; the log:\n{self.log()}") from error

    def _port(self) -> int | None:
        lines = (json.loads(line) for line in self.log().splitlines() if '"port"' in line)
        return next((int(line["port"]) for line in lines), None)

    def _environment(self, mounted: Path) -> dict[str, str]:
        unwanted = ("_PROXY", "_proxy", "HF_", "AWS_", "GOOGLE_", "STORAGE_", "CA_BUNDLE", "SSL_CERT")
        own = {
            name: value for name, value in os.environ.items() if not any(each in name for each in unwanted)
        }
        return {
            **own,
            **QUICK,
            "ROUNDHOUSE_SOURCE": json.dumps(self.source),
            "ROUNDHOUSE_CACHE_DIR": str(self.folder / "cache"),
            "ROUNDHOUSE_CACHE_KEY": KEY,
            "ROUNDHOUSE_LOADER_PORT": "0",
            "ROUNDHOUSE_CREDENTIALS_DIR": str(mounted),
            "ROUNDHOUSE_TERMINATION_LOG": str(self._said),
            "HOME": str(self.folder),
            **self.environment,
        }

    @property
    def _said(self) -> Path:
        return self.folder / f"{self.name}-termination.json"

    @property
    def _log(self) -> Path:
        return self.folder / f"{self.name}.log"

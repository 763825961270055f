"""A real Redis on a port of loopback, for as long as a test needs it."""

import subprocess
import tempfile
from pathlib import Path

from tests.support.waiting import wait_until

# The package of the command line tools carries the server under this name, and goes by what it is called.
BINARY = Path("/usr/bin/redis-check-rdb")


class Store:
    """Started at once; `stop` and `start` lose what it held."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._folder = tempfile.TemporaryDirectory()
        self._command = Path(self._folder.name) / "redis-server"
        self._command.symlink_to(BINARY)
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        options = ("--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
        self._process = subprocess.Popen(
            [self._command, *options, "--dir", self._folder.name], stdout=subprocess.DEVNULL
        )
        wait_until(lambda: self.ask("PING") == "PONG", seconds=20, what="the store answers", every=0.05)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        self.stop()
        self._folder.cleanup()

    def ask(self, *command: str) -> str:
        """One command, by the command line client."""
        asked = ["redis-cli", "-p", str(self.port), *command]
        return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()

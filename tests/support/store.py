"""A real Redis on a port of loopback, for as long as a test needs it."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.ports import free_port
from tests.support.waiting import wait_until

# The package of the command line tools carries the server under this name, and goes by what it is called.
BINARY = Path("/usr/bin/redis-check-rdb")


class Store:
    """`stop` and `start` lose what it held."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._folder = folder
        self._command = folder / "redis-server"
        self._command.symlink_to(BINARY)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        options = ("--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
        self._process = subprocess.Popen(
            [self._command, *options, "--dir", self._folder], stdout=subprocess.DEVNULL
        )
        wait_until(lambda: self.ask("PING") == "PONG", seconds=20, what="the store answers", every=0.05)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def ask(self, *command: str) -> str:
        """One command, by the command line client."""
        asked = ["redis-cli", "-p", str(self.port), *command]
        return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()


@contextmanager
def a_store() -> Iterator[Store]:
    """Started, and ended with the block."""
    with tempfile.TemporaryDirectory() as folder:
        made = Store(Path(folder))
        try:
            made.start()
            yield made
        finally:
            made.stop()

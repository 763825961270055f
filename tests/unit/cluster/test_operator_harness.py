"""The tests' own handle on an operator: of one that was started again, its past life is not believed."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, cast

from typing_extensions import override

from tests.cluster.local import Cluster
from tests.cluster.operator.harness import Operator

IDLE = b"".join(
    b"roundhouse_operator_%s\n" % one for one in (b"leader 1.0", b"queue_depth 0.0", b"queue_waiting 0.0")
)


class Idle(BaseHTTPRequestHandler):
    def do_GET(self) -> None:  # as http.server calls it
        self.send_response(200)
        self.send_header("Content-Length", str(len(IDLE)))
        self.end_headers()
        self.wfile.write(IDLE)

    @override
    def log_message(self, *_: Any) -> None:
        """Nothing."""


class Life:
    """A process as far as it is asked for."""

    pid = 1

    def __init__(self) -> None:
        self.status: int | None = None

    def poll(self) -> int | None:
        return self.status

    def send_signal(self, number: int) -> None:
        self.status = -number

    def wait(self, timeout: float) -> int:  # noqa: ARG002
        return self.status or 0


class NoCluster:
    environment: dict[str, str] = {}  # noqa: RUF012


def test_the_port_of_the_life_before_is_not_asked(tmp_path: Path) -> None:
    """A new life that takes its time was taken for one that listens where the old one did, and for good."""
    log = tmp_path / "operator.log"
    operator = Operator(cast("Cluster", NoCluster()), "test", log, spawn=lambda _environment, _log: Life())
    server = HTTPServer(("127.0.0.1", 0), Idle)
    Thread(target=server.serve_forever, daemon=True).start()

    def say(port: int) -> None:
        with log.open("a") as file:
            file.write(f"INFO health: Metrics and probes are on port {port}\n")

    try:
        operator.start(until="begun")
        say(1)  # where nobody listens
        assert not operator.idle()
        operator.kill()
        operator.start(until="begun")
        assert not operator.idle(), "it has not said where it listens"
        say(server.server_port)
        assert operator.idle()
    finally:
        server.shutdown()
        server.server_close()

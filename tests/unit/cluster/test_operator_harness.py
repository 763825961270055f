"""The tests' own handle on an operator: of one that was started again, its past life is not believed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, cast

import pytest
from typing_extensions import override

from tests.cluster.local import Cluster
from tests.cluster.operator import harness
from tests.cluster.operator.harness import Operator
from tests.support.waiting import wait_until


class Said(BaseHTTPRequestHandler):
    """An operator's metrics: of one that leads and has nothing to do, but for the passes in `running`."""

    running = 0
    failing = 0

    def do_GET(self) -> None:  # as http.server calls it
        said = {"leader": 1, "queue_depth": 0, "queue_running": self.running, "queue_waiting": self.failing}
        said["queue_failing"] = self.failing
        text = "".join(f"roundhouse_operator_{name} {value}.0\n" for name, value in said.items()).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

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


@pytest.fixture
def listening() -> Iterator[tuple[type[Said], int]]:
    """What is said, and the port that it is said on."""
    said = type("SaidHere", (Said,), {})
    server = HTTPServer(("127.0.0.1", 0), said)
    Thread(target=server.serve_forever, daemon=True).start()
    yield said, server.server_port
    server.shutdown()
    server.server_close()


def test_the_port_of_the_life_before_is_not_asked(tmp_path: Path, listening: tuple[type[Said], int]) -> None:
    """A new life that takes its time was taken for one that listens where the old one did, and for good."""
    log = tmp_path / "operator.log"
    operator = Operator(cast("Cluster", NoCluster()), "test", log, spawn=lambda _environment, _log: Life())
    _, port = listening

    operator.start(until="begun")
    tell_port(log, 1)  # where nobody listens
    assert not operator.idle()
    operator.kill()
    operator.start(until="begun")
    assert not operator.idle(), "it has not said where it listens"
    tell_port(log, port)
    assert operator.idle()


@pytest.mark.parametrize("doing", ["running", "failing"])
def test_an_operator_in_the_middle_of_a_pass_or_before_a_retry_is_neither_idle_nor_settled(
    tmp_path: Path, listening: tuple[type[Said], int], monkeypatch: pytest.MonkeyPatch, doing: str
) -> None:
    """A pass that waits long for an answer, or is to be repeated, was taken for none."""
    monkeypatch.setattr(harness, "SETTLE_SECONDS", 0.2)
    log = tmp_path / "operator.log"
    operator = Operator(cast("Cluster", NoCluster()), "test", log, spawn=lambda _environment, _log: Life())
    said, port = listening
    setattr(said, doing, 1)
    operator.start(until="begun")
    tell_port(log, port)
    assert not operator.idle()
    looks = []

    def quiet_after_looks(probe: Callable[[], bool], **_: object) -> None:
        """In place of waiting: many looks while the pass is in work, then until it has ended."""
        for _number in range(5):
            looks.append(probe())
            time.sleep(0.1)  # longer than SETTLE_SECONDS in all
        setattr(said, doing, 0)
        wait_until(probe, seconds=20, what="it has settled", every=0.05)

    monkeypatch.setattr(harness, "wait_until", quiet_after_looks)
    operator.settle()
    assert not any(looks)
    assert operator.idle()


def tell_port(log: Path, port: int) -> None:
    with log.open("a") as file:
        file.write(f"INFO health: Metrics and probes are on port {port}\n")

"""Of several operators one writes; another takes over when it ends, is killed or is cut off."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.cluster.local import Cluster
from tests.cluster.operator.conftest import StartOperator
from tests.cluster.operator.harness import LEASE_SECONDS, Kubectl, Operator
from tests.support.waiting import wait_until
from tests.unit.operator.samples import engine, variant

TAKE_OVER_SECONDS = 30
"""Twenty of the Lease, two between looks at it, and what a busy machine takes beside."""
LONGER_LEASE = {"ROUNDHOUSE_OPERATOR_LEASE_SECONDS": "20"}
"""Six seconds lie between the end of a leader that cannot renew and the moment at which others may."""


class Line:
    """A TCP line to the API server that can be cut."""

    def __init__(self, server: str) -> None:
        target = urlsplit(server)
        self._target = (str(target.hostname), int(target.port or 443))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._cut = False
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self._cut = True
        for one in [self._listener, *self._open]:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while not self._cut:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
                self._open += [near, far]
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=pair, daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


@pytest.fixture
def line(control_plane: Cluster, tmp_path: Path) -> Iterator[tuple[Line, Path]]:
    """A line, and a kubeconfig that goes through it."""
    view = json.loads(control_plane.kubectl("config", "view", "--raw", "-o", "json"))
    one = Line(view["clusters"][0]["cluster"]["server"])
    view["clusters"][0]["cluster"]["server"] = one.url
    kubeconfig = tmp_path / "line.kubeconfig"
    kubeconfig.write_text(json.dumps(view))
    yield one, kubeconfig
    one.cut()


def leads(operator: Operator) -> bool:
    return operator.metric("roundhouse_operator_leader") == 1


def when_led(operator: Operator) -> float:
    """By its log. A test that looks for itself may look late."""
    return when_said(operator, "Leading as")


def when_said(operator: Operator, words: str) -> float:
    """For the last time: a machine that stands still may take the Lease from one who gets it back."""
    *_, line = [one for one in operator.log.read_text().splitlines() if words in one]
    return datetime.strptime(line[:23], "%Y-%m-%d %H:%M:%S,%f").astimezone().timestamp()


def test_a_follower_writes_nothing_and_takes_over_from_one_that_was_killed(
    start_operator: StartOperator, kubectl: Kubectl
) -> None:
    leader, follower = start_operator(LONGER_LEASE), start_operator(LONGER_LEASE, until="ready")
    kubectl.apply(engine(), variant())
    kubectl.wait("mv", "kws-en", "Ready", "True")
    assert leads(leader)
    assert not leads(follower)
    assert follower.metric("roundhouse_operator_writes_total") is None
    leader.kill()
    kubectl.apply(variant("kws-de"))
    wait_until(lambda: leads(follower), seconds=TAKE_OVER_SECONDS, what="the follower leads", every=0.1)
    kubectl.wait("mv", "kws-de", "Ready", "True")


def test_an_orderly_end_hands_over_at_once(start_operator: StartOperator) -> None:
    leader, follower = start_operator(), start_operator(until="ready")
    assert leader.stop() == 0
    ended = time.monotonic()
    wait_until(lambda: leads(follower), seconds=30, what="the follower leads", every=0.1)
    assert time.monotonic() - ended < LEASE_SECONDS, "it did not wait for the Lease to run out"


def test_a_leader_that_is_cut_off_gives_up_before_another_begins(
    start_operator: StartOperator,
    control_plane: Cluster,
    namespace: str,
    tmp_path: Path,
    line: tuple[Line, Path],
) -> None:
    wire, kubeconfig = line
    cut_off = Operator(control_plane, namespace, tmp_path / "cut-off.log")
    cut_off.environment |= {"KUBECONFIG": str(kubeconfig), **LONGER_LEASE}
    cut_off.start()
    follower = start_operator(LONGER_LEASE, until="ready")
    wire.cut()
    lost = "Leadership lost, not renewed for"
    wait_until(
        lambda: lost in cut_off.log.read_text(),
        seconds=2 * TAKE_OVER_SECONDS,
        what="the leader has given up",
        every=0.02,
    )
    wait_until(lambda: leads(follower), seconds=TAKE_OVER_SECONDS, what="the follower leads", every=0.1)
    assert when_said(cut_off, lost) < when_led(follower)
    assert cut_off.stop() == 0, "it tries on meanwhile, and ends when it is told to"


def test_probes_and_metrics(operator: Operator) -> None:
    assert operator.get("/healthz") == (200, '{"ok": true, "problems": []}')
    wait_until(operator.ready, seconds=30, what="what only a leader follows is listed, too")
    status, text = operator.get("/metrics")
    assert status == 200
    assert 'roundhouse_operator_objects{kind="Node"}' in text
    wait_until(operator.idle, seconds=30, what="nothing is due where there is nothing")

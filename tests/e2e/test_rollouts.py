"""Rollouts, drained nodes, fewer replicas under load: while there is a spare pod, no request fails."""

import http.client
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.e2e.conftest import ROOT
from tests.e2e.release import Release
from tests.support.recordings import GO_FORWARD_WORDS, go_forward
from tests.support.waiting import wait_until

NAME = "rolling"
SELECTOR = f"roundhouse.dev/variant={NAME}"
SLOW_PIECES = 12
SLOW_PAUSE_SECONDS = 0.2


def manifests() -> str:
    """The example with two pods, one of which suffices for the whole load."""
    engine, variant = (ROOT / "examples/pocketsphinx.yaml").read_text().split("\n---\n")
    engine = engine.replace("name: pocketsphinx\n", f"name: {NAME}\n", 1)
    engine = engine.replace("maxInFlightPerReplica: 1", "maxInFlightPerReplica: 4")
    variant = variant.replace("name: pocketsphinx-en-us", f"name: {NAME}", 1)
    variant = variant.replace("name: pocketsphinx\n", f"name: {NAME}\n", 1)
    return f"{engine}\n---\n{variant}\n  replicas: 2\n"


@dataclass
class Load:
    """Clients that ask for transcripts without end, each in its way, and what they were told."""

    url: str
    answers: int = 0
    failures: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    def ask(self, form: Callable[[str], Iterator[bytes]]) -> None:
        """One client, which keeps its connection as SDKs do."""
        where = urlsplit(self.url)
        connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=90)
        while not self._over.is_set():
            boundary = uuid.uuid4().hex
            told = _post(connection, boundary, form(boundary))
            if told == GO_FORWARD_WORDS:
                self.answers += 1
            else:
                self.failures.append(told)
        connection.close()

    def wait_for(self, more: int) -> None:
        wanted = self.answers + more
        wait_until(lambda: self.answers >= wanted, seconds=120, what=f"{more} more answers", every=0.1)

    @contextmanager
    def running(self) -> Iterator["Load"]:
        clients = [
            threading.Thread(target=self.ask, args=(form,)) for form in (_model_first, _file_first, _slow)
        ]
        for client in clients:
            client.start()
        try:
            yield self
        finally:
            self._over.set()
            for client in clients:
                client.join(timeout=90)


def _post(connection: http.client.HTTPConnection, boundary: str, pieces: Iterator[bytes]) -> str:
    """The transcript's text; anything else as it came."""
    try:
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        connection.request("POST", "/v1/audio/transcriptions", pieces, headers, encode_chunked=True)
        answer = connection.getresponse()
        body = answer.read().decode()
        if answer.status != 200:
            return f"{answer.status}: {body}"
        told: dict[str, Any] = json.loads(body)
        return str(told["text"])
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        return repr(error)


def _model(boundary: str) -> bytes:
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="model"\r\n\r\n'
    return f"{head}{NAME}\r\n".encode()


def _file(boundary: str) -> tuple[bytes, bytes]:
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    return head.encode(), go_forward() + b"\r\n"


def _model_first(boundary: str) -> Iterator[bytes]:
    """Passed on while it arrives."""
    yield from (_model(boundary), *_file(boundary), f"--{boundary}--\r\n".encode())


def _file_first(boundary: str) -> Iterator[bytes]:
    """Kept until the model is known."""
    yield from (*_file(boundary), _model(boundary), f"--{boundary}--\r\n".encode())


def _slow(boundary: str) -> Iterator[bytes]:
    """Its upload is under way whatever happens meanwhile."""
    head, audio = _file(boundary)
    yield _model(boundary) + head
    size = -(-len(audio) // SLOW_PIECES)
    for start in range(0, len(audio), size):
        time.sleep(SLOW_PAUSE_SECONDS)  # a slow line
        yield audio[start : start + size]
    yield f"--{boundary}--\r\n".encode()


@pytest.fixture(scope="module")
def rolling(release: Release) -> Iterator[Release]:
    release.apply(manifests())
    release.wait_for_condition(f"modelvariant/{NAME}", "Ready", "True", "Serving", seconds=240)
    wait_until(lambda: len(ready_pods(release)) == 2, seconds=240, what="two ready pods")
    release.answers_again(NAME)
    yield release
    release.delete(f"modelvariant/{NAME}", f"engine/{NAME}")


def ready_pods(release: Release) -> set[str]:
    return {
        one["metadata"]["name"]
        for one in release.staying(SELECTOR)
        if any(
            each["type"] == "Ready" and each["status"] == "True"
            for each in one["status"].get("conditions", ())
        )
    }


def replaced(release: Release, before: set[str]) -> bool:
    now = ready_pods(release)
    return len(now) == 2 and not now & before


def test_a_rollout_fails_no_request(rolling: Release) -> None:
    before = ready_pods(rolling)
    with Load(rolling.url).running() as load:
        load.wait_for(3)
        rolling.in_namespace(
            "annotate", "--overwrite", f"mv/{NAME}", f"roundhouse.dev/restartedAt={uuid.uuid4()}"
        )
        wait_until(lambda: replaced(rolling, before), seconds=300, what="both pods are new ones")
        rolling.wait_for_condition(f"modelvariant/{NAME}", "UpToDate", "True", "RolledOut")
        load.wait_for(3)
    assert load.failures == []


def test_an_engines_change_fails_no_request(rolling: Release) -> None:
    before = ready_pods(rolling)
    with Load(rolling.url).running() as load:
        load.wait_for(3)
        patch = json.dumps({"spec": {"workload": {"env": [{"name": "CHANGED", "value": str(uuid.uuid4())}]}}})
        rolling.in_namespace("patch", f"engine/{NAME}", "--type=merge", "-p", patch)
        wait_until(lambda: replaced(rolling, before), seconds=300, what="both pods are new ones")
        rolling.wait_for_condition(f"engine/{NAME}", "UpToDate", "True", "RolledOut")
        load.wait_for(3)
    assert load.failures == []


def test_draining_the_node_fails_no_request(rolling: Release) -> None:
    """There is but one node: it is opened again at once, so that evicted pods come back to it."""
    before = ready_pods(rolling)
    node = rolling.kubectl("get", "nodes", "-o", "jsonpath={.items[0].metadata.name}")
    with Load(rolling.url).running() as load:
        load.wait_for(3)
        draining = threading.Thread(
            target=rolling.kubectl,
            args=("drain", node, "--delete-emptydir-data", "--timeout=240s", "--pod-selector", SELECTOR),
        )
        draining.start()
        try:
            wait_until(lambda: ready_pods(rolling) != before, seconds=60, what="a pod was evicted", every=0.1)
        finally:
            rolling.kubectl("uncordon", node)
        wait_until(lambda: replaced(rolling, before), seconds=300, what="both pods are new ones")
        draining.join(timeout=240)
        load.wait_for(3)
    assert not draining.is_alive()
    assert load.failures == []


def test_fewer_replicas_fail_no_request(rolling: Release) -> None:
    with Load(rolling.url).running() as load:
        rolling.in_namespace("scale", f"mv/{NAME}", "--replicas=3")
        wait_until(lambda: len(ready_pods(rolling)) == 3, seconds=240, what="three ready pods")
        load.wait_for(3)
        rolling.in_namespace("scale", f"mv/{NAME}", "--replicas=2")
        wait_until(lambda: len(ready_pods(rolling)) == 2, seconds=60, what="two pods are left")
        load.wait_for(6)
    assert load.failures == []

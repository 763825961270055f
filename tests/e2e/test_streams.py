"""Streams that are open when their pod is told to end are finished, and of several pods the idle ones end."""

import json
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from openai import OpenAI, OpenAIError

from tests.e2e.release import Release
from tests.e2e.shared import (
    SOUND,
    SharedEngine,
    address,
    engine_manifest,
    models_of,
    script_manifest,
    variant_manifest,
)
from tests.support.waiting import wait_until

NAME = "streaming"
GO_ON = "/tmp/finish"  # noqa: S108  # of the engine's container
DRAIN_SECONDS = 300
MOST_STREAMS = 8
"""That two pods take at once; where only one is known, those beyond its four are held until it is two."""
SELECTOR = f"roundhouse.dev/variant={NAME}"


@dataclass
class Stream:
    """One client of a stream that goes on until the engine is told to finish."""

    url: str
    deltas: int = 0
    last: str = ""
    trouble: str = ""
    thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._follow, daemon=True)
        self.thread.start()

    def _follow(self) -> None:
        with OpenAI(base_url=f"{self.url}/v1", api_key="none needed", max_retries=0) as client:
            try:
                events = client.audio.transcriptions.create(
                    model=NAME, file=("a.wav", SOUND), prompt=f"until {GO_ON}", stream=True
                )
                for event in events:
                    self.deltas += event.type == "transcript.text.delta"
                    self.last = event.type
            except OpenAIError as error:
                self.trouble = str(error)

    @property
    def open(self) -> bool:
        return self.thread.is_alive() and self.deltas > 0

    def goes_on(self) -> None:
        before = self.deltas
        wait_until(lambda: self.deltas > before, seconds=60, what="another event", every=0.05)
        assert self.open

    def finished(self) -> None:
        """To its last event, and all of it came."""
        self.thread.join(timeout=120)
        assert (self.thread.is_alive(), self.trouble) == (False, "")
        assert self.last == "transcript.text.done"


@dataclass(frozen=True)
class Pods:
    """Those of the variant that streams."""

    release: Release

    def found(self) -> dict[str, dict[str, Any]]:
        return {one["metadata"]["name"]: one for one in self.release.list("pods", SELECTOR)}

    def staying(self) -> dict[str, dict[str, Any]]:
        """Ready, and not about to end."""
        return {
            name: pod
            for name, pod in self.found().items()
            if "deletionTimestamp" not in pod["metadata"]
            and {("Ready", "True")}
            & {(each["type"], each["status"]) for each in pod["status"].get("conditions", ())}
        }

    def until(self, count: int) -> dict[str, dict[str, Any]]:
        wait_until(lambda: len(self.staying()) == count, seconds=240, what=f"{count} pods stay")
        return self.staying()

    def scale(self, replicas: int) -> None:
        self.release.in_namespace("scale", f"mv/{NAME}", f"--replicas={replicas}")

    def in_use(self, name: str) -> int:
        [model] = models_of(self.found()[name])
        return int(model["inUse"])

    def inside(self, name: str, *command: str) -> None:
        """Run a command beside the engine, which must be there still."""
        where = ("--namespace", self.release.namespace, name, "--container", "engine")
        self.release.kubectl("exec", *where, "--", *command)

    def finish(self, *names: str) -> None:
        for name in names:
            self.inside(name, "touch", GO_ON)

    def gone(self, *names: str) -> None:
        wait_until(lambda: not set(names) & set(self.found()), seconds=60, what=f"{names} are gone")


@pytest.fixture(scope="module")
def pods(release: Release) -> Iterator[Pods]:
    engine = SharedEngine(release, NAME)
    engine.apply(
        script_manifest(NAME),
        engine_manifest(NAME, {"type": "Dedicated"}, version="1.0.0"),
        variant_manifest(NAME, NAME, replicas=2, rollout={"drainTimeoutSeconds": DRAIN_SECONDS}),
    )
    engine.ready(NAME)
    engine.answers(NAME)
    yield Pods(release)
    release.delete(f"modelvariant/{NAME}", f"engine/{NAME}", f"configmap/{NAME}")


def opened(url: str, count: int) -> list[Stream]:
    streams = [Stream(url) for _ in range(count)]
    wait_until(lambda: all(one.open for one in streams), seconds=60, what="all streams have begun")
    return streams


def both_have_some(pods: Pods) -> list[Stream]:
    """Streams in each of two pods: one comes after the other until the gateway knows of both."""
    names = pods.until(2)
    streams: list[Stream] = []

    def spread() -> bool:
        if len(streams) < MOST_STREAMS:
            streams.extend(opened(pods.release.url, 1))
        return all(pods.in_use(name) for name in names)

    wait_until(spread, seconds=60, what="each pod has streams", every=1)
    return streams


def test_streams_are_finished_to_their_last_event_across_a_rollout(pods: Pods) -> None:
    before = pods.until(2)
    streams = both_have_some(pods)
    patch = json.dumps({"spec": {"workload": {"env": [{"name": "CHANGED", "value": str(uuid.uuid4())}]}}})
    pods.release.in_namespace("patch", f"engine/{NAME}", "--type=merge", "-p", patch)
    wait_until(
        lambda: len(now := pods.staying()) == 2 and not now.keys() & before.keys(),
        seconds=300,
        what="both pods have successors",
    )
    for one in streams:
        one.goes_on()
    pods.finish(*before)
    for one in streams:
        one.finished()
    pods.gone(*before)


def test_streams_are_finished_to_their_last_event_when_there_are_fewer_pods(pods: Pods) -> None:
    before = pods.until(2)
    streams = both_have_some(pods)
    pods.scale(1)
    pods.until(1)
    for one in streams:
        one.goes_on()
    pods.finish(*before)
    for one in streams:
        one.finished()
    wait_until(lambda: len(pods.found()) == 1, seconds=60, what="one pod is gone")
    pods.inside(*pods.found(), "rm", GO_ON)
    pods.scale(2)


def test_of_three_pods_the_idle_ones_end_first(pods: Pods) -> None:
    """The busy one is the youngest, which Kubernetes would end first by itself.

    With three streams it is told from a pod that does not say in time what it is doing, which counts as one.
    """
    older = pods.until(2)
    pods.scale(3)
    busy = next(iter(pods.until(3).keys() - older.keys()))
    streams = opened(address(pods.found()[busy]), 3)
    for left in (2, 1):
        pods.scale(left)
        staying = pods.until(left)
        assert busy in staying
    for one in streams:
        one.goes_on()
    pods.scale(0)
    pods.until(0)
    for one in streams:
        one.goes_on()
    pods.finish(busy)
    for one in streams:
        one.finished()
    pods.gone(busy)

"""An operator of a test's own: a subprocess on a real API server, watched from outside."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tests.cluster.local import Cluster
from tests.support.waiting import wait_until

START_SECONDS = 120
LEASE_SECONDS = 60
"""So that no operator ends because the machine is busy; tests of the Lease have it as it is shipped."""
SHIPPED_LEASE = {"ROUNDHOUSE_OPERATOR_LEASE_SECONDS": "10"}
ANSWER_SECONDS = 30
END_SECONDS = 120
SETTLE_SECONDS = 3.0
"""Longer than the two for which a pod is ready before it counts and the one in which changes are gathered."""
WRITES = frozenset({"POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"})
_SAMPLE = re.compile(r"^apiserver_request_total\{(.*)\} ([0-9.e+]+)$", re.MULTILINE)


class Process(Protocol):
    """As much of Popen as is used here."""

    pid: int

    def poll(self) -> int | None: ...

    def send_signal(self, number: int) -> None: ...

    def wait(self, timeout: float) -> int: ...


Spawn = Callable[[dict[str, str], Path], Process]
"""Starts an operator with an environment and a file for its log."""


def _spawn(environment: dict[str, str], log: Path) -> Process:
    command = [sys.executable, "-m", "roundhouse_operator.cli", "operator"]
    with log.open("ab") as file:
        return subprocess.Popen(command, env=environment, stdout=file, stderr=file)


@dataclass
class Operator:
    """One running operator process that serves one namespace."""

    cluster: Cluster
    namespace: str
    log: Path
    release: str = "roundhouse"
    environment: dict[str, str] = field(default_factory=dict)
    port: int = 0
    started_in_seconds: float = 0.0
    spawn: Spawn = field(default=_spawn)
    _process: Process | None = None
    _told_before: int = 0
    """Characters of the log that are of the lives before this one."""

    def start(self, *, until: str = "leading") -> Operator:
        """Until it leads; with `until="ready"` until its caches are filled, with `"begun"` at once."""
        environment = {
            **self.cluster.environment,
            "ROUNDHOUSE_OPERATOR_NAMESPACE": self.namespace,
            "ROUNDHOUSE_OPERATOR_RELEASE": self.release,
            "ROUNDHOUSE_OPERATOR_METRICS_PORT": "0",
            "ROUNDHOUSE_OPERATOR_LOG_FORMAT": "text",
            "ROUNDHOUSE_OPERATOR_SWEEP_AFTER_SECONDS": "1",
            "ROUNDHOUSE_OPERATOR_LEASE_SECONDS": str(LEASE_SECONDS),
            **self.environment,
        }
        began = time.monotonic()
        self.log.touch()
        self._told_before = len(self.log.read_text())
        self._process = self.spawn(environment, self.log)
        self.port = 0
        if until == "begun":
            return self
        probe = self.ready if until == "ready" else lambda: self.metric("roundhouse_operator_leader") == 1
        try:
            wait_until(probe, seconds=START_SECONDS, what=f"the operator is {until}", every=0.05)
        except AssertionError as error:
            seen = f"{self.get('/readyz')}\n{self.log.read_text()[-3000:]}"
            self.kill()
            raise AssertionError(f"{error}\n{seen}") from None
        self.started_in_seconds = time.monotonic() - began
        return self

    @property
    def pid(self) -> int:
        assert self._process, "the operator was not started"
        return self._process.pid

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def ready(self) -> bool:
        return self.alive_or_log() and self.get("/readyz")[0] == 200

    def alive_or_log(self) -> bool:
        assert self.alive(), f"the operator has ended:\n{self.log.read_text()[-3000:]}"
        return True

    def get(self, path: str) -> tuple[int, str]:
        self.port = self.port or self._port()
        if not self.port:
            return 0, "it has not said yet where it listens"
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.port}{path}", timeout=ANSWER_SECONDS
            ) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            self.port = 0  # one that begins anew takes another, and tells it
            return 0, str(error)

    def metric(self, name: str) -> float | None:
        """The sum of a metric's series."""
        assert self.alive_or_log()
        return _total(self.get("/metrics")[1], name)

    def idle(self) -> bool:
        """Whether it leads, works on nothing, and nothing is due, now or later."""
        wanted = {"leader": 1.0, "queue_depth": 0.0, "queue_running": 0.0, "queue_waiting": 0.0}
        said = self.gauges()
        return all(said.get(name) == value for name, value in wanted.items())

    def gauges(self) -> dict[str, float]:
        """The metrics that have no labels; none of a process that has ended or does not answer."""
        text = self.get("/metrics")[1] if self.alive() else ""
        found = re.findall(r"^roundhouse_operator_(\w+) ([0-9.e+-]+)$", text, re.MULTILINE)
        return {name: float(value) for name, value in found}

    def settle(self) -> None:
        """Until nothing is due or in work, and nothing is about to be.

        A pass that waits for an answer counts however long it takes: on a busy machine its writes come late.
        So does one that failed: it is tried again, and then writes.
        """
        passes, since = -1.0, 0.0

        def quiet() -> bool:
            nonlocal passes, since
            assert self.alive_or_log()
            text = self.get("/metrics")[1]
            now, seen = time.monotonic(), _total(text, "roundhouse_operator_reconcile_seconds_count") or 0.0
            busy = any(
                _total(text, f"roundhouse_operator_queue_{one}") != 0
                for one in ("depth", "running", "failing")
            )
            if busy or seen != passes:
                passes, since = seen, now
            return now - since >= SETTLE_SECONDS

        wait_until(quiet, seconds=120, what="the operator has settled", every=0.1)

    def stop(self) -> int:
        """In order, as a pod is ended."""
        return self._end(signal.SIGTERM)

    def kill(self) -> int:
        """At once. Its Lease has it until it runs out."""
        return self._end(signal.SIGKILL)

    def crash(self) -> None:
        """As `kill`, and nobody has to wait for its Lease."""
        self.kill()
        self.cluster.kubectl("-n", self.namespace, "delete", "lease", f"roundhouse-{self.release}-operator")

    def _port(self) -> int:
        """Any free one, which the process tells in its log; 0 until it does."""
        log = self.log.read_text()[self._told_before :]
        told = re.findall(r'Metrics and probes are on port (\d+)["\n]', log)
        return int(told[-1]) if told else 0

    def _end(self, number: int) -> int:
        assert self._process
        if self._process.poll() is None:
            self._process.send_signal(number)
        return self._process.wait(timeout=END_SECONDS)


def _total(metrics: str, name: str) -> float | None:
    found = re.findall(rf"^{name}(?:\{{[^}}]*\}})? ([0-9.e+-]+)$", metrics, re.MULTILINE)
    return sum(map(float, found)) if found else None


@dataclass(frozen=True)
class Kubectl:
    """kubectl in one namespace. What is only read is asked of the API server without it."""

    cluster: Cluster
    namespace: str

    def __call__(self, *arguments: str, input: str | None = None) -> str:  # noqa: A002
        return self.cluster.kubectl("-n", self.namespace, *arguments, input=input)

    def apply(self, *manifests: dict[str, Any]) -> None:
        """As a user does, with kubectl's own field manager."""
        listed = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        self("apply", "--server-side", "-f", "-", input=json.dumps(listed))

    def get(self, kind: str, name: str) -> dict[str, Any]:
        return self.cluster.api.get(kind, name, self.namespace) or {}

    def since(self, kind: str, name: str, version: str) -> list[dict[str, Any]]:
        """Each state that it has been in after this resourceVersion, also those over too soon to be seen."""
        return self.cluster.api.since(kind, name, self.namespace, version)

    def list(self, kind: str, selector: str = "") -> list[dict[str, Any]]:
        return self.cluster.api.list(kind, self.namespace, selector)

    def patch(self, kind: str, name: str, patch: dict[str, Any], *options: str) -> None:
        self("patch", kind, name, "--type=merge", "-p", json.dumps(patch), *options)

    def condition(self, kind: str, name: str, type_: str) -> dict[str, Any]:
        """Empty where there is none; AssertionError while the status is of an older spec."""
        found = self.get(kind, name)
        status = found.get("status", {})
        assert status.get("observedGeneration") == found.get("metadata", {}).get("generation"), (
            "not looked at yet"
        )
        return next((one for one in status.get("conditions", ()) if one["type"] == type_), {})

    def wait(  # reads as the condition is written: Ready True Serving
        self, kind: str, name: str, type_: str, status: str, reason: str = "", *, seconds: float = 60
    ) -> Any:
        """Until the condition says so; the condition."""

        def said() -> dict[str, Any] | None:
            one = self.condition(kind, name, type_)
            assert one.get("status") == status and reason in ("", one.get("reason")), one  # noqa: PT018
            return one

        return wait_until(
            said, seconds=seconds, what=f"{type_}={status} {reason} of {kind} {name}", every=0.1
        )

    def limit(self, name: str, **hard: str) -> None:
        """A quota, once it counts: what comes before its controller has looked at it is let in."""
        self.apply(
            {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": name}, "spec": {"hard": hard}}
        )
        self.wait_for(lambda: self.get("quota", name).get("status", {}).get("hard") == hard, "it counts", 60)

    def wait_for(self, probe: Callable[[], Any], what: str, seconds: float = 60) -> Any:
        return wait_until(probe, seconds=seconds, what=what, every=0.1)


def writes(cluster: Cluster, *, with_leases: bool = False) -> Counter[str]:
    """Writes that the API server itself has counted, of the kinds that an operator writes.

    Left out is what others write all the time: status of children by their controllers, and events, which
    have a count of their own. Call `wait_for_quiet` before.
    """
    counted: Counter[str] = Counter()
    for labels, value in _SAMPLE.findall(cluster.kubectl("get", "--raw", "/metrics")):
        one = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        ours = one["group"] == "roundhouse.dev" or (one["resource"], one["subresource"]) in (
            ("deployments", ""),
            ("services", ""),
            ("jobs", ""),
            ("persistentvolumeclaims", ""),
            ("configmaps", ""),
            ("poddisruptionbudgets", ""),
            ("resourceclaimtemplates", ""),
            ("leases", "") if with_leases else ("", ""),
        )
        if ours and one["verb"] in WRITES:
            counted[f"{one['verb']} {one['resource']}/{one['subresource']} {one['code']}"] += int(
                float(value)
            )
    return counted


def wait_for_quiet(cluster: Cluster) -> None:
    """Until no namespace of an earlier test is being taken apart, and each has all that Kubernetes puts in.

    Those writes would be counted too.
    """

    def quiet() -> bool:
        there = cluster.api.list("namespaces", "")
        assert all(one["status"]["phase"] != "Terminating" for one in there)
        complete = {
            one["metadata"]["namespace"] for one in cluster.api.list("configmaps", "") if _authority(one)
        }
        return complete >= {one["metadata"]["name"] for one in there}

    wait_until(quiet, seconds=120, what="no namespace is being deleted, and none is incomplete")


def _authority(config_map: dict[str, Any]) -> bool:
    return bool(config_map["metadata"]["name"] == "kube-root-ca.crt")


def own_events(kubectl: Kubectl) -> list[dict[str, Any]]:
    """Events that the operator wrote, oldest first."""
    events = kubectl.list("events.events.k8s.io")
    ours = [one for one in events if one.get("reportingController") == "roundhouse.dev/operator"]
    return sorted(ours, key=lambda one: one["eventTime"])


def steady_seconds() -> float:
    """How long a settled operator is watched: a minute is what is promised."""
    return float(os.environ.get("ROUNDHOUSE_STEADY_SECONDS", "60"))

"""Causes, read from pods and the Deployment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from roundhouse_api.model import Manifest
from roundhouse_operator.core.diagnose import cannot_be_made, diagnose
from roundhouse_operator.core.newest import newest_refusal
from roundhouse_operator.core.observed import Rollout
from roundhouse_operator.core.startup import Startup
from roundhouse_operator.project_pods import project_pod
from tests.unit.operator.worlds import pod, sent

STARTUP = Startup(60, 2)
ROLLOUT = Rollout(current=True, wanted=1, replicas=1, ready=0, updated=1)


def container(**status: Any) -> Manifest:
    return pod(containerStatuses=[{"name": "engine", **status}])


def container_unready_since(time: str, **status: Any) -> Manifest:
    condition = {"type": "ContainersReady", "status": "False", "lastTransitionTime": f"2026-01-01T{time}Z"}
    return pod(containerStatuses=[{"name": "engine", **status}], conditions=[condition])


def ended(code: int, reason: str = "Error", seconds: int = 7, message: str = "") -> Manifest:
    return {
        "terminated": {
            "exitCode": code,
            "reason": reason,
            "message": message,
            "startedAt": "2026-01-01T00:00:00Z",
            "finishedAt": f"2026-01-01T00:{seconds // 60:02}:{seconds % 60:02}Z",
        }
    }


def never_ran(reason: str, code: int = 128) -> Manifest:
    """As the kubelet tells it: it began at the epoch; here it ended a little after the deadline from that."""
    last = ended(code, reason, message='exec: "/no/such/file": stat /no/such/file: no such file or directory')
    times = {"startedAt": "1970-01-01T00:00:00Z", "finishedAt": "1970-01-01T00:01:01Z"}
    return {"terminated": {**last["terminated"], **times}}


def unscheduled(message: str) -> Manifest:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return pod(node="", conditions=[condition])


@dataclass(frozen=True)
class Case:
    id: str
    reason: str
    pod: Manifest
    found: str | None
    words: str = ""


CASES = (
    Case("starting", "a container that runs is no trouble", container(state={"running": {}}), None),
    Case(
        "creating",
        "nor is one that is being made",
        container(state={"waiting": {"reason": "ContainerCreating"}}),
        None,
    ),
    Case(
        "pull",
        "the registry says no",
        container(state={"waiting": {"reason": "ErrImagePull", "message": "no such image"}}),
        "ImagePull",
    ),
    Case(
        "config",
        "a ConfigMap is missing",
        container(
            state={"waiting": {"reason": "CreateContainerConfigError", "message": 'configmap "s" not found'}}
        ),
        "ConfigError",
    ),
    Case(
        "never-ran",
        "its command does not exist, and it began at no time",
        container(
            restartCount=1,
            state={"waiting": {"reason": "CrashLoopBackOff"}},
            lastState=never_ran("StartError"),
        ),
        "ConfigError",
        "cannot be run",
    ),
    Case(
        "cannot-run",
        "another runtime's word for it",
        container(restartCount=1, lastState=never_ran("ContainerCannotRun")),
        "ConfigError",
    ),
    Case(
        "lost-track",
        "nobody knows when it began, so nobody knows that it was too long ago",
        container(restartCount=1, lastState=never_ran("ContainerStatusUnknown", 137)),
        "CrashLoop",
    ),
    Case("crash", "it ended", container(state=ended(1, message="boom")), "CrashLoop", "exit code 1"),
    Case(
        "crash-again",
        "it runs again, after it ended",
        container(restartCount=1, state={"running": {}}, lastState=ended(1)),
        "CrashLoop",
    ),
    Case(
        "left",
        "an engine that just leaves does not serve",
        container(restartCount=1, state={"running": {}}, lastState=ended(0, "Completed")),
        "CrashLoop",
        "exit code 0",
    ),
    Case(
        "oom",
        "the kernel ended it",
        container(restartCount=1, lastState=ended(137, "OOMKilled")),
        "OOMKilled",
    ),
    Case(
        "timeout",
        "the kubelet ended it at the deadline",
        container(restartCount=1, lastState=ended(137, seconds=61)),
        "StartTimeout",
        "60 s",
    ),
    Case(
        "timeout-early",
        "the kubelet counts its questions, and the first comes within a period",
        container(restartCount=1, lastState=ended(143, seconds=58)),
        "StartTimeout",
        "60 s",
    ),
    Case(
        "killed-early",
        "before that nobody but the engine itself or a person can have ended it",
        container(restartCount=1, lastState=ended(143, seconds=57)),
        "CrashLoop",
        "exit code 143 (killed by SIGTERM)",
    ),
    Case(
        "left-early",
        "it left by itself just before the deadline",
        container(restartCount=1, lastState=ended(0, seconds=59)),
        "CrashLoop",
    ),
    Case(
        "killed-when-ready",
        "it was ready, whatever the deadline of its start was",
        container_unready_since("00:00:30", restartCount=1, lastState=ended(137, seconds=61)),
        "EndpointLost",
        "was ready, ended with exit code 137 (killed by SIGKILL) and is started again",
    ),
    Case(
        "ended-when-ready",
        "and is not started again yet",
        container_unready_since("00:02:00", state=ended(1, seconds=120)),
        "EndpointLost",
    ),
    Case(
        "again-and-again",
        "that it is ready in between does not help its clients",
        container_unready_since("00:02:00", restartCount=2, lastState=ended(1, seconds=120)),
        "CrashLoop",
    ),
    Case(
        "once-a-week",
        "what ended long ago has nothing to do with it",
        container_unready_since("00:59:00", restartCount=2, lastState=ended(139, seconds=59 * 60)),
        "EndpointLost",
        "SIGSEGV",
    ),
    Case(
        "ready-in-the-life-before",
        "it was ready before this start, and not after it",
        container_unready_since("00:00:00", restartCount=2, lastState=ended(137, seconds=61)),
        "StartTimeout",
    ),
    Case(
        "drained",
        "and it left in order",
        container(restartCount=1, lastState=ended(0, seconds=61)),
        "StartTimeout",
    ),
    Case(
        "long-ago",
        "it served for an hour, was ended, and starts again",
        container(restartCount=1, lastState=ended(137, seconds=59 * 60)),
        "CrashLoop",
    ),
    Case(
        "by-itself",
        "it gave up at the deadline",
        container(restartCount=1, lastState=ended(1, seconds=61)),
        "CrashLoop",
    ),
    Case(
        "not-timeout",
        "it had started and crashed much later",
        container(restartCount=1, started=True, lastState=ended(1, seconds=61)),
        "CrashLoop",
    ),
    Case(
        "evicted",
        "the pod as a whole failed",
        pod(phase="Failed", reason="Evicted", message="low on memory"),
        "CrashLoop",
        "The pod was ended",
    ),
    Case(
        "gpu",
        "cards are taken",
        unscheduled("0/3 nodes are available: 3 Insufficient nvidia.com/gpu."),
        "InsufficientGPU",
    ),
    Case(
        "cpu", "no room", unscheduled("0/3 nodes are available: 3 Insufficient cpu."), "InsufficientResources"
    ),
    Case(
        "node",
        "no node is meant",
        unscheduled("0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector."),
        "NoMatchingNode",
    ),
    Case(
        "other",
        "for another cause",
        unscheduled("0/3 nodes are available: 3 node(s) had volume node affinity conflict."),
        "Unschedulable",
    ),
    Case("not-tried", "the scheduler has not looked yet", pod(node=""), None),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_causes(case: Case) -> None:
    found = diagnose(ROLLOUT, [project_pod(sent(case.pod))], resource="nvidia.com/gpu", startup=STARTUP)
    assert (found.reason.value if found else None) == case.found, case.reason
    assert case.words in (found.message if found else "")


@pytest.mark.parametrize(
    "words",
    [
        'secret "hf-token" not found',
        "couldn't find key token in Secret speech/hf-token",
        'references non-existent secret key: secret "hf-token" not found',
    ],
)
def test_a_secret_that_is_missing_is_named(words: str) -> None:
    waiting = {"reason": "CreateContainerConfigError", "message": words}
    one = project_pod(sent(container(state={"waiting": waiting})))
    found = diagnose(ROLLOUT, [one], resource=None, startup=STARTUP)
    assert found
    assert (found.reason, found.detail) == ("SecretNotFound", words)


def test_a_command_that_does_not_exist_is_told_by_the_runtime() -> None:
    one = project_pod(sent(container(restartCount=1, lastState=never_ran("StartError"))))
    found = diagnose(ROLLOUT, [one], resource=None, startup=STARTUP)
    assert found
    assert found.detail.endswith("stat /no/such/file: no such file or directory")


def test_pods_that_cannot_be_created() -> None:
    full = Rollout(current=True, wanted=1, replicas=0, ready=0, updated=0, refused="exceeded quota: none")
    found = diagnose(full, [], resource=None, startup=STARTUP)
    assert found
    assert found.reason == "QuotaExceeded"
    assert "exceeded quota: none" in found.message


def test_a_quota_that_wants_limits_says_where_they_are_stated() -> None:
    words = 'pods "q2-1" is forbidden: failed quota: q: must specify limits.memory for: engine'
    found = cannot_be_made(words)
    assert found.reason == "QuotaExceeded"
    assert "failed quota: q: must specify limits.memory" in found.message
    assert "hardware.resources" in found.message
    assert "q2-1" not in found.message, "which is another one each time"


def replica_set(revision: str, owner: str = "uid", **condition: str) -> Manifest:
    metadata = {
        "annotations": {"deployment.kubernetes.io/revision": revision},
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "ownerReferences": [{"uid": owner, "controller": True}],
    }
    conditions = [{"type": "ReplicaFailure", "status": "True", **condition}] if condition else []
    return {"metadata": metadata, "status": {"conditions": conditions}}


def test_the_newest_replica_set_says_why_pods_cannot_be_created() -> None:
    old, new = replica_set("9", message="must specify limits.memory"), replica_set("10", message="exceeded")
    assert newest_refusal([old, new], "uid") == "exceeded"
    assert newest_refusal([old, replica_set("10")], "uid") is None, "it was mended"
    assert newest_refusal([old, replica_set("10", message="was", status="False")], "uid") is None
    assert (
        newest_refusal([old, replica_set("11", "another", message="no")], "uid")
        == "must specify limits.memory"
    )
    assert newest_refusal([], "uid") is None


def test_a_rollout_that_stalls_without_a_word() -> None:
    stalled = Rollout(current=True, wanted=1, replicas=1, ready=0, updated=1, stalled=True)
    found = diagnose(stalled, [], resource=None, startup=STARTUP)
    assert found
    assert found.reason == "StartTimeout"


def test_old_pods_are_not_blamed_for_a_new_template() -> None:
    crashed = project_pod(sent(container(state=ended(1))))
    for rollout in (
        Rollout(current=False, wanted=1, replicas=1, ready=0, updated=1),
        Rollout(current=True, wanted=1, replicas=1, ready=0, updated=0),
    ):
        assert diagnose(rollout, [crashed], resource=None, startup=STARTUP) is None


def test_what_must_be_mended_is_told_before_what_may_pass() -> None:
    pods = [
        unscheduled("0/1 nodes are available: 1 Insufficient cpu."),
        container(state={"waiting": {"reason": "ImagePullBackOff"}}),
    ]
    named = [
        {**one, "metadata": {**one["metadata"], "name": f"p{number}"}} for number, one in enumerate(pods)
    ]
    found = diagnose(ROLLOUT, [project_pod(sent(one)) for one in named], resource=None, startup=STARTUP)
    assert found
    assert found.reason == "ImagePull"


@pytest.mark.parametrize(
    "words",
    [
        "api_key=abcd1234",
        "API-KEY: abcd1234",
        "Authorization: Bearer abcd1234",
        '{"token": "abcd1234"}',
        "HF_TOKEN=abcd1234",
        "got sk-abcd1234xyz",
        "bearer abcd1234",
    ],
)
def test_last_words_keep_no_secret(words: str) -> None:
    one = project_pod(sent(container(state=ended(1, message=f"start\n{words}\nend"))))
    found = diagnose(ROLLOUT, [one], resource=None, startup=STARTUP)
    assert found
    assert "abcd1234" not in found.detail
    assert found.detail.startswith("start | ")
    assert found.detail.endswith("| end")


def test_last_words_are_the_last() -> None:
    one = project_pod(sent(container(state=ended(1, message="a" * 1000 + "\nthe end"))))
    found = diagnose(ROLLOUT, [one], resource=None, startup=STARTUP)
    assert found
    assert found.detail.endswith("a | the end")
    assert len(found.detail.encode()) <= 260


def test_last_words_begin_with_a_whole_line_where_enough_is_left() -> None:
    said = "'m' is no model for this engine: tokenizer.json is missing. Download the whole repository. " * 2
    one = project_pod(sent(container(state=ended(1, message=f"{'GET /health ' * 20}\n{said.strip()}"))))
    found = diagnose(ROLLOUT, [one], resource=None, startup=STARTUP)
    assert found
    assert found.detail == f"…{said.strip()}"


def test_a_long_line_keeps_what_is_missing_and_what_to_do() -> None:
    said = f"'m' is no model: model.bin is missing. {'It holds this and that. ' * 20}Convert it first."
    one = project_pod(sent(container(state=ended(1, message=f"loading\n{said}"))))
    found = diagnose(ROLLOUT, [one], resource=None, startup=STARTUP)
    assert found
    assert found.detail.startswith("'m' is no model: model.bin is missing. It holds")
    assert found.detail.endswith("Convert it first.")
    assert "…" in found.detail


@pytest.mark.parametrize(
    ("last", "kept"),
    [
        ("12:00:00 INFO roundhouse.access: GET /v1/models 200", False),
        ('INFO:     10.0.0.1:4711 - "POST /v1/embeddings HTTP/1.1" 200 OK', False),
        ("12:00:00 INFO roundhouse.access: POST /v1/embeddings 500", True),
        ("GET /v1/models has no answer", True),
    ],
)
def test_requests_that_went_well_are_no_last_words(last: str, kept: bool) -> None:
    one = project_pod(sent(container(state=ended(1, message=f"no more memory\n{last}\n"))))
    found = diagnose(ROLLOUT, [one], resource=None, startup=STARTUP)
    assert found
    assert found.detail == (f"no more memory | {last}" if kept else "no more memory")

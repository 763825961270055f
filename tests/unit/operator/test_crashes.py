"""What the status of a variant makes of pods that crash."""

from __future__ import annotations

from roundhouse_operator.core.outcome import Outcome, Refusal
from tests.unit.operator.samples import engine, variant
from tests.unit.operator.test_status import SERVING, STARTING, WAITING
from tests.unit.operator.worlds import Scene, conditions, message, node, pod


def test_a_change_is_not_told_as_the_crash_of_the_pods_that_it_replaces() -> None:
    scene = Scene(node("n1"), engine(), variant())
    scene.settle("kws-en", **STARTING)
    ended = {"terminated": {"exitCode": 1, "message": "no licence"}}
    scene.put(pod(containerStatuses=[{"name": "engine", "restartCount": 1, "lastState": ended}], **WAITING))
    assert conditions(scene.settle("kws-en"))["Available"] == ("False", "CrashLoop")
    mended = engine(workload={"image": "example.org/kws:2"})
    scene.put({**mended, "metadata": {**mended["metadata"], "generation": 2}})
    changing = scene.status("kws-en")
    assert conditions(changing)["Available"] == ("False", "Starting")
    refused = Outcome(refusal=Refusal("Deployment kws-en", 403, "admission webhook says no"))
    assert conditions(scene.status("kws-en", refused))["Available"] == ("False", "CrashLoop")
    scene.write("kws-en", changing)
    assert conditions(scene.settle("kws-en", replicas=1))["Available"] == ("False", "Starting")


def test_who_crashes_on_weights_of_another_format_is_told_so() -> None:
    source = {"type": "PVC", "pvc": {"claimName": "models"}, "format": "GGUF"}
    scene = Scene(node("n1"), engine(formats=["Safetensors"]), variant(source=source))
    scene.settle("kws-en", **STARTING)
    ended = {"terminated": {"exitCode": 1, "message": "cannot read it"}}
    scene.put(pod(containerStatuses=[{"name": "engine", "restartCount": 1, "lastState": ended}], **WAITING))
    status = scene.settle("kws-en")
    assert conditions(status)["Available"] == ("False", "CrashLoop")
    assert message(status, "Available") == (
        "Container engine ended with exit code 1; the weights are GGUF, and of the engine it is said that it "
        "loads Safetensors: cannot read it"
    )


def test_of_one_pod_nobody_speaks_of_older_ones() -> None:
    """The Deployment still counts the pod as ready, whose container has just ended."""
    scene = Scene(node("n1"), engine(), variant())
    scene.settle("kws-en", **SERVING)
    ended = {"exitCode": 137, "startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:12:00Z"}
    unready = [
        {"type": kind, "status": "False", "lastTransitionTime": "2026-01-01T00:12:00Z"}
        for kind in ("Ready", "ContainersReady")
    ]
    one = {"name": "engine", "restartCount": 0, "state": {"terminated": ended}}
    scene.put(pod(containerStatuses=[one], conditions=[WAITING["conditions"][0], *unready]))
    status = scene.settle("kws-en", **SERVING)
    assert conditions(status)["Degraded"] == ("True", "EndpointLost")
    assert message(status, "Degraded") == (
        "Not all pods run: Container engine was ready, ended with exit code 137 (killed by SIGKILL) and is "
        "started again"
    )

"""The truth table of Ready, line by line, and that a status which tells nothing new is the same status."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from roundhouse_api.model import Manifest
from roundhouse_operator.core.outcome import Conflict, Outcome, Refusal
from roundhouse_operator.core.status.conditions import status_patch
from roundhouse_operator.core.status.engine import Usage, engine_status
from tests.unit.operator.samples import engine, upstream, variant
from tests.unit.operator.worlds import LATER, NOW, Scene, conditions, message, node, pod

SERVING: dict[str, Any] = {"replicas": 1, "readyReplicas": 1, "updatedReplicas": 1}
STARTING: dict[str, Any] = {"replicas": 1, "updatedReplicas": 1}
WAITING: dict[str, Any] = {
    "conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "False"}]
}
LARGE = {"gpu": {"mode": "Required", "minMemory": "40G"}}


def started(**rollout: Any) -> Callable[[], tuple[Scene, Manifest]]:
    """A variant whose Deployment says so of its pods."""

    def scene() -> tuple[Scene, Manifest]:
        one = Scene(node("n1"), engine(), variant())
        return one, one.settle("kws-en", **rollout)

    return scene


def settled(*manifests: Manifest, **rollout: Any) -> Callable[[], tuple[Scene, Manifest]]:
    def scene() -> tuple[Scene, Manifest]:
        one = Scene(node("n1"), *manifests)
        return one, one.settle("kws-en", **rollout)

    return scene


def engine_gone() -> tuple[Scene, Manifest]:
    """Found running by an operator that never saw the engine."""
    one = Scene(node("n1"), engine(), variant())
    one.settle("kws-en", **SERVING)
    world = one.world("kws-en")
    one.cache.remove(
        world.engines[0].kind,
        {"metadata": {"namespace": "speech", "name": "kws", "resourceVersion": "99999999"}},
    )
    return one, one.settle("kws-en")


def lost() -> tuple[Scene, Manifest]:
    one = Scene(node("n1"), engine(), variant())
    one.settle("kws-en", **SERVING)
    one.put(pod(**WAITING))
    return one, _again(one, **STARTING)


def rolling_out() -> tuple[Scene, Manifest]:
    """Served by an old pod while a new one starts."""
    one = Scene(node("n1"), engine(), variant())
    one.settle("kws-en", **SERVING)
    return one, _again(one, replicas=2, readyReplicas=1, updatedReplicas=1)


def _again(one: Scene, **rollout: Any) -> Manifest:
    """The Deployment's controller reports anew."""
    deployment = next(child for child in one.world("kws-en").children if child.kind.name == "Deployment")
    fields = [
        {
            "manager": "roundhouse/speech/roundhouse",
            "operation": "Apply",
            "fieldsV1": deployment.ownership.ours,
        }
    ]
    live = {**deployment.live, "metadata": {**deployment.live["metadata"], "managedFields": fields}}
    live["metadata"].pop("resourceVersion", None)
    one.put({**live, "status": {"observedGeneration": 1, **rollout}})
    return one.settle("kws-en")


@dataclass(frozen=True)
class Case:
    id: str
    reason: str
    scene: Callable[[], tuple[Scene, Manifest]]
    ready: tuple[str, str]
    scheduled: tuple[str, str]
    available: tuple[str, str]
    phase: str


CASES = (
    Case(
        "serving",
        "an endpoint answers",
        started(**SERVING),
        ("True", "Serving"),
        ("True", "Scheduled"),
        ("True", "Serving"),
        "Running",
    ),
    Case(
        "rolling-out",
        "availability never depends on a rollout",
        rolling_out,
        ("True", "Serving"),
        ("True", "Scheduled"),
        ("True", "Serving"),
        "Running",
    ),
    Case(
        "first-start",
        "nothing answers yet",
        started(**STARTING),
        ("False", "Starting"),
        ("Unknown", "Starting"),
        ("False", "Starting"),
        "Pending",
    ),
    Case(
        "at-zero",
        "nobody wakes it",
        settled(engine(), variant(replicas=0)),
        ("False", "ScaledToZero"),
        ("True", "Feasible"),
        ("False", "ScaledToZero"),
        "Idle",
    ),
    Case(
        "demand-at-zero",
        "a request wakes it",
        settled(engine(scaling={"mode": "Demand"}), variant(replicas=0)),
        ("True", "Idle"),
        ("True", "Feasible"),
        ("False", "Idle"),
        "Idle",
    ),
    Case(
        "at-zero-infeasible",
        "and it could not run",
        settled(engine(hardware=LARGE), variant(replicas=0)),
        ("False", "NoGPU"),
        ("False", "NoGPU"),
        ("False", "ScaledToZero"),
        "Idle",
    ),
    Case(
        "suspended",
        "replicas are kept",
        settled(engine(), variant(suspend=True)),
        ("False", "Suspended"),
        ("Unknown", "Suspended"),
        ("False", "Suspended"),
        "Suspended",
    ),
    Case(
        "suspended-upstream",
        "nothing runs here, and nobody is sent there",
        settled(upstream(), variant(on="elsewhere", suspend=True)),
        ("False", "Suspended"),
        ("True", "Upstream"),
        ("False", "Suspended"),
        "Suspended",
    ),
    Case(
        "lost",
        "it had an endpoint",
        lost,
        ("False", "EndpointLost"),
        ("True", "Scheduled"),
        ("False", "EndpointLost"),
        "Unhealthy",
    ),
    Case(
        "engine-gone",
        "pods go on serving",
        engine_gone,
        ("False", "EngineNotFound"),
        ("True", "Scheduled"),
        ("True", "Serving"),
        "Running",
    ),
    Case(
        "no-engine",
        "nothing was started",
        settled(variant()),
        ("False", "EngineNotFound"),
        ("Unknown", "EngineNotFound"),
        ("False", "EngineNotFound"),
        "Pending",
    ),
    Case(
        "upstream",
        "there is nothing to run",
        settled(upstream("kws"), variant()),
        ("True", "Upstream"),
        ("True", "Upstream"),
        ("True", "Upstream"),
        "Running",
    ),
    Case(
        "weights",
        "a Job fetches them before there are pods",
        settled(
            engine(cache={"type": "PVC"}),
            variant(source={"type": "HuggingFace", "huggingFace": {"repo": "a/b"}}),
        ),
        ("False", "Downloading"),
        ("Unknown", "Downloading"),
        ("False", "Downloading"),
        "Downloading",
    ),
)


@pytest.mark.req("S1-13", "S1-14", "S1-15", "S2-30")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_truth_table(case: Case) -> None:
    _, status = case.scene()
    found = conditions(status)
    assert found["Ready"] == case.ready, case.reason
    assert found["Scheduled"] == case.scheduled, case.reason
    assert found["Available"] == case.available, case.reason
    assert status["phase"] == case.phase


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_second_pass_has_nothing_to_write(case: Case) -> None:
    scene, status = case.scene()
    scene.write("kws-en", status)
    assert scene.decide("kws-en").plan.empty
    assert status_patch(status, scene.status("kws-en", now=LATER)) == {}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_conditions_are_whole_and_in_order(case: Case) -> None:
    _, status = case.scene()
    types = [one["type"] for one in status["conditions"]]
    always = [
        "Ready",
        "Accepted",
        "EngineSelected",
        "WeightsReady",
        "Scheduled",
        "Available",
        "Verified",
        "UpToDate",
    ]
    assert types[: len(always)] == always
    assert set(types[len(always) :]) <= {"Degraded", "OwnershipConflict"}
    assert all(one["observedGeneration"] == status["observedGeneration"] for one in status["conditions"])


def test_a_transition_is_timed_and_the_rest_keeps_its_time() -> None:
    scene = Scene(node("n1"), engine(), variant())
    scene.settle("kws-en", **STARTING)
    status = _again(scene, **SERVING)
    assert {one["lastTransitionTime"] for one in status["conditions"]} == {"2026-01-01T00:00:00Z"}
    later = scene.status("kws-en", now=LATER)
    assert later == status
    scene.put(variant(suspend=True) | {"metadata": {"name": "kws-en", "generation": 2}})
    scene.write("kws-en", status)
    changed = {
        one["type"]: one["lastTransitionTime"] for one in scene.status("kws-en", now=LATER)["conditions"]
    }
    assert changed["Available"] == changed["Ready"] == changed["Scheduled"] == LATER
    assert changed["Accepted"] == "2026-01-01T00:00:00Z"


def test_what_a_pod_says_becomes_the_cause() -> None:
    scene = Scene(node("n1"), engine(), variant())
    scene.settle("kws-en", **STARTING)
    crashed = {
        "name": "engine",
        "restartCount": 2,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"exitCode": 3, "message": "first words"}},
    }
    scene.put(pod(containerStatuses=[crashed], **WAITING))
    status = scene.settle("kws-en")
    assert conditions(status)["Ready"] == ("False", "CrashLoop")
    assert message(status, "Available") == "Container engine ended with exit code 3: first words"
    again = {**crashed, "lastState": {"terminated": {"exitCode": 3, "message": "other words"}}}
    scene.put(pod(containerStatuses=[again], **WAITING))
    assert message(scene.settle("kws-en"), "Available").endswith("first words"), "the same trouble, told once"
    running = {"name": "engine", "restartCount": 0, "state": {"running": {}}}
    scene.put(pod(containerStatuses=[running], **WAITING))
    assert conditions(scene.settle("kws-en"))["Available"] == ("False", "CrashLoop"), "until a start succeeds"


def test_a_rollout_that_cannot_go_on_names_its_trouble_while_old_pods_serve() -> None:
    scene, status = rolling_out()
    assert conditions(status)["UpToDate"] == ("False", "RollingOut")
    assert message(status, "UpToDate") == "0 of 1 pods of the newest template are ready; 1 of an older one"
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
    old = pod("kws-en-old", containerStatuses=[{"name": "engine", "ready": True}])
    old["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
    new = pod("kws-en-new", containerStatuses=[{"name": "engine", "state": waiting}], **WAITING)
    new["metadata"]["labels"]["pod-template-hash"] = "b"
    new["metadata"]["creationTimestamp"] = LATER
    scene.put(old, new)
    status = scene.settle("kws-en")
    assert conditions(status)["Ready"] == ("True", "Serving")
    assert conditions(status)["Degraded"] == ("True", "ImagePull")
    trouble = "The image of container engine cannot be pulled: no such image"
    assert message(status, "Degraded") == f"Older pods serve, and newer ones do not run: {trouble}"
    assert conditions(status)["UpToDate"] == ("False", "ImagePull")
    assert message(status, "UpToDate").startswith("0 of 1 pods of the newest template are ready; 1 of an")
    assert message(status, "UpToDate").endswith(trouble)


def _rival() -> Manifest:
    return {
        **variant("first", servedName="x"),
        "metadata": {"name": "first", "creationTimestamp": "2025-01-01"},
    }


@pytest.mark.parametrize("on", [engine(), upstream("kws")], ids=["pods", "upstream"])
def test_who_lost_its_public_id_publishes_nothing_before_it_serves(on: Manifest) -> None:
    scene = Scene(node("n1"), on, _rival(), variant(servedName="x", aliases=["mine"]))
    status = scene.settle("kws-en")
    assert conditions(status)["Accepted"] == ("False", "NameConflict")
    assert "publishedNames" not in status
    assert "Degraded" not in conditions(status)


@pytest.mark.parametrize("on", [engine(), upstream("kws")], ids=["pods", "upstream"])
def test_who_loses_its_public_id_while_it_serves_keeps_its_other_names(on: Manifest) -> None:
    scene = Scene(node("n1"), on, _rival(), variant(servedName="y", aliases=["mine"]))
    served = scene.settle("kws-en", **SERVING)
    assert served["publishedNames"] == ["y", "mine"]
    renamed = variant(servedName="x", aliases=["mine"])
    scene.put({**renamed, "metadata": {"name": "kws-en", "generation": 2}, "status": served})
    status = scene.settle("kws-en", **SERVING)
    assert conditions(status)["Accepted"] == ("False", "NameConflict")
    assert status["publishedNames"] == ["mine"]
    assert "AliasConflict" not in {reason for _, reason in conditions(status).values()}


def test_an_alias_of_somebody_else_is_told() -> None:
    scene = Scene(node("n1"), engine(), _rival(), variant(aliases=["x"]))
    status = scene.settle("kws-en", **SERVING)
    assert conditions(status)["Degraded"] == ("True", "AliasConflict")
    assert status["publishedNames"] == ["kws-en"]


def test_a_refused_child_is_told_and_nothing_else_is_forgotten() -> None:
    scene = Scene(node("n1"), engine(), variant())
    before = scene.settle("kws-en", **SERVING)
    wrong = Outcome(refusal=Refusal("Deployment kws-en", 422, "spec.template.spec.x: Invalid value"))
    status = scene.status("kws-en", wrong)
    assert conditions(status)["Accepted"] == ("False", "InvalidSpec")
    assert "spec.template.spec.x" in message(status, "Accepted")
    assert conditions(status)["Available"] == ("True", "Serving")
    assert status["backends"] == before["backends"]
    full = Outcome(refusal=Refusal("Deployment kws-en", 403, "exceeded quota"))
    refused = Scene(node("n1"), engine(), variant())
    assert conditions(refused.status("kws-en", full))["Ready"] == ("False", "PodRefused")


def test_who_was_only_quicker_is_no_refusal() -> None:
    quicker = Outcome(refusal=Refusal("Deployment kws-en", 409, "the object has been modified"))
    first = Scene(node("n1"), engine(), variant()).status("kws-en", quicker)
    assert conditions(first)["Scheduled"] == ("Unknown", "Pending")
    assert conditions(first)["UpToDate"] == ("False", "RollingOut")
    scene = Scene(node("n1"), engine(), variant())
    scene.settle("kws-en", **SERVING)
    later = scene.status("kws-en", quicker)
    assert conditions(later)["UpToDate"] == ("False", "RollingOut")
    assert "Degraded" not in conditions(later)


def test_conflicts_are_told_by_manager_and_path() -> None:
    scene = Scene(node("n1"), engine(), variant())
    scene.settle("kws-en", **SERVING)
    held = Outcome((Conflict("Deployment kws-en", ".spec.replicas", "hpa"),))
    status = scene.status("kws-en", held)
    assert (
        message(status, "OwnershipConflict")
        == "Left to others: Deployment kws-en: 'hpa' holds .spec.replicas"
    )


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ({"limits": {"requestsPerHour": 5}}, "spec.limits.requestsPerHour"),
        ({"pricing": {"type": "Free"}}, "spec.pricing"),
        ({"requestDefaults": {"temperature": 0.5}}, "spec.requestDefaults"),
    ],
)
def test_a_field_that_nothing_honours_is_named(spec: Manifest, named: str) -> None:
    scene = Scene(node("n1"), engine(), variant(**spec), variant("x"))
    status = scene.settle("kws-en", **SERVING)
    assert conditions(status)["Degraded"] == ("True", "NotYetSupported")
    assert named in message(status, "Degraded")
    assert conditions(status)["Ready"] == ("True", "Serving")


def test_what_the_gateway_does_for_json_is_honoured_there() -> None:
    spec: Manifest = {
        "fallbacks": [{"model": "x"}],
        "requestDefaults": {"temperature": 0.5},
        "loadBalancing": {"type": "PrefixHash"},
    }
    scene = Scene(node("n1"), engine(stage="Chat"), variant(**spec), variant("x"))
    assert "Degraded" not in conditions(scene.settle("kws-en", **SERVING))


@pytest.mark.req("S2-29")
def test_a_download_can_be_skipped() -> None:
    source = {"type": "HuggingFace", "huggingFace": {"repo": "a/b"}}
    scene = Scene(node("n1"), engine(), variant(source=source, downloadPolicy="Skip"))
    assert conditions(scene.settle("kws-en", **SERVING))["WeightsReady"] == ("True", "DownloadSkipped")


def test_a_stage_without_a_route_is_told_on_engine_and_variant() -> None:
    scene = Scene(node("n1"), engine(stage="Music"), variant())
    assert "spec.stage Music" in message(scene.settle("kws-en", **SERVING), "Degraded")
    chat = scene.world("kws-en").engines[0]
    assert message(engine_status(chat, Usage(), scene.cache.fleet, now=NOW), "Degraded").endswith(
        "spec.stage Music"
    )


def test_required_verification_is_not_passed_over() -> None:
    scene = Scene(node("n1"), engine(), variant(verification={"policy": "Required"}))
    assert conditions(scene.settle("kws-en", **SERVING))["Ready"] == ("False", "Verifying")


def test_a_refused_update_takes_nothing_from_pods_that_serve() -> None:
    one = Scene(node("n1"), engine(), variant())
    one.settle("kws-en", **SERVING)
    one.put({**variant(), "metadata": {"name": "kws-en", "generation": 2}, "spec": changed()})
    refused = Outcome(refusal=Refusal("Deployment kws-en", 403, "admission webhook says no"))
    found = conditions(one.status("kws-en", refused))
    assert found["Ready"] == ("True", "Serving")
    assert found["UpToDate"] == ("False", "PodRefused")
    assert found["Degraded"] == ("True", "PodRefused")


def changed() -> Manifest:
    return {**variant()["spec"], "env": [{"name": "A", "value": "b"}]}


def test_a_lost_endpoint_keeps_its_reason_and_learns_its_cause() -> None:
    one, _ = lost()
    one.write("kws-en", one.status("kws-en"))
    waiting = {"reason": "ImagePullBackOff", "message": "not found"}
    container = {"name": "engine", "ready": False, "restartCount": 0, "state": {"waiting": waiting}}
    one.put(pod(**WAITING, containerStatuses=[container]))
    status = one.status("kws-en")
    assert conditions(status)["Available"] == ("False", "EndpointLost")
    assert "ImagePull" in message(status, "Available")


def test_at_zero_replicas_nobody_speaks_of_pods() -> None:
    one = Scene(node("n1"), engine(), variant(replicas=0))
    one.settle("kws-en", replicas=0)
    world = one.world("kws-en")
    gone = {"namespace": "speech", "name": "kws", "resourceVersion": "99999999"}
    one.cache.remove(world.engines[0].kind, {"metadata": gone})
    status = one.status("kws-en")
    assert conditions(status)["Available"] == ("False", "EngineNotFound")
    assert "Degraded" not in conditions(status)

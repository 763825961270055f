"""How the pods of a shared engine on GPUs are replaced: a new one first where there is room for it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from roundhouse_api.model import Manifest
from roundhouse_operator.core.kinds import DEPLOYMENT
from roundhouse_operator.core.rollout.room import OVERDUE_SECONDS
from roundhouse_operator.core.weights.asked import Answer
from tests.unit.operator.sharing import SharedScene, gpu_node, shared_engine
from tests.unit.operator.test_sharing import changed, image, model
from tests.unit.operator.worlds import conditions, message

RECREATE, SURGE = (0, 1), (1, 0)


def on_gpus(gpus: int, *full: str, names: str = "ab", **spec: Any) -> SharedScene:
    """A pod with a GPU of its own for each; those that are `full` found none."""
    shared = SharedScene(shared_engine(**spec), gpu_node(gpus=gpus), *(model(name, 20_000) for name in names))
    shared.full |= {*full}
    shared.come_to_rest()
    return shared


def edit(shared: SharedScene, **spec: Any) -> None:
    new = shared_engine(version="2.0.0", workload={"image": "example.org/kws:2"}, **spec)
    shared.put(changed(new))


def written(shared: SharedScene) -> dict[str, Manifest]:
    """Deployments of the next pass."""
    applies = shared.arrange().plan.applies
    return {one.manifest["metadata"]["name"]: one.manifest for one in applies if one.kind == DEPLOYMENT}


def way(deployment: Manifest) -> tuple[int, int]:
    amounts = deployment["spec"]["strategy"]["rollingUpdate"]
    return amounts["maxSurge"], amounts["maxUnavailable"]


def serving_all_the_while(shared: SharedScene, passes: int = 20) -> int:
    """The fewest variants that are served at once while a change goes on."""
    fewest = []
    for _ in range(passes):
        shared.act()
        fewest.append(sum(bool(shared.serving(name)) for name in "abc"))
        shared.ask()
    return min(fewest)


def test_a_free_gpu_takes_the_new_pod_and_nobody_is_without() -> None:
    shared = on_gpus(3)
    edit(shared)
    [(_, first)] = written(shared).items()
    assert way(first) == SURGE
    assert serving_all_the_while(shared) == 2
    assert [image(shared, f"kws-{number}") for number in (0, 1)] == ["example.org/kws:2"] * 2
    assert shared.act() is False, "the way stands as it was chosen"


def test_without_a_free_gpu_the_old_pod_goes_first() -> None:
    shared = on_gpus(2)
    edit(shared)
    [(_, first)] = written(shared).items()
    assert way(first) == RECREATE
    assert serving_all_the_while(shared) == 1
    assert [image(shared, f"kws-{number}") for number in (0, 1)] == ["example.org/kws:2"] * 2


@pytest.mark.parametrize(
    ("modes", "expected"),
    [("", RECREATE), ("ReadWriteOnce", RECREATE), ("ReadWriteMany", SURGE), ("ReadOnlyMany", SURGE)],
)
def test_a_claim_that_one_node_at_a_time_can_mount_lets_the_old_pod_go_first(
    modes: str, expected: tuple[int, int]
) -> None:
    cache = {"type": "PVC", "pvc": {"claimName": "models"}}
    shared = on_gpus(3, cache=cache)
    assert shared.arrange().asks == frozenset()
    edit(shared, cache=cache)
    [ask] = shared.arrange().asks
    assert str(ask.name) == "models"
    shared.answers[ask] = Answer(found=bool(modes), access_modes=frozenset(modes.split()))
    [(_, first)] = written(shared).items()
    assert way(first) == expected


@pytest.mark.parametrize(
    ("modes", "expected"), [("", RECREATE), ("ReadWriteOnce", RECREATE), ("ReadWriteMany", SURGE)]
)
def test_on_the_cpu_too_a_claim_that_one_node_at_a_time_can_mount_lets_the_old_pod_go_first(
    modes: str, expected: tuple[int, int]
) -> None:
    spec: dict[str, Any] = {
        "hardware": {"gpu": {"mode": "None"}},
        "cache": {"type": "PVC", "pvc": {"claimName": "models"}},
    }
    shared = SharedScene(shared_engine(**spec), gpu_node(), model("a"))
    shared.come_to_rest()
    edit(shared, **spec)
    [ask] = shared.arrange().asks
    shared.answers[ask] = Answer(found=bool(modes), access_modes=frozenset(modes.split()))
    [(_, first)] = written(shared).items()
    assert way(first) == expected
    shared.come_to_rest()
    assert (image(shared, "kws-0"), len(shared.serving("a"))) == ("example.org/kws:2", 1)
    assert shared.act() is False, "the way stands as it was chosen"


def test_on_the_cpu_without_such_a_claim_the_new_pod_comes_first() -> None:
    shared = on_gpus(1, names="a", hardware={"gpu": {"mode": "None"}})
    edit(shared, hardware={"gpu": {"mode": "None"}})
    [(_, first)] = written(shared).items()
    assert (way(first), shared.arrange().asks) == (SURGE, frozenset())
    assert serving_all_the_while(shared) == 1


def test_a_new_pod_that_finds_no_gpu_after_all_lets_the_old_one_go() -> None:
    shared = on_gpus(3)
    edit(shared)
    [name] = written(shared)
    shared.full.add(name)
    shared.act()
    assert {pod["spec"].get("nodeName") for pod in shared.pods.values()} == {"gpu-1", None}
    [(again, flipped)] = written(shared).items()
    assert (again, way(flipped)) == (name, RECREATE)
    serving_all_the_while(shared)
    assert [image(shared, f"kws-{number}") for number in (0, 1)] == ["example.org/kws:2"] * 2
    assert all(shared.serving(one) for one in "ab")


def test_a_pod_that_still_ends_is_waited_for_and_named_and_not_without_end() -> None:
    shared = on_gpus(3)
    edit(shared)
    [name] = written(shared)
    shared.full.add(name)
    shared.act()
    ended, old = "2026-01-02T00:00:00Z", next(iter(shared.pods.values()))
    going = {**old["metadata"], "name": "kws-0-0", "deletionTimestamp": ended}
    shared.put({**old, "metadata": going})
    shared.now = int(datetime.fromisoformat(ended).timestamp())
    assert written(shared) == {}, "the new pod gets its GPU"
    assert shared.arrange().again_seconds == OVERDUE_SECONDS
    shared.act()
    told = shared.tell("a")
    assert conditions(told)["Ready"] == ("True", "Serving")
    assert "; 'kws-0-0' still ends, and makes room" in message(told, "UpToDate")
    shared.now += OVERDUE_SECONDS
    [(again, flipped)] = written(shared).items()
    assert (again, way(flipped)) == (name, RECREATE), "a finalizer holds it, say"
    assert shared.arrange().again_seconds is None


def assert_withheld(shared: SharedScene, variant: str, reason: str) -> None:
    """A variant whose pod is taken away for a while says what it lacks, and what it waits for."""
    told = shared.tell(variant)
    assert conditions(told)["Ready"] == ("False", reason)
    assert conditions(told)["Scheduled"] == conditions(told)["Available"] == ("False", reason)
    assert "is made again once pod 'kws-0', which is replaced, has its GPU" in message(told, "Available")


def test_no_node_that_fits_is_told_with_what_is_missing_also_while_its_pod_is_taken_away() -> None:
    shared, smaller = on_gpus(1, "kws-1"), gpu_node(gpus=1, mib=16_000)
    assert conditions(shared.tell("b"))["Scheduled"] == ("False", "InsufficientGPU")
    shared.put(smaller)
    shared.act()
    told = shared.tell("b")
    assert conditions(told)["Scheduled"] == ("False", "InsufficientVRAM")
    assert "the largest that is too small has 16000 MiB" in message(told, "Scheduled")
    shared.put(gpu_node(gpus=1))
    edit(shared)
    shared.full.add("kws-0")
    shared.act()
    shared.put(smaller)
    shared.act()
    assert_withheld(shared, "b", "InsufficientVRAM")


def test_a_quota_holds_up_no_change_either_and_is_told_by_those_that_it_stops() -> None:
    shared = SharedScene(shared_engine(), gpu_node(gpus=2), *(model(name, 20_000) for name in "ab"))
    shared.over_quota.add("kws-1")
    shared.come_to_rest()
    assert conditions(shared.tell("b"))["Scheduled"] == ("False", "QuotaExceeded")
    edit(shared)
    serving_all_the_while(shared)
    assert image(shared, "kws-0") == "example.org/kws:2"
    assert conditions(shared.tell("a"))["UpToDate"] == ("True", "RolledOut")
    assert conditions(shared.tell("b"))["Scheduled"] == ("False", "QuotaExceeded")


def test_who_waits_for_a_change_of_the_engine_says_for_which_pod_and_why_it_takes_so_long() -> None:
    shared = on_gpus(2)
    assert shared.tell("b")["engine"]["generation"] == 1
    edit(shared)
    shared.act()
    told = shared.tell("b")
    assert conditions(told)["Ready"] == ("True", "Serving")
    assert conditions(told)["UpToDate"] == ("False", "WaitingForTurn")
    assert message(told, "UpToDate").endswith(
        "Pod 'kws-1' is as before, and is changed once pod 'kws-0' is well"
    )
    assert told["engine"]["generation"] == 1, "the Engine counts it among those that are behind"
    [new] = [name for name in shared.pods if name.startswith("kws-0-")]
    ended = {"exitCode": 3, "reason": "Error", "message": "no such option"}
    status = {"name": "engine", "ready": False, "state": {"terminated": ended}}
    shared.pods[new]["status"]["containerStatuses"] = [status]
    shared.put(shared.pods[new])
    shared.act()
    told = shared.tell("b")
    assert conditions(told)["UpToDate"] == ("False", "RolloutPaused")
    assert "CrashLoop: Container engine ended with exit code 3" in message(told, "UpToDate")


@pytest.mark.parametrize("gpus", [1, 2])
def test_a_gpu_that_is_free_for_a_moment_is_not_for_a_pod_that_waits(gpus: int) -> None:
    waits = [f"kws-{number}" for number in range(gpus, 3)]
    shared = on_gpus(gpus, *waits, names="abc")
    edit(shared)
    plan = shared.arrange().plan
    deployments = [one.manifest for one in plan.applies if one.kind == DEPLOYMENT]
    assert [one["metadata"]["name"] for one in deployments] == [*waits, "kws-0"], "before a GPU is free"
    assert [one["spec"]["replicas"] for one in deployments] == [*[0 for _ in waits], 1]
    shared.full.add("kws-0")  # its new pod has not got the GPU yet
    for _ in range(4):
        shared.act()
        assert not [pod for pod in shared.pods if shared._deployment(pod) in waits]
    assert_withheld(shared, "c", "InsufficientGPU")
    shared.full.discard("kws-0")
    [pod] = [one for one in shared.pods if one.startswith("kws-0-")]
    shared.end(pod)
    shared.start("kws-0")
    serving_all_the_while(shared)
    assert [image(shared, f"kws-{number}") for number in range(gpus)] == ["example.org/kws:2"] * gpus
    assert {shared._deployment(pod) for pod in shared.pods} >= set(waits), "they wait on"
    assert shared.act() is False

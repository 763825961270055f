"""Which way pods are replaced: by the GPUs that seem free, and by the scheduler's word."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roundhouse_api.model import Manifest
from roundhouse_operator.core.decide import decide
from roundhouse_operator.core.kinds import DEPLOYMENT, DISRUPTION_BUDGET, POD, VARIANT, Key
from roundhouse_operator.core.rollout.room import OVERDUE_SECONDS, RETRY_SECONDS
from tests.unit.operator.samples import engine, variant
from tests.unit.operator.worlds import MANAGER, NAMESPACE, Scene, applied, message, node, pod

GPU = "nvidia.com/gpu"
SURGE = {"maxSurge": 1, "maxUnavailable": 0}
ONE_BY_ONE = {"maxSurge": 0, "maxUnavailable": 1}
NO_ROOM = "0/2 nodes are available: 2 Insufficient nvidia.com/gpu."
APART = "0/1 nodes are available: 1 node(s) didn't match pod anti-affinity rules."


def on_gpu(count: int = 1, **spec: Any) -> Manifest:
    return engine(hardware={"gpu": {"mode": "Required", "count": count}}, **spec)


def gpu_pod(
    name: str,
    where: str,
    *,
    template: str = "a",
    count: int = 1,
    created: str = "",
    refusal: str = NO_ROOM,
    **status: Any,
) -> Manifest:
    """`where=""`: the scheduler has tried and found nothing."""
    made = pod(name, node=where, **status)
    made["metadata"]["labels"] |= {"pod-template-hash": template}
    if created:
        made["metadata"]["creationTimestamp"] = created
    made["spec"]["containers"] = [{"name": "engine", "resources": {"limits": {GPU: str(count), "cpu": "1"}}}]
    if not where:
        cause = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": refusal}
        made["status"] = {"conditions": [cause]}
    return made


def serving(scene: Scene, *, replicas: int = 1, updated: int | None = None) -> None:
    updated = replicas if updated is None else updated
    figures: dict[str, Any] = {"replicas": replicas, "updatedReplicas": updated, "readyReplicas": replicas}
    done = [{"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}]
    scene.settle("kws-en", **figures, conditions=done)
    scene.settle("kws-en", **figures, conditions=done)


def chosen(scene: Scene) -> tuple[str, str, Manifest]:
    """Strategy, reason, and the Deployment's amounts."""
    decision = scene.decide("kws-en")
    assert decision.strategy
    assert decision.intent
    return decision.strategy.kind.value, decision.strategy.reason, decision.intent.strategy["rollingUpdate"]


def edited(scene: Scene, **spec: Any) -> None:
    """The variant's author asks for other pods."""
    whole = variant(args=["--more"], **spec)
    before = scene.world("kws-en").variant
    scene.put({**whole, "metadata": {"name": "kws-en", "generation": 2}, "status": before.status})


def test_a_free_gpu_lets_a_new_pod_come_first() -> None:
    scene = Scene(node("g1", 2), on_gpu(), variant())
    serving(scene)
    scene.put(gpu_pod("old", "g1"))
    edited(scene)
    assert chosen(scene) == ("Surge", "FreeGPU", SURGE)


def test_on_the_last_gpu_an_old_pod_goes_first() -> None:
    scene = Scene(node("g1", 1), on_gpu(), variant())
    serving(scene)
    scene.put(gpu_pod("old", "g1"))
    edited(scene)
    assert chosen(scene) == ("Recreate", "NoFreeGPU", ONE_BY_ONE)


def test_gpus_of_other_variants_are_not_free() -> None:
    scene = Scene(node("g1", 2), on_gpu(), variant(), variant("other"))
    serving(scene)
    taken = gpu_pod("theirs", "g1")
    taken["metadata"]["labels"]["roundhouse.dev/variant"] = "other"
    scene.put(gpu_pod("old", "g1"), taken)
    edited(scene)
    assert chosen(scene)[1] == "NoFreeGPU"
    scene.cache.remove(*_deletion(taken))
    assert chosen(scene)[1] == "FreeGPU"


def _deletion(manifest: Manifest) -> tuple[Any, Manifest]:
    from tests.unit.operator.worlds import sent  # noqa: PLC0415

    return POD, sent(manifest)


def test_a_free_gpu_that_does_not_fit_is_none() -> None:
    small = {"nvidia_com__gpu_memory": "8192"}
    scene = Scene(
        node("g1", 1, nvidia_com__gpu_memory="24576"),
        node("g2", 4, **small),
        engine(hardware={"gpu": {"mode": "Required", "minMemory": "16G"}}),
        variant(),
    )
    serving(scene)
    scene.put(gpu_pod("old", "g1"))
    edited(scene)
    assert chosen(scene)[1] == "NoFreeGPU"


def test_without_a_gpu_a_new_pod_comes_first() -> None:
    scene = Scene(node("n1"), engine(), variant())
    serving(scene)
    edited(scene)
    assert chosen(scene) == ("Surge", "NeedsNoGPU", SURGE)


@pytest.mark.parametrize(("policy", "amounts"), [("Surge", SURGE), ("Recreate", ONE_BY_ONE)])
def test_what_is_asked_for_is_done(policy: str, amounts: Manifest) -> None:
    scene = Scene(node("g1", 8), on_gpu(), variant(rollout={"strategy": policy}))
    assert chosen(scene) == (policy, "Requested", amounts)
    scene.put(gpu_pod("old", "g1"), gpu_pod("new", "", template="b", created="2026-01-02T00:00:00Z"))
    assert chosen(scene) == (policy, "Requested", amounts), "whatever the scheduler says"


def in_flight(scene: Scene) -> None:
    """A new pod was made beside the old one."""
    edited(scene)
    scene.settle("kws-en", replicas=2, updatedReplicas=1, readyReplicas=1)


def test_the_scheduler_has_the_last_word() -> None:
    """A GPU seemed free, and somebody whom nobody here knows has it."""
    scene = Scene(node("g1", 2), on_gpu(), variant())
    serving(scene)
    scene.put(gpu_pod("old", "g1"))
    in_flight(scene)
    assert chosen(scene)[1] == "FreeGPU"
    assert scene.decide("kws-en").plan.empty
    scene.put(gpu_pod("new", "", template="b", created="2026-01-02T00:00:00Z"))
    assert chosen(scene) == ("Recreate", "NoFreeGPU", ONE_BY_ONE)
    [apply] = scene.decide("kws-en").plan.applies
    assert apply.kind == DEPLOYMENT
    before = next(one.live for one in scene.world("kws-en").children if one.kind == DEPLOYMENT)
    assert apply.manifest["spec"]["template"] == before["spec"]["template"], "it rolls nothing"

    scene.settle("kws-en", replicas=2, updatedReplicas=1, readyReplicas=1)
    assert chosen(scene)[1] == "NoFreeGPU", "and stands, although a GPU may be free by now"
    assert scene.decide("kws-en").plan.empty
    again = Scene()
    again.cache = scene.cache
    assert again.decide("kws-en").plan.empty, "also after a restart"


@pytest.mark.parametrize(
    ("words", "way"),
    [
        ("1 node(s) didn't match pod anti-affinity rules", ("Recreate", "NoRoom", ONE_BY_ONE)),
        ("1 node(s) didn't satisfy existing pods anti-affinity rules", ("Recreate", "NoRoom", ONE_BY_ONE)),
        ("1 node(s) didn't have free ports for the requested pod ports", ("Recreate", "NoRoom", ONE_BY_ONE)),
        ("1 node(s) didn't match pod topology spread constraints", ("Recreate", "NoRoom", ONE_BY_ONE)),
        ("1 node(s) exceed max volume count", ("Recreate", "NoRoom", ONE_BY_ONE)),
        (
            "1 node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode",
            ("Recreate", "NoRoom", ONE_BY_ONE),
        ),
        (
            "1 Insufficient nvidia.com/gpu, 1 node(s) exceed max volume count",
            ("Recreate", "NoFreeGPU", ONE_BY_ONE),
        ),
        ("1 node(s) didn't match pod topology spread constraints (missing required label)", None),
        ("1 node(s) didn't match pod affinity rules", None),
        ("1 node(s) had untolerated taint(s)", None),
    ],
)
def test_an_old_pod_goes_first_that_keeps_a_new_one_off_its_node(
    words: str, way: tuple[str, str, Manifest] | None
) -> None:
    """GPUs are free, and yet no new pod may stand beside an old one; none goes that would help nobody."""
    scene = Scene(node("g1", 2), on_gpu(), variant())
    serving(scene)
    scene.put(gpu_pod("old", "g1"))
    in_flight(scene)
    refusal = f"0/1 nodes are available: {words}."
    scene.put(gpu_pod("new", "", template="b", created="2026-01-02T00:00:00Z", refusal=refusal))
    assert chosen(scene) == (way or ("Surge", "FreeGPU", SURGE))
    scene.settle("kws-en", replicas=2, updatedReplicas=1, readyReplicas=1)
    assert chosen(scene) == (way or ("Surge", "FreeGPU", SURGE)), "and that stands as long as it goes on"


def test_a_pod_that_is_still_ending_makes_room_by_itself() -> None:
    """The scheduler finds none until it is gone; where its node is lost, nobody waits for that."""
    scene = Scene(node("g1", 1), node("g2", 2), on_gpu(), variant(replicas=2))
    serving(scene, replicas=2)
    going = gpu_pod("old-1", "g1")
    scene.put(going, gpu_pod("old-2", "g2"))
    edited(scene, replicas=2)
    chosen(scene)
    scene.settle("kws-en", replicas=3, updatedReplicas=2, readyReplicas=2)
    going["metadata"]["deletionTimestamp"] = "2026-01-02T00:00:00Z"
    scene.put(going, gpu_pod("new-1", "g2", template="b"))
    scene.put(gpu_pod("new-2", "", template="b", created="2026-01-02T00:00:00Z"))
    assert chosen(scene) == ("Surge", "FreeGPU", SURGE)
    assert "'old-1' still ends, and makes room" in message(scene.status("kws-en"), "UpToDate")

    beside = gpu_pod("old-0", "g1")
    beside["metadata"]["deletionTimestamp"] = "2026-01-02T00:00:00Z"
    scene.put({**beside, "spec": {"nodeName": "g1"}})
    assert "; 'old-1' still ends" in message(scene.status("kws-en"), "UpToDate"), "it alone has a GPU"
    scene.cache.forget(Key(POD, NAMESPACE, "old-0"))

    ended = int(datetime.fromisoformat("2026-01-02T00:00:00Z").timestamp())
    world = scene.world("kws-en")
    assert decide(replace(world, now=ended)).revisit_seconds == OVERDUE_SECONDS
    late = decide(replace(world, now=ended + OVERDUE_SECONDS)).strategy
    assert late, "a finalizer holds it, say"
    assert (late.kind, late.reason) == ("Recreate", "NoFreeGPU")

    lost = node("g1", 1)
    lost["spec"]["taints"] = [{"key": "node.kubernetes.io/unreachable", "effect": "NoSchedule"}]
    scene.put(lost)
    assert chosen(scene) == ("Recreate", "NoFreeGPU", ONE_BY_ONE)


def test_the_scheduler_has_time_to_see_what_a_pod_has_left() -> None:
    """Its word that there is no room is older than the room, and it pauses before it tries again."""
    scene = Scene(node("g1", 1), node("g2", 2), on_gpu(), variant(replicas=2))
    serving(scene, replicas=2)
    scene.put(gpu_pod("old-1", "g1"), gpu_pod("old-2", "g2"))
    edited(scene, replicas=2)
    scene.settle("kws-en", replicas=3, updatedReplicas=2, readyReplicas=2)
    scene.put(gpu_pod("new-1", "g2", template="b"))
    scene.put(gpu_pod("new-2", "", template="b", created="2026-01-02T00:00:00Z"))
    scene.cache.forget(Key(POD, NAMESPACE, "old-1"))
    world = scene.world("kws-en")
    assert world.vacancy
    assert world.vacancy.node == "g1"

    def at(seconds: int) -> tuple[str, str, int | None]:
        assert world.vacancy
        decision = decide(replace(world, now=world.vacancy.since + seconds))
        assert decision.strategy
        return decision.strategy.kind, decision.strategy.reason, decision.revisit_seconds

    assert at(0) == ("Surge", "FreeGPU", RETRY_SECONDS)
    assert at(RETRY_SECONDS - 1) == ("Surge", "FreeGPU", 1)
    assert at(RETRY_SECONDS)[:2] == ("Recreate", "NoFreeGPU"), "somebody else has it, who is not counted"

    scene.put({**gpu_pod("other", "g1"), "metadata": {"name": "other", "labels": {}}})
    world = scene.world("kws-en")
    assert at(0)[:2] == ("Recreate", "NoFreeGPU"), "it is taken again"

    scene.cache.forget(Key(VARIANT, NAMESPACE, "kws-en"))
    scene.cache.forget(Key(POD, NAMESPACE, "old-2"))
    scene.put(variant(replicas=2))
    assert scene.world("kws-en").vacancy is None


def test_a_pod_that_could_run_nowhere_ends_none_that_runs() -> None:
    scene = Scene(node("g1", 2), on_gpu(), variant())
    serving(scene)
    scene.put(gpu_pod("old", "g1"))
    scene.put({**on_gpu(count=4), "metadata": {"name": "kws", "generation": 2}})
    edited(scene)
    assert chosen(scene) == ("Surge", "NoNodeFits", SURGE)
    scene.settle("kws-en", replicas=2, updatedReplicas=1, readyReplicas=1)
    scene.put(gpu_pod("new", "", template="b", count=4, created="2026-01-02T00:00:00Z"))
    assert chosen(scene)[2] == SURGE


def test_as_many_old_pods_go_as_a_new_one_needs() -> None:
    scene = Scene(node("g1", 2), on_gpu(), variant(replicas=2))
    serving(scene, replicas=2)
    scene.put(gpu_pod("old-1", "g1"), gpu_pod("old-2", "g1"))
    scene.put({**on_gpu(count=2), "metadata": {"name": "kws", "generation": 2}})
    edited(scene, replicas=2)
    assert chosen(scene) == ("Recreate", "NoFreeGPU", {"maxSurge": 0, "maxUnavailable": 2})


def test_a_full_node_makes_room_for_a_pod_without_a_gpu_and_is_forgotten_after() -> None:
    scene = Scene(node("n1"), engine(), variant())
    serving(scene)
    scene.put(pod("old", node="n1"))
    in_flight(scene)
    cause = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/1 nodes are available: 1 Insufficient cpu.",
    }
    new = pod("new", node="", conditions=[cause])
    new["metadata"] |= {"creationTimestamp": "2026-01-02T00:00:00Z"}
    new["metadata"]["labels"] |= {"pod-template-hash": "b"}
    scene.put(new)
    assert chosen(scene) == ("Recreate", "NoRoom", ONE_BY_ONE)
    scene.settle("kws-en", replicas=1, updatedReplicas=1, readyReplicas=1)
    assert chosen(scene) == ("Surge", "NeedsNoGPU", SURGE)


def reported(scene: Scene, *, replicas: int = 1, updated: int = 1, ready: int = 0) -> None:
    """A pass, and what the Deployment's controller says after it."""
    figures: dict[str, Any] = {
        "replicas": replicas,
        "updatedReplicas": updated,
        "readyReplicas": ready,
    }
    scene.settle("kws-en", **figures)
    live = next(one.live for one in scene.world("kws-en").children if one.kind == DEPLOYMENT)
    scene.put(applied(live, rollout=figures, manager=MANAGER))


@pytest.mark.parametrize("count", [0, 1], ids=["cpu", "gpu"])
def test_where_nothing_is_ready_an_old_pod_goes_first_though_there_is_room(count: int) -> None:
    scene = Scene(node("g1", 4), on_gpu() if count else engine(), variant())
    reported(scene)
    usual = chosen(scene)
    assert usual[0] == "Surge"
    in_place = ("Recreate", "NothingReady", ONE_BY_ONE)
    scene.put(gpu_pod("old", "g1", count=count))
    edited(scene)
    assert chosen(scene) == in_place
    for replicas, updated in ((1, 0), (0, 0), (1, 1), (1, 1)):
        reported(scene, replicas=replicas, updated=updated)
        assert chosen(scene) == in_place, "all the way, and as long as nothing is ready"
    for ready in (1, 0, 1, 0):
        reported(scene, ready=ready)
        assert chosen(scene) == usual, "a pod that comes and goes later changes nothing any more"


def test_a_pod_that_is_not_ready_yet_is_kept_where_no_node_could_hold_another() -> None:
    scene = Scene(node("g1", 1), on_gpu(), variant())
    reported(scene)
    scene.put(gpu_pod("old", "g1"))
    edited(scene, hardware={"gpu": {"count": 4}})
    assert chosen(scene) == ("Surge", "NoNodeFits", SURGE)


def test_the_choice_stands_at_rest_and_is_told() -> None:
    scene = Scene(node("g1", 1), on_gpu(), variant())
    serving(scene)
    scene.put(gpu_pod("old", "g1"), node("g2", 8))
    assert scene.decide("kws-en").plan.empty, "nodes come and go, and nothing is written"
    assert scene.world("kws-en").variant.status["rollout"] == {"strategy": "Recreate", "reason": "NoFreeGPU"}


def test_pods_that_end_are_told() -> None:
    scene = Scene(node("n1"), engine(), variant())
    serving(scene)
    ending = pod("old")
    ending["metadata"] |= {"deletionTimestamp": "2026-01-02T00:00:00Z"}
    scene.put(ending)
    assert scene.status("kws-en")["rollout"]["drainingReplicas"] == 1


@pytest.mark.parametrize(("replicas", "budgets"), [(0, 0), (1, 0), (2, 1), (5, 1)])
def test_a_node_is_drained_one_pod_at_a_time_where_there_are_several(replicas: int, budgets: int) -> None:
    applies = Scene(engine(), variant(replicas=replicas)).decide("kws-en").plan.applies
    found = [one.manifest["spec"] for one in applies if one.kind == DISRUPTION_BUDGET]
    assert [one["maxUnavailable"] for one in found] == [1] * budgets


def test_a_budget_that_is_not_wanted_any_more_goes() -> None:
    scene = Scene(engine(), variant(replicas=2))
    scene.settle("kws-en", replicas=2, updatedReplicas=2, readyReplicas=2)
    scene.put({**variant(replicas=1), "metadata": {"name": "kws-en", "generation": 2}})
    assert [one.kind for one in scene.decide("kws-en").plan.deletes] == [DISRUPTION_BUDGET]


@settings(deadline=None, max_examples=50)
@given(
    gpus=st.lists(st.integers(0, 3), min_size=1, max_size=3),
    unknown=st.integers(0, 2),
    replicas=st.integers(1, 3),
    apart=st.booleans(),
    broken=st.booleans(),
)
def test_no_deadlock_on_any_cluster(
    gpus: list[int], unknown: int, replicas: int, *, apart: bool, broken: bool
) -> None:
    """A played scheduler and Deployment controller: whatever others hold, every rollout ends."""
    cluster = _Played(gpus, unknown, replicas, apart=apart, broken=broken)
    if len(cluster.old) < replicas:
        return  # it never was whole
    for _ in range(40):
        if cluster.step():
            return
    raise AssertionError(f"it stands still: {cluster.old} {cluster.new} {cluster.strategy}")


class _Played:
    """`gpus` of each node; of the first one `unknown` are held by pods that carry no label of ours.

    `apart`: no two of the pods stand on one node. `broken`: none of the old ones was ever ready.
    """

    def __init__(self, gpus: list[int], unknown: int, replicas: int, *, apart: bool, broken: bool) -> None:
        self.apart, self.broken = apart, broken
        self.real = {f"g{number}": count for number, count in enumerate(gpus)}
        self.real["g0"] = max(self.real["g0"] - unknown, 0)
        self.replicas = replicas
        self.old: list[str] = []
        self.new: list[str] = []
        for _ in range(replicas):
            if where := self._free():
                self.old.append(where)
        nodes = [node(f"g{number}", count) for number, count in enumerate(gpus)]
        self.scene = Scene(*nodes, on_gpu(), variant(replicas=replicas))
        serving(self.scene, replicas=replicas)
        if broken:
            reported(self.scene, replicas=replicas, updated=replicas)
        self._show()
        edited(self.scene, replicas=replicas)
        self.strategy = chosen(self.scene)[2]

    def _free(self) -> str | None:
        held = [*self.old, *self.new]
        return next(
            (
                name
                for name, count in self.real.items()
                if held.count(name) < (min(count, 1) if self.apart else count)
            ),
            None,
        )

    def _refusal(self) -> str:
        """The scheduler looks at devices first, and at other pods on the nodes that have some."""
        held = [*self.old, *self.new]
        full = all(held.count(name) >= count for name, count in self.real.items())
        return NO_ROOM if full else APART

    def _show(self) -> None:
        for number in range(self.replicas + 1):
            for kind, places in (("old", self.old), ("new", self.new)):
                name = f"{kind}-{number}"
                there = places[number : number + 1]
                stamp = "2026-01-02T00:00:00Z" if kind == "new" else "2026-01-01T00:00:00Z"
                where = there[0] if there else ""
                made = gpu_pod(name, where, template=kind, created=stamp, refusal=self._refusal())
                self.scene.put(made) if there else self.scene.cache.remove(*_deletion(made))

    def step(self) -> bool:
        """One move of the controllers and one pass; whether the rollout is over."""
        waiting = [place for place in self.new if not place]
        for place in waiting:
            if where := self._free():
                self.new[self.new.index(place)] = where
        unready = sum(not place for place in self.new)
        total = len(self.old) + len(self.new)
        ready = total - unready - (len(self.old) if self.broken else 0)
        # Those that are not ready go first: the controller asks how many there are at all.
        there = total - unready if self.broken else ready
        spare = there - (self.replicas - self.strategy["maxUnavailable"])
        if len(self.new) < self.replicas and total < self.replicas + self.strategy["maxSurge"]:
            self.new.append("")
        elif self.old and spare > 0:
            self.old.pop()
        self._show()
        total, updated = len(self.old) + len(self.new), len(self.new)
        figures: dict[str, Any] = {"replicas": total, "updatedReplicas": updated, "readyReplicas": ready}
        self.scene.settle("kws-en", **figures)
        live = next(one.live for one in self.scene.world("kws-en").children if one.kind == DEPLOYMENT)
        self.scene.put(applied(live, rollout=figures, manager=MANAGER))
        self.strategy = chosen(self.scene)[2]
        return not self.old and len(self.new) >= self.replicas and all(self.new)

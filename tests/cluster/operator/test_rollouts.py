"""Rollouts with the real scheduler and Deployment controller, on GPU nodes that kwok plays."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.cluster.local import Cluster, FakeNode
from tests.cluster.operator.conftest import StartOperator
from tests.cluster.operator.harness import Kubectl, Operator
from tests.unit.operator.samples import engine, variant

MANAGED = "roundhouse.dev/managed=true"


@dataclass(frozen=True)
class Pool:
    """Nodes of a test's own, which nobody else's pods want."""

    cluster: Cluster
    kubectl: Kubectl
    name: str

    def add(self, *gpus: int) -> list[str]:
        nodes = [
            FakeNode(f"{self.name}-{number}", gpus=count, labels={"pool": self.name})
            for number, count in enumerate(gpus)
        ]
        self.cluster.fake_nodes(nodes)
        return [node.name for node in nodes]

    def engine(self, gpus: int = 1, **spec: Any) -> dict[str, Any]:
        gpu = {"mode": "Required", "count": gpus} if gpus else {"mode": "None"}
        return engine(hardware={"gpu": gpu, "nodeSelector": {"pool": self.name}}, **spec)

    def occupy(self, gpus: int) -> None:
        """A pod of somebody else, whom the operator knows nothing of."""
        container = {"name": "train", "image": "x", "resources": {"limits": {"nvidia.com/gpu": str(gpus)}}}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "training"},
            "spec": {"nodeSelector": {"pool": self.name}, "containers": [container]},
        }
        self.kubectl("create", "-f", "-", input=json.dumps(pod))
        self.kubectl("wait", "pod/training", "--for=condition=Ready", "--timeout=300s")


@pytest.fixture
def pool(control_plane: Cluster, kubectl: Kubectl) -> Iterator[Pool]:
    made = Pool(control_plane, kubectl, f"pool-{secrets.token_hex(3)}")
    yield made
    kubectl("delete", "mv,eng,pods", "--all", "--timeout=300s")
    control_plane.kubectl("delete", "node", "-l", f"pool={made.name}")


def rollout(kubectl: Kubectl) -> dict[str, Any]:
    status: dict[str, Any] = kubectl.get("mv", "kws-en")["status"].get("rollout", {})
    return {name: status.get(name) for name in ("strategy", "reason")}


def pods(kubectl: Kubectl, name: str = "kws-en") -> dict[str, str]:
    """Arguments of the pods that are to stay, by name."""
    found = kubectl.list("pods", f"roundhouse.dev/variant={name}")
    staying = [one for one in found if "deletionTimestamp" not in one["metadata"]]
    return {
        one["metadata"]["name"]: " ".join(one["spec"]["containers"][0].get("args", [])) for one in staying
    }


def change(kubectl: Kubectl) -> None:
    """Rolls the variant, and ends when that is done."""
    kubectl.patch("mv", "kws-en", {"spec": {"args": ["--new"]}})
    kubectl.wait("mv", "kws-en", "UpToDate", "True", "RolledOut", seconds=60)
    kubectl.wait_for(lambda: set(pods(kubectl).values()) == {"--new"}, "only new pods")


@pytest.mark.parametrize(
    ("gpus", "replicas", "told"),
    [
        pytest.param([1], 1, {"strategy": "Recreate", "reason": "NoFreeGPU"}, id="the-last-gpu"),
        pytest.param([2], 1, {"strategy": "Surge", "reason": "FreeGPU"}, id="one-spare"),
        pytest.param([1, 1, 2], 3, {"strategy": "Surge", "reason": "FreeGPU"}, id="several-and-a-spare"),
        pytest.param([2, 1], 3, {"strategy": "Recreate", "reason": "NoFreeGPU"}, id="several-and-none"),
        pytest.param([8, 8], 2, {"strategy": "Surge", "reason": "FreeGPU"}, id="many"),
    ],
)
def test_a_rollout_ends_however_few_gpus_there_are(  # noqa: PLR0917 - a table's columns
    operator: Operator, kubectl: Kubectl, pool: Pool, gpus: list[int], replicas: int, told: dict[str, str]
) -> None:
    pool.add(*gpus)
    kubectl.apply(pool.engine(), variant(replicas=replicas))
    kubectl.wait("mv", "kws-en", "Ready", "True", "Serving")
    kubectl.wait_for(lambda: kubectl.get("mv", "kws-en")["status"]["readyReplicas"] == replicas, "all ready")
    since = kubectl.condition("mv", "kws-en", "Available")["lastTransitionTime"]
    change(kubectl)
    assert rollout(kubectl) == told
    kubectl.wait_for(lambda: kubectl.get("mv", "kws-en")["status"]["readyReplicas"] == replicas, "all ready")
    if replicas > 1 or told["strategy"] == "Surge":
        assert kubectl.condition("mv", "kws-en", "Available")["lastTransitionTime"] == since


def test_pods_that_may_not_stand_on_one_node_take_turns(
    operator: Operator, kubectl: Kubectl, pool: Pool
) -> None:
    """GPUs are free on both nodes, and the old pods keep every new one off them."""
    pool.add(2, 2)
    others = {"labelSelector": {"matchLabels": {"roundhouse.dev/variant": "kws-en"}}}
    term = {**others, "topologyKey": "kubernetes.io/hostname"}
    apart = pool.engine()
    apart["spec"]["hardware"]["affinity"] = {
        "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}
    }
    kubectl.apply(apart, variant(replicas=2))
    kubectl.wait_for(lambda: kubectl.get("mv", "kws-en")["status"].get("readyReplicas") == 2, "both ready")
    assert rollout(kubectl) == {"strategy": "Surge", "reason": "FreeGPU"}
    change(kubectl)
    kubectl.wait_for(lambda: kubectl.get("mv", "kws-en")["status"].get("readyReplicas") == 2, "both ready")


@pytest.mark.parametrize("ending", ["stop", "kill"])
def test_a_gpu_that_only_seemed_free(
    start_operator: StartOperator, kubectl: Kubectl, pool: Pool, ending: str
) -> None:
    """Somebody has it of whom nothing is known: the scheduler says so, and an old pod goes first."""
    operator = start_operator()
    pool.add(2)
    pool.occupy(1)
    kubectl.apply(pool.engine(), variant())
    kubectl.wait("mv", "kws-en", "Ready", "True", "Serving")
    change(kubectl)
    assert rollout(kubectl) == {"strategy": "Recreate", "reason": "NoFreeGPU"}
    kubectl.wait("mv", "kws-en", "Ready", "True", "Serving")
    before = kubectl.get("deploy", "kws-en")["metadata"]["generation"]
    getattr(operator, ending)()
    start_operator().settle()
    assert kubectl.get("deploy", "kws-en")["metadata"]["generation"] == before, "it is not chosen anew"


def test_a_surge_that_is_asked_for_waits(operator: Operator, kubectl: Kubectl, pool: Pool) -> None:
    pool.add(1)
    kubectl.apply(pool.engine(), variant(rollout={"strategy": "Surge"}))
    kubectl.wait("mv", "kws-en", "Ready", "True", "Serving")
    kubectl.patch("mv", "kws-en", {"spec": {"args": ["--new"]}})
    kubectl.wait("mv", "kws-en", "UpToDate", "False", "InsufficientGPU")
    operator.settle()
    assert sorted(pods(kubectl).values()) == ["", "--new"]
    assert kubectl.condition("mv", "kws-en", "Ready")["status"] == "True"
    kubectl.patch("mv", "kws-en", {"spec": {"rollout": {"strategy": "Auto"}}})
    kubectl.wait("mv", "kws-en", "UpToDate", "True", "RolledOut", seconds=60)
    assert rollout(kubectl) == {"strategy": "Recreate", "reason": "NoFreeGPU"}


def test_a_pod_that_no_node_could_hold_ends_none_that_serves(
    operator: Operator, kubectl: Kubectl, pool: Pool
) -> None:
    pool.add(2)
    kubectl.apply(pool.engine(), variant())
    kubectl.wait("mv", "kws-en", "Ready", "True", "Serving")
    kubectl.patch("mv", "kws-en", {"spec": {"hardware": {"gpu": {"count": 4}}}})
    kubectl.wait("mv", "kws-en", "UpToDate", "False", "InsufficientGPU")
    operator.settle()
    assert rollout(kubectl) == {"strategy": "Surge", "reason": "NoNodeFits"}
    assert kubectl.condition("mv", "kws-en", "Ready")["status"] == "True"


def test_a_node_is_drained_one_pod_at_a_time(
    control_plane: Cluster, operator: Operator, kubectl: Kubectl, pool: Pool
) -> None:
    first, _ = pool.add(0, 0)
    control_plane.kubectl("cordon", f"{pool.name}-1")
    kubectl.apply(pool.engine(0), variant(replicas=2))
    kubectl.wait_for(lambda: kubectl.get("mv", "kws-en")["status"].get("readyReplicas") == 2, "both ready")
    assert kubectl.get("pdb", "kws-en")["spec"]["maxUnavailable"] == 1
    control_plane.kubectl("uncordon", f"{pool.name}-1")
    since = kubectl.condition("mv", "kws-en", "Available")["lastTransitionTime"]
    control_plane.kubectl(
        "drain", first, "--delete-emptydir-data", "--timeout=300s", "--pod-selector", MANAGED
    )

    def where() -> set[str | None]:
        return {one["spec"].get("nodeName") for one in kubectl.list("pods", MANAGED)}

    kubectl.wait_for(lambda: where() == {f"{pool.name}-1"}, "both are on the other node")
    assert kubectl.condition("mv", "kws-en", "Available")["lastTransitionTime"] == since
    kubectl("scale", "mv/kws-en", "--replicas=1")
    kubectl.wait_for(lambda: not kubectl.get("pdb", "kws-en"), "one pod needs no budget")


def test_what_kubectl_added_is_taken_back(operator: Operator, kubectl: Kubectl) -> None:
    kubectl.apply(engine(), variant())
    kubectl.wait("mv", "kws-en", "Ready", "True")
    kubectl("set", "env", "deploy/kws-en", "FOO=bar")

    def clean() -> bool:
        [container] = kubectl.get("deploy", "kws-en")["spec"]["template"]["spec"]["containers"]
        return "FOO" not in {one["name"] for one in container["env"]}

    kubectl.wait_for(clean, "the variable is gone")
    kubectl("rollout", "pause", "deploy/kws-en")
    kubectl.wait_for(lambda: "paused" not in kubectl.get("deploy", "kws-en")["spec"], "it is not paused")
    kubectl.wait("mv", "kws-en", "UpToDate", "True")
    operator.settle()
    generation = kubectl.get("deploy", "kws-en")["metadata"]["generation"]
    kubectl("rollout", "restart", "deploy/kws-en")
    kubectl.wait("mv", "kws-en", "UpToDate", "True")
    operator.settle()
    assert kubectl.get("deploy", "kws-en")["metadata"]["generation"] == generation + 1


def test_an_annotation_restarts(operator: Operator, kubectl: Kubectl) -> None:
    kubectl.apply(engine(), variant())
    kubectl.wait("mv", "kws-en", "Ready", "True")

    def restarted(kind: str, name: str, at: str) -> None:
        before = set(pods(kubectl))
        kubectl("annotate", "--overwrite", kind, name, f"roundhouse.dev/restartedAt={at}")
        kubectl.wait_for(lambda: pods(kubectl) and not before & set(pods(kubectl)), "other pods", 60)
        kubectl.wait("mv", "kws-en", "UpToDate", "True")

    restarted("mv", "kws-en", "2026-01-01")
    restarted("mv", "kws-en", "2026-01-02")
    restarted("eng", "kws", "2026-01-03")
    before = set(pods(kubectl))
    kubectl("annotate", "mv/kws-en", "roundhouse.dev/restartedAt-")
    operator.settle()
    assert set(pods(kubectl)) == before

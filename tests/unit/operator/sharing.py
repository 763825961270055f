"""A small cluster for engines that share pods: objects are applied, pods start, engines load and tell.

Everything goes through the real cache and the real pass; only what controllers, the kubelet and the engine's
SDK would do is played here, one step at a time.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from roundhouse_api import names
from roundhouse_api.model import Manifest
from roundhouse_operator.core.decide import decide
from roundhouse_operator.core.kinds import CONFIG_MAP, DEPLOYMENT, ENGINE, POD, VARIANT, Key
from roundhouse_operator.core.outcome import DONE
from roundhouse_operator.core.reports import EngineReport, ModelReport
from roundhouse_operator.core.shared import Arrangement, arrange
from roundhouse_operator.core.status.variant import variant_status
from roundhouse_operator.core.weights.asked import Answer, Ask
from tests.unit.operator.samples import engine
from tests.unit.operator.worlds import NAMESPACE, NOW, Scene, applied, node

GPU_MIB = 24_000
NO_GPU = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
QUOTA = 'pods "kws-1-x" is forbidden: exceeded quota: gpus, requested: 1, used: 1, limited: 1'
SHARED = Key(ENGINE, NAMESPACE, "kws")


def shared_engine(kind: str = "Shared", **spec: Any) -> Manifest:
    return engine(**{"serving": {"type": kind}, "hardware": {"gpu": {"mode": "Required"}}, **spec})


def gpu_node(name: str = "gpu-1", mib: int = GPU_MIB, gpus: int = 8) -> Manifest:
    return node(name, gpus, nvidia_com__gpu_memory=str(mib))


class SharedScene(Scene):
    """`states` has what engines say of a model, by `model` or `pod/model`; all others are ready."""

    def __init__(self, *manifests: Manifest) -> None:
        super().__init__(*manifests)
        self.pods: dict[str, Manifest] = {}
        self.lists: dict[str, Manifest] = {}
        self.states: dict[str, str] = {}
        self.full: set[str] = set()
        """Deployments for whose pods no node has a GPU left."""
        self.over_quota: set[str] = set()
        """Deployments whose pods a quota does not allow for."""
        self.olds: dict[str, list[str]] = {}
        """Pods that go once the new one of their Deployment counts."""
        self.answers: dict[Ask, Answer] = {}
        self.now = 0
        """Seconds since the epoch."""
        self.writes = 0
        self._pod_number = 0

    def arrange(self) -> Arrangement:
        world = self.cache.engine_world(SHARED, self.now)
        assert world
        return arrange(replace(world, answers=self.answers))

    def act(self) -> bool:
        """One pass, carried out. Returns whether it wrote anything."""
        found = self.arrange()
        for apply in found.plan.applies:
            self._apply(apply.manifest)
        for delete in found.plan.deletes:
            self.cache.forget(Key(delete.kind, NAMESPACE, delete.name))
            if delete.kind == DEPLOYMENT:
                for name in [name for name in self.pods if self._deployment(name) == delete.name]:
                    self.end(name)
        for patch in found.patches:
            self._patch(patch.name, dict(patch.labels), dict(patch.annotations), loaded=patch.loaded)
        self.cache.standing.put_seats(SHARED, found.seats, found.members)
        wrote = not found.plan.empty or bool(found.patches)
        self.writes += wrote
        return wrote

    def ask(self) -> None:
        """Every engine takes over its list, and tells."""
        for name in [one for one in self.pods if self._deployment(one) not in self.full]:
            listed = self.lists[self._deployment(name)]
            wanted = [one["name"] for one in listed["models"]]
            states = {one: self.states.get(f"{name}/{one}", self.states.get(one, "ready")) for one in wanted}
            models = {model: ModelReport(state, error="no such file") for model, state in states.items()}
            self.cache.standing.hear(Key(POD, NAMESPACE, name), EngineReport(listed["generation"], models))

    def come_to_rest(self, most: int = 30) -> None:
        for _ in range(most):
            wrote = self.act()
            self.ask()
            if not wrote and not self.act():
                return
        raise AssertionError("it does not come to an end")

    def start(self, deployment: str) -> str:
        self._pod_number += 1
        name = f"{deployment}-{self._pod_number}"
        there = self._live(DEPLOYMENT, deployment)
        assert there
        template = there["spec"]["template"]
        labels = {**template["metadata"]["labels"], "pod-template-hash": str(hash(json.dumps(template)))}
        container = {"name": "engine", "ready": True, "started": True}
        self.pods[name] = {
            "kind": "Pod",
            "metadata": {"name": name, "labels": labels, "annotations": {}},
            "spec": {"nodeName": "gpu-1", "containers": template["spec"]["containers"]},
            "status": {"podIP": "10.0.0.1", "containerStatuses": [container], "conditions": []},
        }
        if deployment in self.full:
            why = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": NO_GPU}
            self.pods[name] |= {"spec": {}, "status": {"conditions": [why]}}
        self.put(self.pods[name])
        return name

    def end(self, name: str) -> None:
        del self.pods[name]
        self.cache.forget(Key(POD, NAMESPACE, name))

    def crash(self, name: str) -> None:
        """The container ends and is started again: the engine has lost everything."""
        for ready in (False, True):
            self.pods[name]["status"]["containerStatuses"][0]["ready"] = ready
            self.pods[name]["status"]["conditions"] = []
            self.put(self.pods[name])
            self.act()

    def serving(self, variant: str) -> set[str]:
        """Names of the pods that get the variant's requests."""
        label = f"{names.LABEL_SERVES}{variant}"
        return {
            name
            for name, pod in self.pods.items()
            if label in pod["metadata"]["labels"] and pod["status"]["conditions"]
        }

    def listed(self) -> dict[str, set[str]]:
        """Variants that each pod is told to hold."""
        return {name: {one["variant"] for one in listed["models"]} for name, listed in self.lists.items()}

    def tell(self, variant: str) -> Manifest:
        """The variant's own pass: its Service, and its status."""
        for child in decide(self.world(variant)).plan.applies:
            self.put(applied(child.manifest))
        world = self.world(variant)
        status = variant_status(world, decide(world), DONE, now=NOW)
        self.write(variant, status)
        return status

    def remove(self, variant: str) -> None:
        self.cache.forget(Key(VARIANT, NAMESPACE, variant))

    def _apply(self, manifest: Manifest) -> None:
        name = manifest["metadata"]["name"]
        deployment = manifest["kind"] == DEPLOYMENT.name
        there = self._live(DEPLOYMENT, name) if deployment else None
        self.put(applied(manifest, rollout={} if deployment else None))
        if manifest["kind"] == CONFIG_MAP.name:
            self.lists[name] = json.loads(manifest["data"]["models.json"])
        elif deployment:
            self._roll(name, manifest, there)

    def _roll(self, name: str, wanted: Manifest, there: Manifest | None) -> None:
        """As Kubernetes does it: `there` is the Deployment as it was."""
        pods = [pod for pod in self.pods if self._deployment(pod) == name]
        surges = wanted["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 1
        changed = there is not None and there["spec"]["template"] != wanted["spec"]["template"]
        if wanted["spec"]["replicas"] == 0 or (changed and not surges):
            self._end_all(pods)
        elif changed and pods:
            self.olds[name] = pods
        elif name in self.olds and not surges:
            self._end_all(self.olds.pop(name))
            self.full.discard(name)
            self._end_all([pod for pod in self.pods if self._deployment(pod) == name])
        olds = self.olds.get(name, [])
        new = [pod for pod in self.pods if self._deployment(pod) == name and pod not in olds]
        if wanted["spec"]["replicas"] and not new and name not in self.over_quota:
            self.start(name)
        self._count(name, wanted)

    def _end_all(self, pods: list[str]) -> None:
        for pod in pods:
            self.end(pod)

    def _count(self, name: str, wanted: Manifest) -> None:
        """What the Deployment says of its pods."""
        pods = sum(self._deployment(pod) == name for pod in self.pods)
        old = len(self.olds.get(name, ()))
        figures: Manifest = {
            "replicas": pods,
            "readyReplicas": pods - bool(old),
            "updatedReplicas": pods - old,
        }
        if wanted["spec"]["replicas"] and not pods:
            figures["conditions"] = [{"type": "ReplicaFailure", "status": "True", "message": QUOTA}]
        self.put(applied(wanted, rollout=figures))

    def _patch(self, name: str, labels: Manifest, annotations: Manifest, *, loaded: bool) -> None:
        pod = self.pods[name]
        merged = {**pod["metadata"]["labels"], **labels}
        pod["metadata"]["labels"] = {key: value for key, value in merged.items() if value is not None}
        pod["metadata"]["annotations"] |= annotations
        if loaded:
            types = (names.READINESS_GATE_LOADED, "Ready")
            pod["status"]["conditions"] = [{"type": one, "status": "True"} for one in types]
        self.put(pod)
        deployment = self._deployment(name)
        if loaded and name not in self.olds.get(deployment, [name]):
            self._end_all(self.olds.pop(deployment))
            live = self._live(DEPLOYMENT, deployment)
            assert live
            self._count(deployment, live)

    def _live(self, kind: Any, name: str) -> Manifest | None:
        world = self.cache.engine_world(SHARED)
        children = world.children if world else ()
        return next((one.live for one in children if one.kind == kind and one.name == name), None)

    def _deployment(self, pod: str) -> str:
        return pod.rpartition("-")[0]

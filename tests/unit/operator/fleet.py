"""Variants of one engine in a cluster that is played: its pods start, or fail, when a test says so."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

from roundhouse_api.model import Manifest
from roundhouse_operator.cache import Cache, Touched
from roundhouse_operator.core.decide import decide
from roundhouse_operator.core.kinds import CHILD_KINDS, DEPLOYMENT, ENGINE, POD, VARIANT, Key
from roundhouse_operator.core.outcome import DONE
from roundhouse_operator.core.placement import Fleet as Nodes
from roundhouse_operator.core.status.engine import engine_status
from roundhouse_operator.core.status.variant import variant_status
from tests.unit.operator.samples import engine, variant
from tests.unit.operator.worlds import LATER, MANAGER, NAMESPACE, NOW, applied, conditions, pod, sent

KWS = Key(ENGINE, NAMESPACE, "kws")
IMAGE_1, IMAGE_2, IMAGE_3 = (f"example.org/kws:{number}" for number in (1, 2, 3))
_KINDS = {kind.name: kind for kind in (ENGINE, VARIANT, *CHILD_KINDS)}


class Fleet:
    """Variants of one engine, the passes over them, and a cluster whose pods start when they are told to."""

    def __init__(self, *names: str, **spec: Any) -> None:
        self.cache = Cache(MANAGER)
        self.live: dict[Key, Manifest] = {}
        self.due: list[Key] = []
        self.changed: list[str] = []
        self.generation = itertools.count(1)
        self.edit_engine(IMAGE_1)
        for name in names:
            self.put(variant(name, **spec))
        self.settle()

    def admit(self, manifest: Manifest) -> Manifest:
        """What a webhook makes of what is applied."""
        return manifest

    def put(self, manifest: Manifest) -> None:
        kind = _KINDS[manifest["kind"]]
        whole = sent(manifest)
        self.live[Key(kind, NAMESPACE, manifest["metadata"]["name"])] = whole
        self.touch(self.cache.upsert(kind, whole))

    def touch(self, touched: Touched, but: Key | None = None) -> None:
        for key in itertools.chain(sorted(touched.now - {but}, key=str), sorted(touched.soon, key=str)):
            if key not in self.due:
                self.due.append(key)

    def edit_engine(self, image: str, **annotations: str) -> None:
        edited = engine(workload={"image": image})
        before = self.live.get(KWS, {})
        metadata = {"name": "kws", "generation": next(self.generation), "annotations": annotations}
        self.put({**edited, "metadata": metadata, "status": before.get("status", {})})

    def edit(self, name: str, *, generation: int = 2, **spec: Any) -> None:
        key = Key(VARIANT, NAMESPACE, name)
        before = self.live[key]
        annotations = spec.pop("annotations", {})
        metadata = {"name": name, "generation": generation, "annotations": annotations}
        self.put({**before, "metadata": metadata, "spec": {**before["spec"], **spec}})

    def step(self, order: int = 0) -> None:
        """One pass over one of those that are due."""
        key = self.due.pop(order % len(self.due))
        if key.kind == ENGINE:
            self._tell(key, self.engine())
            return
        world = self.cache.world(key)
        assert world
        decision = decide(world)
        for apply in decision.plan.applies:
            name = apply.manifest["metadata"]["name"]
            before = self.live.get(Key(apply.kind, NAMESPACE, name), {})
            if apply.kind == DEPLOYMENT and self._template(apply.manifest) != self._template(before):
                self.changed.append(name)
            told = {**before.get("status", {}), "observedGeneration": 0} if apply.kind == DEPLOYMENT else None
            answer = applied(self.admit(apply.manifest), rollout=told)
            if before and _said(answer) == _said(before):
                self.touch(self.cache.note_vain(apply.kind, apply.manifest))
                continue
            self.put(answer)
        world = self.cache.world(key)
        assert world
        self._tell(key, variant_status(world, decision, DONE, now=NOW))

    def _tell(self, key: Key, status: Manifest) -> None:
        before = self.live[key]
        if before.get("status", {}) == status:
            return
        metadata = {**before["metadata"]}
        del metadata["resourceVersion"]
        whole = sent({**before, "metadata": metadata, "status": status})
        self.live[key] = whole
        self.touch(self.cache.upsert(key.kind, whole), but=key)

    def passes(self) -> None:
        """Until nothing is due."""
        for _ in range(10_000):
            if not self.due:
                return
            self.step()
        raise AssertionError("there is no end of it")

    def roll(self, *, but: Iterable[str] = (), ready: bool = True) -> None:
        """The Deployment controller ends its rollouts, except of some."""
        for key, live in list(self.live.items()):
            if key.kind == DEPLOYMENT and key.name not in but:
                wanted = live["spec"]["replicas"]
                figures = {
                    "replicas": wanted,
                    "updatedReplicas": wanted,
                    "readyReplicas": wanted if ready else 0,
                    "conditions": [
                        {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}
                    ],
                }
                self.report(key.name, **figures)

    def report(self, name: str, **figures: Any) -> None:
        live = self.live[Key(DEPLOYMENT, NAMESPACE, name)]
        status = {"observedGeneration": live["metadata"].get("generation", 1), **figures}
        if live.get("status") != status:
            metadata = {**live["metadata"]}
            del metadata["resourceVersion"]
            self.put({**live, "metadata": metadata, "status": status})

    def settle(self) -> None:
        for _ in range(1000):
            self.passes()
            self.roll()
            if not self.due:
                return
        raise AssertionError("there is no end of it")

    def restart(self) -> None:
        """The operator is ended and begins with what the API server has."""
        self.cache, self.due = Cache(MANAGER), []
        for key, live in list(self.live.items()):
            self.touch(self.cache.upsert(key.kind, live))

    def image(self, name: str) -> str:
        return str(
            self._template(self.live[Key(DEPLOYMENT, NAMESPACE, name)])["spec"]["containers"][0]["image"]
        )

    def images(self) -> list[str]:
        return [self.image(key.name) for key in sorted(self.live, key=str) if key.kind == DEPLOYMENT]

    def up_to_date(self, name: str) -> tuple[str, str]:
        return conditions(self.live[Key(VARIANT, NAMESPACE, name)]["status"])["UpToDate"]

    def engine(self) -> Manifest:
        found = self.cache.resource(KWS)
        assert found
        stand = self.cache.stand(KWS, found.generation)
        return engine_status(found, self.cache.usage(KWS), Nodes(), now=LATER, stand=stand)

    def rolling(self, name: str) -> bool:
        """Whether the Deployment controller has not seen the newest template yet."""
        return bool(
            self.live[Key(DEPLOYMENT, NAMESPACE, name)].get("status", {}).get("observedGeneration") == 0
        )

    @staticmethod
    def _template(deployment: Manifest) -> Any:
        return deployment.get("spec", {}).get("template")


def _said(manifest: Manifest) -> list[Any]:
    """All that an apply could change."""
    metadata = manifest["metadata"]
    return [manifest["spec"], *(metadata.get(name) for name in ("labels", "annotations", "managedFields"))]


def fail(fleet: Fleet, name: str, image: str) -> None:
    """The new pod of a rollout cannot pull its image; the old one serves on."""
    fleet.report(name, replicas=2, updatedReplicas=1, readyReplicas=1)
    waiting = {
        "name": "engine",
        "state": {"waiting": {"reason": "ErrImagePull", "message": f"{image}: gone"}},
    }
    new = pod(f"{name}-new", name, containerStatuses=[waiting])
    fleet.touch(fleet.cache.upsert(POD, sent(new)))

"""A scene in which weights are fetched: the test plays the Job controller, the loader and the clock."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from typing_extensions import override

from roundhouse_api.model import Manifest
from roundhouse_operator.core.decide import decide
from roundhouse_operator.core.decision import Decision
from roundhouse_operator.core.kinds import (
    CACHE_KINDS,
    CONFIG_MAP,
    DEPLOYMENT,
    JOB,
    POD,
    STORE,
    VARIANT,
    VOLUME_CLAIM,
    Key,
    Kind,
)
from roundhouse_operator.core.observed import World
from roundhouse_operator.core.outcome import DONE, Outcome, Refusal
from roundhouse_operator.core.plan import Mark, Plan
from roundhouse_operator.core.status.variant import variant_status
from roundhouse_operator.core.weights.asked import Answer, Ask, AskedKind
from roundhouse_operator.core.weights.loader import LoaderImage
from roundhouse_operator.core.weights.mark import Nodes, read_mark
from roundhouse_operator.core.weights.marking import without_marks
from roundhouse_operator.core.weights.sweep import plan_sweep, swept_claim
from roundhouse_operator.project_weights import store_of
from tests.unit.operator.worlds import NAMESPACE, NOW, Scene, applied, sent

LOADER = LoaderImage("example.org/loader:1")
HUB = {"type": "HuggingFace", "huggingFace": {"repo": "acme/kws-en"}}
PVC = {"type": "PVC"}
SHARED_CLAIM = {"type": "PVC", "pvc": {"claimName": "models"}}
COMPLETE = {"result": "Complete", "revision": "c0ffee", "digest": "sha256:1", "totalBytes": 1000}
EPOCH = 1_767_225_600
"""2026-01-01T00:00:00Z."""


def private(**source: Any) -> Manifest:
    """Weights of the hub that take a token."""
    token = {"name": "hf", "key": "token"}
    return {**HUB, "huggingFace": {"repo": "acme/kws-en", "tokenSecretRef": token}, **source}


def failure(reason: str, message: str = "no", *, retryable: bool = False) -> Manifest:
    return {"result": "Failed", "reason": reason, "message": message, "retryable": retryable}


class Caches(Scene):
    """`step` is a pass over a variant, with all that it writes."""

    def __init__(self, *manifests: Manifest) -> None:
        self.answers: dict[Ask, Answer] = {}
        self.now = EPOCH
        self.loader = LOADER
        self.refuses_marks = False
        """Whether the API server takes no annotation of a claim."""
        self.claims: dict[str, dict[str, str]] = {"models": {}}
        """Annotations of claims that nobody follows."""
        super().__init__(*manifests)

    def there(self, kind: str, name: str, version: str = "1", **labels: str) -> None:
        """What a lookup finds; labels are given with `__` for `/` and `_` for `.`."""
        named = {key.replace("__", "/").replace("_", "."): value for key, value in labels.items()}
        self.answers[Ask(AskedKind(kind), name)] = Answer(True, named, version)

    def missing(self, kind: str, name: str) -> None:
        self.answers[Ask(AskedKind(kind), name)] = Answer(found=False)

    @override
    def world(self, name: str) -> World:
        return replace(super().world(name), answers=self.answers, now=self.now)

    @override
    def decide(self, name: str) -> Decision:
        return decide(self.world(name), loader=self.loader)

    @override
    def status(self, name: str, outcome: Outcome = DONE, *, now: str = NOW) -> Manifest:
        world = self.world(name)
        return variant_status(world, decide(world, loader=self.loader), outcome, now=now)

    def step(self, name: str = "kws-en", **rollout: Any) -> Manifest:
        """One pass; the status that it writes."""
        decision = self.decide(name)
        self.cache.want(Key(VARIANT, NAMESPACE, name), decision.stores)
        if decision.supply:
            self.carry_out(decision.supply.plan)
        for apply in decision.plan.applies:
            figures = rollout if apply.kind == DEPLOYMENT else None
            self.put(applied(apply.manifest, rollout=figures))
        status = self.status(name)
        self.write(name, status)
        return status

    def steps(self, name: str = "kws-en", **rollout: Any) -> Manifest:
        """Passes until one writes nothing new."""
        for _ in range(6):
            before = self.decide(name)
            status = self.step(name, **rollout)
            if before.plan.empty and (before.supply is None or before.supply.plan.empty):
                return status
        raise AssertionError("a variant that does not settle")

    def carry_out(self, plan: Plan) -> None:
        if self.refuses_marks and plan.marks:
            plan = without_marks(plan, Refusal("PersistentVolumeClaim 'models'", 403, "no patch"), self.now)
        for mark in plan.marks:
            self.mark(mark)
        for apply in plan.applies:
            before = self.find(apply.kind, apply.manifest["metadata"]["name"])
            self.put(applied({**before, **apply.manifest}))
        for delete in plan.deletes:
            self.cache.forget(Key(delete.kind, delete.namespace, delete.name))
            self._manifests.pop((delete.kind.name, delete.name), None)

    def mark(self, mark: Mark) -> Manifest:
        before = self.find(mark.kind, mark.name)
        if not before:
            self.claims[mark.name] = _annotated(self.claims[mark.name], mark.annotations)
            return {}
        metadata = {key: value for key, value in before["metadata"].items() if key != "resourceVersion"}
        metadata["annotations"] = _annotated(metadata.get("annotations") or {}, mark.annotations)
        self.put({**before, "metadata": metadata})
        return self.find(mark.kind, mark.name)

    def marked(self, store: str) -> Nodes | None:
        """What the claim says of the directory that a sweep of these weights would remove."""
        found = self.cache.store(Key(STORE, NAMESPACE, store))
        claim = swept_claim(store, found) if found else None
        return read_mark(self.claims.get(claim, {}), found.key) if claim and found else None

    def sweep(self) -> Plan:
        """A pass over each cache; what was written."""
        written = Plan()
        found = {store_of(kind, one) for kind in CACHE_KINDS for one in self.all(kind)}
        for name in sorted(key.name for key in found if key):
            store = self.cache.store(Key(STORE, NAMESPACE, name))
            if store and not store.wanted:
                plan = plan_sweep(NAMESPACE, name, store, self.loader, self.marked(name))
                self.carry_out(plan)
                written = Plan(applies=written.applies + plan.applies, deletes=written.deletes + plan.deletes)
        return written

    _manifests: dict[tuple[str, str], Manifest]

    @override
    def put(self, *manifests: Manifest) -> None:
        if not hasattr(self, "_manifests"):
            self._manifests = {}
        for manifest in manifests:
            whole = sent(manifest)
            self._manifests[manifest["kind"], manifest["metadata"]["name"]] = whole
            super().put({**whole, "metadata": {**whole["metadata"]}})

    def find(self, kind: Kind, name: str) -> Manifest:
        return self._manifests.get((kind.name, name), {})

    def all(self, kind: Kind) -> list[Manifest]:
        return [one for (which, _), one in sorted(self._manifests.items()) if which == kind.name]

    def job(self) -> Manifest:
        """The one Job."""
        [found] = self.all(JOB)
        return found

    def pod_of_job(self, *, running: bool = False, node: str = "n1", **status: Any) -> None:
        """What the newest Job's pod is at."""
        self.put(loader_pod(self.all(JOB)[-1], running=running, node=node, **status))

    def forget_pods(self) -> None:
        for one in self.all(POD):
            self.cache.forget(Key(POD, NAMESPACE, one["metadata"]["name"]))

    def ends(self, says: Manifest | None, *, pod: bool = True) -> None:
        """The Job's pod ends with these words, and the Job with it."""
        job = self.all(JOB)[-1]
        well = says is not None and says["result"] == "Complete"
        if pod:
            self.put(loader_pod(job, says=says, code=0 if well else 1))
        time = f"2026-01-01T00:{(self.now - EPOCH) // 60:02d}:{(self.now - EPOCH) % 60:02d}Z"
        condition = {"type": "Complete" if well else "Failed", "status": "True", "lastTransitionTime": time}
        self._again(job, {"conditions": [condition]})

    def taken_up(self) -> None:
        """The Job controller has seen the newest Job, and has made no pod of it."""
        self._again(self.all(JOB)[-1], {"startTime": NOW})

    def bind(self, phase: str = "Bound") -> None:
        """What becomes of the one claim."""
        [claim] = self.all(VOLUME_CLAIM)
        self._again(claim, {"phase": phase})

    def record(self) -> Manifest:
        [found] = self.all(CONFIG_MAP)
        data: Manifest = found["data"]
        return data

    def _again(self, manifest: Manifest, status: Manifest) -> None:
        metadata = {key: value for key, value in manifest["metadata"].items() if key != "resourceVersion"}
        self.put({**manifest, "metadata": metadata, "status": status})


def _annotated(before: Mapping[str, str], annotations: Mapping[str, str | None]) -> dict[str, str]:
    return {key: value for key, value in {**before, **annotations}.items() if value is not None}


def loader_pod(
    job: Manifest,
    *,
    running: bool = False,
    says: Manifest | None = None,
    code: int | None = None,
    node: str = "n1",
    **status: Any,
) -> Manifest:
    labels = {
        **job["spec"]["template"]["metadata"]["labels"],
        "batch.kubernetes.io/job-name": job["metadata"]["name"],
    }
    words = json.dumps(says) if says else ""
    state: Manifest = {"running": {}} if running else {}
    if code is not None or says:
        state = {"terminated": {"exitCode": 1 if code is None else code, "message": words}}
    containers = [{"name": "weights-loader", "state": state}] if state else []
    given = {"containerStatuses": containers, "podIP": "10.0.0.9", **status}
    metadata = {"name": f"{job['metadata']['name']}-x", "labels": labels}
    return {"kind": "Pod", "metadata": metadata, "spec": {"nodeName": node} if node else {}, "status": given}

"""From manifests, as the API server sends them, to the projections that the core looks at.

Managed fields, annotations, images and all else that no decision asks about is dropped on arrival; what
is kept whole for a later comparison is packed, see `packing`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

from pydantic import ValidationError

from roundhouse_api import names
from roundhouse_api.conditions import Reason
from roundhouse_api.model import Manifest, Model, problems
from roundhouse_api.v1alpha1 import AdapterSpec, EngineSpec, ModelVariantSpec, SelectionPolicySpec
from roundhouse_operator.core.fields import Ownership
from roundhouse_operator.core.kinds import ADAPTER, ENGINE, POLICY, VARIANT, Key, Kind
from roundhouse_operator.core.observed import Child, Container, Invalid, Pod, Resource, Rollout, Share
from roundhouse_operator.core.replicas import NOBODY, Writer
from roundhouse_operator.core.weights.loader import LOADER_CONTAINER
from roundhouse_operator.core.weights.state import Loader
from roundhouse_operator.packing import Packer
from roundhouse_operator.project_weights import job_of, project_loader, whole

_SPECS: Final[dict[Kind, type[Model]]] = {
    ENGINE: EngineSpec,
    VARIANT: ModelVariantSpec,
    ADAPTER: AdapterSpec,
    POLICY: SelectionPolicySpec,
}
_UNKNOWN_VALUE: Final = frozenset({"enum", "literal_error"})
_NEVER: Final = datetime.fromtimestamp(0, UTC)
_PACKERS: Final[defaultdict[str, Packer]] = defaultdict(Packer)
"""One for each form; all of them live as long as the process."""
_NO_LABELS: Final[Mapping[str, str]] = {}

Verdicts = tuple[tuple[str, str, str], ...]
"""Type, status and reason of each condition."""


@dataclass(frozen=True, slots=True)
class StoredResource:
    """One of our own resources, ready to be read."""

    kind: Kind
    namespace: str
    name: str
    uid: str
    generation: int
    created: str
    labels: Mapping[str, str]
    spec: bytes
    status: bytes
    observed: int
    """The generation that the status is about."""
    verdicts: Verdicts
    ending: bool
    restarted_at: str = ""
    writer: Writer = NOBODY

    def read(self) -> Resource[Any]:
        return Resource(
            kind=self.kind,
            namespace=self.namespace,
            name=self.name,
            uid=self.uid,
            generation=self.generation,
            created=self.created,
            labels=self.labels,
            spec=_read_spec(self.kind, _PACKERS[f"{self.kind} spec"].text(self.spec)),
            status=_PACKERS[f"{self.kind} status"].unpack(self.status),
            ending=self.ending,
            restarted_at=self.restarted_at,
            writer=self.writer,
        )


@dataclass(frozen=True, slots=True)
class StoredChild:
    """A child with everything that a comparison needs, and a Deployment's account of its pods."""

    kind: Kind
    name: str
    uid: str
    owner_uid: str
    packed: bytes
    """The live object and its managed fields."""
    rollout: Rollout | None

    def read(self, manager: str) -> Child:
        live, managed_fields = _PACKERS[self.kind.name].unpack(self.packed)
        return Child(
            kind=self.kind,
            name=self.name,
            uid=self.uid,
            owner_uid=self.owner_uid,
            live=live,
            ownership=Ownership.read(managed_fields, manager),
        )


def project_resource(kind: Kind, manifest: Manifest, writer: Writer = NOBODY) -> StoredResource:
    metadata, status = manifest["metadata"], manifest.get("status") or {}
    return StoredResource(
        kind=kind,
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata.get("generation", 0),
        created=metadata["creationTimestamp"],
        labels=metadata.get("labels") or _NO_LABELS,
        spec=_PACKERS[f"{kind} spec"].pack(manifest.get("spec") or {}),
        status=_PACKERS[f"{kind} status"].pack(status),
        observed=status.get("observedGeneration", 0),
        verdicts=_verdicts(status),
        ending="deletionTimestamp" in metadata,
        restarted_at=(metadata.get("annotations") or {}).get(names.ANNOTATION_RESTARTED_AT, ""),
        writer=writer,
    )


def project_child(kind: Kind, manifest: Manifest) -> StoredChild:
    metadata = manifest["metadata"]
    owners = metadata.get("ownerReferences") or ()
    kept = {key: value for key, value in metadata.items() if key not in ("managedFields", "resourceVersion")}
    owned = [one for one in metadata.get("managedFields") or () if one.get("subresource") != "status"]
    live = {"apiVersion": kind.api_version, "kind": kind.name, "metadata": kept}
    live |= {member: manifest[member] for member in ("spec", "data") if member in manifest}
    return StoredChild(
        kind=kind,
        name=metadata["name"],
        uid=metadata["uid"],
        owner_uid=next((one["uid"] for one in owners if one.get("controller")), ""),
        packed=_PACKERS[kind.name].pack((live, owned)),
        rollout=_rollout(manifest) if kind.name == "Deployment" else None,
    )


def project_pod(manifest: Manifest) -> Pod:
    metadata, status = manifest["metadata"], manifest.get("status") or {}
    conditions = {one["type"]: one for one in status.get("conditions") or ()}
    scheduled, gate = conditions.get("PodScheduled", {}), conditions.get(names.READINESS_GATE_VERIFIED, {})
    failed = status.get("phase") == "Failed"
    loader = project_loader(manifest)
    return Pod(
        name=metadata["name"],
        created=metadata["creationTimestamp"],
        template=(metadata.get("labels") or {}).get("pod-template-hash", ""),
        ready=conditions.get("Ready", {}).get("status") == "True",
        scheduled=bool(manifest["spec"].get("nodeName")),
        ending="deletionTimestamp" in metadata,
        unschedulable=scheduled.get("message") if scheduled.get("reason") == "Unschedulable" else None,
        gates=tuple(one["name"] for one in manifest["spec"].get("schedulingGates") or ()),
        failure=(": ".join(filter(None, (status.get("reason"), status.get("message")))) or "Failed")
        if failed
        else None,
        node=manifest["spec"].get("nodeName", ""),
        devices=_devices(manifest["spec"]),
        containers=tuple(_containers(status, loader)),
        loader=loader,
        job=job_of(manifest),
        store=(metadata.get("annotations") or {}).get(names.ANNOTATION_WEIGHTS, ""),
        ip=status.get("podIP", ""),
        containers_ready=conditions.get("ContainersReady", {}).get("status") == "True",
        mark=(metadata.get("annotations") or {}).get(names.ANNOTATION_TEMPLATE, ""),
        gate=gate.get("status") == "True",
        gate_message=gate.get("message", ""),
        address=_address(manifest),
        share=_share(metadata, conditions),
    )


def _devices(spec: Manifest) -> tuple[tuple[str, int], ...]:
    """Devices are requested as limits, and by the containers that stay."""
    wanted: Counter[str] = Counter()
    for container in spec.get("containers") or ():
        limits = (container.get("resources") or {}).get("limits") or {}
        wanted.update(
            {name: int(count) for name, count in limits.items() if "/" in name and count.isdecimal()}
        )
    return tuple(sorted(wanted.items()))


def owner_of(manifest: Manifest) -> Key | None:
    """The variant that a child or a pod belongs to, or the engine that has it for several of them."""
    metadata = manifest["metadata"]
    labels = metadata.get("labels") or {}
    for kind, label in ((VARIANT, names.LABEL_VARIANT), (ENGINE, names.LABEL_ENGINE)):
        if name := labels.get(label):
            return Key(kind, metadata["namespace"], name)
    return None


def _address(manifest: Manifest) -> str:
    """Of the port named `http`, which every engine's container has."""
    ip = (manifest.get("status") or {}).get("podIP")
    ports = (port for one in manifest["spec"].get("containers") or () for port in one.get("ports") or ())
    number = next((port["containerPort"] for port in ports if port.get("name") == "http"), None)
    if not ip or number is None:
        return ""
    return f"[{ip}]:{number}" if ":" in ip else f"{ip}:{number}"


def _share(metadata: Manifest, conditions: Mapping[str, Manifest]) -> Share | None:
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    replica = labels.get(names.LABEL_REPLICA, "")
    if not replica.isdecimal():
        return None
    told = annotations.get(names.ANNOTATION_MODELS_GENERATION, "")
    return Share(
        replica=int(replica),
        serves=frozenset(
            label.removeprefix(names.LABEL_SERVES) for label in labels if label.startswith(names.LABEL_SERVES)
        ),
        generation=whole(told, 0),
        uid=metadata["uid"],
        loaded=conditions.get(names.READINESS_GATE_LOADED, {}).get("status") == "True",
    )


def _read_spec(kind: Kind, spec: bytes) -> Model | Invalid:
    try:
        return _SPECS[kind].model_validate_json(spec)
    except ValidationError as error:
        unknown = all(one["type"] in _UNKNOWN_VALUE for one in error.errors(include_url=False))
        reason = Reason.UNSUPPORTED_VALUE if unknown else Reason.INVALID_SPEC
        return Invalid(reason, tuple(f"spec.{problem}" for problem in problems(error)))


def _rollout(manifest: Manifest) -> Rollout:
    spec, status = manifest["spec"], manifest.get("status") or {}
    conditions = {one["type"]: one for one in status.get("conditions") or ()}
    failure, progress = conditions.get("ReplicaFailure", {}), conditions.get("Progressing", {})
    return Rollout(
        current=status.get("observedGeneration", 0) >= manifest["metadata"]["generation"],
        wanted=spec.get("replicas", 1),
        replicas=status.get("replicas", 0),
        ready=status.get("readyReplicas", 0),
        updated=status.get("updatedReplicas", 0),
        refused=failure.get("message") if failure.get("status") == "True" else None,
        stalled=progress.get("status") == "False",
        completed=progress.get("reason") == "NewReplicaSetAvailable",
    )


def _containers(status: Manifest, loader: Loader | None) -> Iterator[Container]:
    """Without a loader that told why it ended: that is a matter of the weights."""
    for one in status.get("initContainerStatuses", ()):
        told = loader is not None and loader.report is not None and one["name"] == LOADER_CONTAINER
        if not told and not _done(one):
            yield _container(one)
    yield from (_container(one) for one in status.get("containerStatuses", ()))


def _done(init: Manifest) -> bool:
    """An init container that has done its work is no trouble, though it is not ready."""
    return bool((init.get("state") or {}).get("terminated", {}).get("exitCode") == 0)


def _container(status: Manifest) -> Container:
    state, last = status.get("state") or {}, status.get("lastState") or {}
    waiting = state.get("waiting") or {}
    ended = state.get("terminated") or last.get("terminated") or {}
    return Container(
        name=status["name"],
        ready=bool(status.get("ready")),
        started=bool(status.get("started")),
        restarts=status.get("restartCount", 0),
        waiting_reason=waiting.get("reason", ""),
        waiting_message=waiting.get("message", ""),
        exit_code=ended.get("exitCode"),
        exit_reason=ended.get("reason", ""),
        exit_message=ended.get("message", ""),
        ran_seconds=_seconds(ended.get("startedAt"), ended.get("finishedAt")),
    )


def _seconds(start: str | None, end: str | None) -> int:
    """Between two times; a container that never ran is told to have begun at the beginning of all times."""
    if not start or not end:
        return 0
    began = datetime.fromisoformat(start)
    return int((datetime.fromisoformat(end) - began).total_seconds()) if began > _NEVER else 0


def _verdicts(status: Manifest) -> Verdicts:
    conditions = status.get("conditions") or ()
    return _shared(tuple((one["type"], one["status"], one.get("reason", "")) for one in conditions))


@lru_cache(4096)
def _shared(verdicts: Verdicts) -> Verdicts:
    """One tuple for all resources that fare alike: there are few of them."""
    return verdicts

"""From manifests, as the API server sends them, to the projections that the core looks at.

Managed fields, annotations, images and all else that no decision asks about is dropped on arrival; what
is kept whole for a later comparison is packed, see `packing`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from pydantic import ValidationError

from roundhouse_api import names
from roundhouse_api.conditions import Reason
from roundhouse_api.model import Manifest, Model, problems
from roundhouse_api.v1alpha1 import AdapterSpec, EngineSpec, ModelVariantSpec, SelectionPolicySpec
from roundhouse_operator.core.fields import Ownership
from roundhouse_operator.core.kinds import ADAPTER, ENGINE, POLICY, VARIANT, Key, Kind
from roundhouse_operator.core.observed import Child, Invalid, Resource, Rollout, Vain
from roundhouse_operator.core.replicas import NOBODY, Writer
from roundhouse_operator.packing import Packer

_SPECS: Final[dict[Kind, type[Model]]] = {
    ENGINE: EngineSpec,
    VARIANT: ModelVariantSpec,
    ADAPTER: AdapterSpec,
    POLICY: SelectionPolicySpec,
}
_UNKNOWN_VALUE: Final = frozenset({"enum", "literal_error"})
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
    finalizers: tuple[str, ...] = ()
    """Of one that was deleted."""
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
            finalizers=self.finalizers,
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

    def read(self, manager: str, vain: Vain | None = None) -> Child:
        live, managed_fields = _PACKERS[self.kind.name].unpack(self.packed)
        return Child(
            kind=self.kind,
            name=self.name,
            uid=self.uid,
            owner_uid=self.owner_uid,
            live=live,
            ownership=Ownership.read(managed_fields, manager),
            vain=vain,
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
        finalizers=tuple(metadata.get("finalizers") or ()) if "deletionTimestamp" in metadata else (),
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


def owner_of(manifest: Manifest) -> Key | None:
    """The variant that a child or a pod belongs to, or the engine that has it for several of them.

    What controls it says so before any label, which a person may have changed; a pod's Deployment does.
    """
    metadata = manifest["metadata"]
    for owner in metadata.get("ownerReferences") or ():
        for kind in (VARIANT, ENGINE):
            ours = owner["kind"] == kind.name and owner["apiVersion"].partition("/")[0] == kind.group
            if ours and owner.get("controller"):
                return Key(kind, metadata["namespace"], owner["name"])
    labels = metadata.get("labels") or {}
    for kind, label in ((VARIANT, names.LABEL_VARIANT), (ENGINE, names.LABEL_ENGINE)):
        if name := labels.get(label):
            return Key(kind, metadata["namespace"], name)
    return None


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


def _verdicts(status: Manifest) -> Verdicts:
    conditions = status.get("conditions") or ()
    return _shared(tuple((one["type"], one["status"], one.get("reason", "")) for one in conditions))


@lru_cache(4096)
def _shared(verdicts: Verdicts) -> Verdicts:
    """One tuple for all resources that fare alike: there are few of them."""
    return verdicts

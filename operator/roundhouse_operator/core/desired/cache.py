"""The objects of a cache of weights: claim, Job and record. They belong to no variant.

What is written on a Job when it is made tells later passes whether it is still the right one.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Final

from roundhouse_api import names
from roundhouse_api.model import Manifest, Model
from roundhouse_api.v1alpha1 import AccessMode, GCSSource, PVCCache, Quantity, Source, SourceType
from roundhouse_operator.core.desired.intent import Intent
from roundhouse_operator.core.desired.resources import build_affinity
from roundhouse_operator.core.desired.security import USER
from roundhouse_operator.core.desired.weights import (
    DEADLINE_SECONDS,
    build_loader,
    claim_volume,
    loader_volumes,
)
from roundhouse_operator.core.kinds import CONFIG_MAP, JOB, VOLUME_CLAIM, Kind
from roundhouse_operator.core.weights.delivery import Delivery, Way
from roundhouse_operator.core.weights.loader import LoaderImage
from roundhouse_operator.core.weights.mark import Nodes
from roundhouse_operator.core.weights.state import WHY_LENGTH, JobPurpose, MarkRefusal, Record, Report

DEFAULT_SIZE: Final = Quantity("50Gi")
KEPT_SECONDS: Final = 3600
"""How long a Job that has ended, and the log of its pod, can be looked at."""
SWEEP_TRIES: Final = 3
_NOTHING: Final = Source(type=SourceType.GCS, gcs=GCSSource(bucket="none"))
"""A loader is always told a source; one that sweeps does not ask it."""


@dataclass(frozen=True, slots=True)
class LoaderRun:
    """What tells one Job of a store from the next."""

    purpose: JobPurpose
    attempt: int = 1
    secret_version: str = ""
    claim_uid: str = ""


def build_claim(intent: Intent, asked: PVCCache, size: Quantity) -> Manifest:
    mode = asked.access_mode or AccessMode.READ_WRITE_ONCE
    spec: Manifest = {"accessModes": [mode.value], "resources": {"requests": {"storage": str(size)}}}
    if asked.storage_class_name:
        spec["storageClassName"] = asked.storage_class_name
    return {**_head(VOLUME_CLAIM, intent, intent.delivery.claim), "spec": spec}


def claim_size(intent: Intent, asked: PVCCache) -> Quantity:
    return asked.size or intent.delivery.source.size or DEFAULT_SIZE


def build_job(intent: Intent, run: LoaderRun) -> Manifest:
    pod = _pod_of(intent, run.purpose)
    mark = {
        "attempt": run.attempt,
        "claim": run.claim_uid,
        "for": intent.name,
        "from": digest_of(pod),
        "purpose": run.purpose.value,
        "secret": run.secret_version,
    }
    head = _head(JOB, intent, job_name(intent.delivery, run))
    return job(head, mark, pod, key=intent.delivery.key)


def job_name(delivery: Delivery, run: LoaderRun) -> str:
    infix = "" if run.purpose is JobPurpose.FETCH else f"-{run.purpose.value.lower()}"
    return f"{delivery.store}{infix}-{run.attempt}"


def job_digest(intent: Intent, purpose: JobPurpose) -> str:
    """Of what a Job would be made from now."""
    return digest_of(_pod_of(intent, purpose))


def job(head: Manifest, mark: Manifest, pod: Manifest, *, key: str, tries: int = 1) -> Manifest:
    """Of one try: the operator itself makes the next, after a delay that grows."""
    head["metadata"]["annotations"] = {
        names.ANNOTATION_LOADER: json.dumps(mark, separators=(",", ":"), sort_keys=True)
    }
    disruption = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    return {
        **head,
        "spec": {
            "backoffLimit": tries - 1,
            "activeDeadlineSeconds": DEADLINE_SECONDS,
            "ttlSecondsAfterFinished": KEPT_SECONDS,
            # A node that is drained, or a preemption, is no failure of the loader.
            "podFailurePolicy": {"rules": [disruption]},
            "template": {"metadata": {"labels": labels(key)}, "spec": pod},
        },
    }


def build_record(
    intent: Intent, report: Report | Record | None, *, claim_uid: str = "", complete: bool = False
) -> Manifest:
    """A ConfigMap, from which loaders that start later read the revision."""
    report = report or Report(complete=True)
    said = {
        "claim": intent.delivery.claim,
        "claimUID": claim_uid,
        "complete": "true" if complete else "",
        "digest": report.digest,
        "key": intent.delivery.key,
        "revision": report.revision,
        "totalBytes": str(report.total_bytes),
    }
    data = {name: value for name, value in said.items() if value}
    return {**_head(CONFIG_MAP, intent, intent.delivery.store), "data": data}


def note_refusal(record: Manifest, refused: MarkRefusal) -> Manifest:
    """The record of weights whose claim may not be marked: who wants them is told, and it is tried again."""
    said = {"markRefused": refused.why[:WHY_LENGTH], "markRefusedAt": str(refused.at)}
    wanted = {"markWanted": "true"} if refused.wanted else {}
    return {**record, "data": {**record["data"], **said, **wanted}}


def build_sweep(head: Manifest, key: str, claim: str, nodes: Nodes, loader: LoaderImage) -> Manifest:
    """The Job that removes one directory from a claim of somebody else's."""
    delivery = Delivery(Way.CACHE, _NOTHING, key=key, claim=claim)
    mark = {"attempt": 1, "purpose": JobPurpose.SWEEP.value}
    pod = _pod_spec(delivery, loader, JobPurpose.SWEEP, nodes.pod)
    return job(head, mark, pod, key=key, tries=SWEEP_TRIES)


def labels(key: str) -> dict[str, str]:
    return {
        "app.kubernetes.io/component": "weights",
        "app.kubernetes.io/managed-by": "roundhouse",
        "app.kubernetes.io/part-of": "roundhouse",
        names.LABEL_MANAGED: "true",
        names.LABEL_WEIGHTS: key,
    }


def digest_of(pod: Manifest) -> str:
    return hashlib.sha256(json.dumps(pod, sort_keys=True).encode()).hexdigest()[:16]


def _head(kind: Kind, intent: Intent, name: str) -> Manifest:
    return head(kind, intent.namespace, name, intent.delivery.key)


def head(kind: Kind, namespace: str, name: str, key: str) -> Manifest:
    return {
        "apiVersion": kind.api_version,
        "kind": kind.name,
        "metadata": {"namespace": namespace, "name": name, "labels": labels(key)},
    }


def _pod_of(intent: Intent, purpose: JobPurpose) -> Manifest:
    return _pod_spec(intent.delivery, intent.loader, purpose, loader_nodes(intent))


def loader_nodes(intent: Intent) -> Manifest:
    """Where the engine's pods can be: a volume that binds to one node must bind to one of those."""
    hardware = intent.merged.hardware
    return {
        "imagePullSecrets": [_dump(one) for one in intent.workload.image_pull_secrets],
        "nodeSelector": dict(hardware.node_selector or {}),
        "tolerations": [_dump(one) for one in hardware.tolerations or ()],
        "affinity": build_affinity(intent),
    }


def _pod_spec(delivery: Delivery, loader: LoaderImage, purpose: JobPurpose, nodes: Manifest) -> Manifest:
    spec: Manifest = {
        "restartPolicy": "Never",
        "containers": [build_loader(delivery, loader, purpose=purpose)],
        "volumes": [claim_volume(delivery), *loader_volumes(delivery)],
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "enableServiceLinks": False,
        "automountServiceAccountToken": False,
        **nodes,
    }
    return {name: value for name, value in spec.items() if value not in ([], {})}


def _dump(model: Model) -> Manifest:
    return model.model_dump(by_alias=True, exclude_none=True, mode="json")

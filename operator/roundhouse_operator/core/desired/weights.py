"""How weights get into a pod: volumes, mounts, and the loader that fills them before the engine starts.

A pod that needs no loader is none the different for it: what `Builtin` and `PVC` sources become has been
the same since the first release.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final

from roundhouse_api.model import Manifest
from roundhouse_api.v1alpha1 import DownloadPolicy
from roundhouse_operator.core.desired.security import USER
from roundhouse_operator.core.weights.delivery import WEIGHTS_PATH, Delivery, Way
from roundhouse_operator.core.weights.key import Credential, credential, movable
from roundhouse_operator.core.weights.loader import (
    AUTHORITIES,
    LOADER_CONTAINER,
    LoaderImage,
    told_of_authorities,
)
from roundhouse_operator.core.weights.state import JobPurpose

LOADER_PORT: Final = 8002
DEADLINE_SECONDS: Final = 24 * 3600
"""By which weights must have come."""
CACHE_DIR: Final = "/cache"
CREDENTIALS_DIR: Final = "/credentials"
VOLUME: Final = "weights"
_CREDENTIALS: Final = "weights-credentials"
_TMP: Final = "weights-tmp"
_RESOURCES: Final[Manifest] = {
    "requests": {"cpu": "100m", "memory": "256Mi"},
    "limits": {"memory": "1Gi"},
}


@dataclass(frozen=True, slots=True)
class PodWeights:
    """What is added to a variant's pod."""

    volumes: list[Manifest] = field(default_factory=list)
    mounts: list[Manifest] = field(default_factory=list)
    init: list[Manifest] = field(default_factory=list)
    pull_secrets: list[Manifest] = field(default_factory=list)
    security: Manifest = field(default_factory=dict)
    """Of the pod."""


def build_pod_weights(delivery: Delivery, loader: LoaderImage) -> PodWeights:
    match delivery.way:
        case Way.NONE:
            return PodWeights()
        case Way.CLAIM:
            claim = {"claimName": delivery.source.pvc and delivery.source.pvc.claim_name, "readOnly": True}
            return PodWeights([{"name": VOLUME, "persistentVolumeClaim": claim}], [_mount()])
        case Way.IMAGE:
            return _image_volume(delivery)
        case Way.CACHE:
            # Read-only in the mount alone: a volume that is mounted both ways on one node can fail.
            return PodWeights(
                [claim_volume(delivery)],
                [_mount(f"{delivery.key}/files")],
                # Whoever owns thousands of files, a pod that starts does not walk through all of them.
                security={"fsGroupChangePolicy": "OnRootMismatch"},
            )
        case Way.START | Way.NODE:
            return PodWeights(
                [*loader_volumes(delivery), _kept_in(delivery)],
                [_mount(f"{delivery.key}/files")],
                [build_loader(delivery, loader)],
            )


def claim_volume(delivery: Delivery) -> Manifest:
    return {"name": VOLUME, "persistentVolumeClaim": {"claimName": delivery.claim}}


def loader_volumes(delivery: Delivery) -> list[Manifest]:
    """All that a loader mounts but the cache itself."""
    secret = credential(delivery.source)
    volumes: list[Manifest] = [{"name": _TMP, "emptyDir": {}}]
    return [*volumes, _secret_volume(secret)] if secret else volumes


def build_loader(
    delivery: Delivery, loader: LoaderImage, *, purpose: JobPurpose = JobPurpose.FETCH
) -> Manifest:
    """The container that fetches, checks or removes the weights of one key."""
    mounts: list[Manifest] = [
        {"name": VOLUME, "mountPath": CACHE_DIR},
        {"name": _TMP, "mountPath": "/tmp"},  # noqa: S108  # of the container
    ]
    if credential(delivery.source):
        mounts.append({"name": _CREDENTIALS, "mountPath": CREDENTIALS_DIR, "readOnly": True})
    container: Manifest = {
        "name": LOADER_CONTAINER,
        "image": loader.image,
        "imagePullPolicy": loader.pull_policy,
        "args": ["sweep"] if purpose is JobPurpose.SWEEP else None,
        "env": _env(delivery, loader, purpose),
        "ports": [{"name": "progress", "containerPort": LOADER_PORT, "protocol": "TCP"}],
        "resources": _resources(delivery),
        "volumeMounts": mounts,
        "securityContext": _security(delivery.way),
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    return {name: value for name, value in container.items() if value}


def _image_volume(delivery: Delivery) -> PodWeights:
    source = delivery.source.oci
    if source is None:
        return PodWeights()  # `support` refuses such a variant
    image: Manifest = {"reference": source.image}
    if delivery.policy is DownloadPolicy.NEVER:
        image["pullPolicy"] = "Never"
    secret = credential(delivery.source)
    return PodWeights(
        [{"name": VOLUME, "image": image}],
        [_mount((source.path or "").strip("/"))],
        pull_secrets=[{"name": secret.secret}] if secret else [],
    )


def _kept_in(delivery: Delivery) -> Manifest:
    if delivery.way is Way.NODE:
        return {"name": VOLUME, "hostPath": {"path": delivery.node_path, "type": "DirectoryOrCreate"}}
    return {"name": VOLUME, "emptyDir": {}}


def _mount(inside: str = "") -> Manifest:
    mount: Manifest = {"name": VOLUME, "mountPath": WEIGHTS_PATH, "readOnly": True}
    return {**mount, "subPath": inside} if inside else mount


def _secret_volume(secret: Credential) -> Manifest:
    # Optional, because a key that is missing would keep the pod waiting without a word; the loader says what
    # the source makes of a request without it.
    said: Manifest = {"secretName": secret.secret, "optional": True}
    if secret.files:
        said["items"] = [{"key": key, "path": path} for key, path in secret.files]
    return {"name": _CREDENTIALS, "secret": said}


def _env(delivery: Delivery, loader: LoaderImage, purpose: JobPurpose) -> list[Manifest]:
    never = delivery.policy is DownloadPolicy.NEVER and purpose is not JobPurpose.FETCH
    never = never or (delivery.policy is DownloadPolicy.NEVER and delivery.loads_in_pod)
    said = {
        "ROUNDHOUSE_SOURCE": _source(delivery),
        "ROUNDHOUSE_CACHE_DIR": CACHE_DIR,
        "ROUNDHOUSE_CACHE_KEY": delivery.key,
        "ROUNDHOUSE_DOWNLOAD_POLICY": "Never" if never else "Auto",
        "ROUNDHOUSE_LOADER_PORT": str(LOADER_PORT),
    }
    env: list[Manifest] = [{"name": name, "value": value} for name, value in sorted(loader.env)]
    if loader.authorities:
        env = [one for one in env if one["name"] != AUTHORITIES]
        env.append(told_of_authorities(loader.authorities))
    env += [{"name": name, "value": said[name]} for name in sorted(said)]
    if movable(delivery.source):
        # Not in the template, which a revision that is resolved later would change.
        known = {"name": delivery.store, "key": "revision", "optional": True}
        env.append({"name": "ROUNDHOUSE_REVISION", "valueFrom": {"configMapKeyRef": known}})
    return env


def _source(delivery: Delivery) -> str:
    """As in the API, without names of Secrets."""
    dumped: dict[str, Any] = delivery.source.model_dump(
        by_alias=True, exclude_none=True, exclude_defaults=True, mode="json", exclude={"size"}
    )
    said = {
        key: {name: part for name, part in value.items() if not name.endswith("SecretRef")}
        if isinstance(value, dict)
        else value
        for key, value in dumped.items()
    }
    return json.dumps(said, separators=(",", ":"), sort_keys=True)


def _resources(delivery: Delivery) -> Manifest:
    """A pod that keeps its weights in itself goes to a node that has room for them."""
    size = delivery.source.size
    if delivery.way is not Way.START or size is None:
        return _RESOURCES
    return {**_RESOURCES, "requests": {**_RESOURCES["requests"], "ephemeral-storage": str(size)}}


def _security(way: Way) -> Manifest:
    least: Manifest = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    if way is Way.NODE:
        # The kubelet makes the directory as root's, and no group of the pod applies to it.
        capabilities = {"drop": ["ALL"], "add": ["DAC_OVERRIDE"]}
        return {**least, "capabilities": capabilities, "runAsUser": 0, "runAsGroup": 0, "runAsNonRoot": False}
    return {**least, "runAsUser": USER, "runAsGroup": USER, "runAsNonRoot": True}

"""The way on which weights come to a pod, from the variant's source and the engine's cache.

Nothing is looked up: whether they have arrived is found out in `supply`. Only whether nodes can mount an
image as a volume depends on the cluster, and that choice stands while pods run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from roundhouse_api.v1alpha1 import (
    Cache,
    CacheType,
    DownloadPolicy,
    ModelVariantSpec,
    PVCCache,
    Source,
    SourceType,
)
from roundhouse_operator.core.placement.nodes import Node
from roundhouse_operator.core.weights.key import store_name, weights_key

WEIGHTS_PATH: Final = "/weights"
IMAGE_VOLUME_KUBELET: Final = (1, 35)
"""The first release whose kubelet and API server mount images unless that is turned off."""
IMAGE_VOLUME_RUNTIMES: Final = {"containerd": (2, 1), "cri-o": (1, 31)}


class Way(StrEnum):
    """How weights get into a pod.

    NONE: the image or the engine has its own. CLAIM: `source.pvc`. START: the loader fetches them into the
    pod. NODE: into a directory of the node. CACHE: a Job fetches them onto a claim. IMAGE: an image volume.
    """

    NONE = "None"
    CLAIM = "Claim"
    START = "Start"
    NODE = "Node"
    CACHE = "Cache"
    IMAGE = "Image"


@dataclass(frozen=True, slots=True)
class Delivery:
    """`key` and `store` are empty where the operator fetches nothing."""

    way: Way
    source: Source
    policy: DownloadPolicy = DownloadPolicy.AUTO
    key: str = ""
    store: str = ""
    claim: str = ""
    """The claim that pods mount, under CACHE."""
    own: PVCCache | None = None
    """Set where the operator makes that claim."""
    node_path: str = ""
    note: str = ""
    """What else is to be said about the way."""

    @property
    def path(self) -> str | None:
        """Where the engine finds the weights; None where it knows by itself."""
        match self.way:
            case Way.NONE:
                return None
            case Way.CLAIM:
                inside = (self.source.pvc and self.source.pvc.path) or ""
                return f"{WEIGHTS_PATH}/{inside.strip('/')}".rstrip("/")
            case _:
                return WEIGHTS_PATH

    @property
    def loads(self) -> bool:
        """Whether a loader brings them, in a pod of the engine or in a Job's."""
        return self.way in (Way.START, Way.NODE, Way.CACHE)

    @property
    def loads_in_pod(self) -> bool:
        return self.way in (Way.START, Way.NODE)


def deliver(
    namespace: str,
    variant: ModelVariantSpec,
    cache: Cache | None,
    nodes: Iterable[Node],
    *,
    mounts_image: bool | None = None,
) -> Delivery:
    """`mounts_image`: what the pods that run do, if some do."""
    source, policy = variant.source, variant.download_policy
    if source.type is SourceType.PVC:
        return Delivery(Way.CLAIM, source, policy)
    if source.type is SourceType.BUILTIN or policy is DownloadPolicy.SKIP:
        return Delivery(Way.NONE, source, policy)
    key = weights_key(namespace, source)
    kind = cache.type if cache else CacheType.EPHEMERAL
    if cache and cache.node:
        path = cache.node.path
        return Delivery(Way.NODE, source, policy, key, store_name(key, f"node {path}"), node_path=path)
    if cache and kind is CacheType.PVC:
        return _on_claim(source, policy, key, cache.pvc or PVCCache())
    note = ""
    if kind is CacheType.IMAGE_VOLUME:
        note = _lacking(nodes)
        if mounts_image if mounts_image is not None else not note:
            return Delivery(Way.IMAGE, source, policy, key)
    return Delivery(Way.START, source, policy, key, store_name(key, "start"), note=note)


def _on_claim(source: Source, policy: DownloadPolicy, key: str, asked: PVCCache) -> Delivery:
    if asked.claim_name:
        store = store_name(key, f"claim {asked.claim_name}")
        return Delivery(Way.CACHE, source, policy, key, store, asked.claim_name)
    mode = asked.access_mode.value if asked.access_mode else ""
    store = store_name(key, f"own {asked.storage_class_name or ''} {mode}")
    return Delivery(Way.CACHE, source, policy, key, store, store, own=asked)


def _lacking(nodes: Iterable[Node]) -> str:
    """Why images are not mounted as volumes: a node that cannot."""
    without = min((node for node in nodes if not mounts_images(node)), key=lambda one: one.name, default=None)
    if without is None:
        return ""
    return f"node {without.name!r} ({without.kubelet}, {without.runtime}) mounts no image volumes"


def mounts_images(node: Node) -> bool:
    runtime, _, version = node.runtime.partition("://")
    least = IMAGE_VOLUME_RUNTIMES.get(runtime)
    return _version(node.kubelet) >= IMAGE_VOLUME_KUBELET and least is not None and _version(version) >= least


def _version(text: str) -> tuple[int, int]:
    found = re.match(r"v?(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)

"""What the Deployment that stands says of its weights: which it reads, and by which loader they came."""

from __future__ import annotations

from dataclasses import dataclass, replace

from roundhouse_api import names
from roundhouse_api.v1alpha1 import CacheType
from roundhouse_operator.core.desired.intent import Intent
from roundhouse_operator.core.desired.pod import build_pod_template
from roundhouse_operator.core.desired.weights import VOLUME
from roundhouse_operator.core.kinds import DEPLOYMENT
from roundhouse_operator.core.observed import World
from roundhouse_operator.core.own import child_of, has_template
from roundhouse_operator.core.weights.loader import LoaderImage, loader_of
from roundhouse_operator.core.weights.state import Loader, Progress


@dataclass(frozen=True, slots=True)
class Standing:
    """Of the pods' template; empty where there is none."""

    store: str = ""
    mounts_image: bool | None = None
    """None where it was made under another cache than ImageVolume, and so says nothing about it."""
    loader: LoaderImage | None = None


def standing(world: World) -> Standing:
    child = child_of(world, DEPLOYMENT)
    if child is None:
        return Standing()
    template = child.live["spec"]["template"]
    annotations = template.get("metadata", {}).get("annotations") or {}
    volumes = {one["name"]: one for one in template["spec"].get("volumes") or ()}
    mounted = "image" in volumes.get(VOLUME, {})
    made_for = (child.live["metadata"].get("annotations") or {}).get(names.ANNOTATION_CACHE)
    return Standing(
        store=annotations.get(names.ANNOTATION_WEIGHTS, ""),
        mounts_image=mounted if mounted or made_for == CacheType.IMAGE_VOLUME else None,
        loader=loader_of(template["spec"].get("initContainers") or ()),
    )


def stores_in_use(world: World) -> frozenset[str]:
    """Weights that pods read, or will read when they are started: also pods of an older template."""
    pods = (pod.store for pod in world.pods if not pod.failure)
    return frozenset(filter(None, (standing(world).store, *pods)))


def _none_loads(world: World) -> bool:
    pods = [pod for pod in world.pods if not pod.ending]
    return bool(pods) and all(
        pod.loader is not None and _fails(pod.loader, world.progress.get(pod.name)) for pod in pods
    )


def _fails(loader: Loader, progress: Progress | None) -> bool:
    """One that runs tries a source for minutes: nothing is lost of it where nothing has come."""
    if loader.running:
        return progress is not None and bool(progress.error) and progress.done_bytes <= 0
    return bool(loader.exit_code) or (loader.report is not None and not loader.report.complete)


def keep_loader(world: World, intent: Intent, pods: Standing) -> Intent:
    """With the loader of the pods that are there, if it is all in which they differ from the wanted ones.

    An update of the operator, which brings its loader along, starts no model anew. Pods whose loaders fail
    have none to lose, and the new loader may know what the old one lacked: a proxy, or an authority.
    """
    live = child_of(world, DEPLOYMENT)
    if live is None or pods.loader is None or pods.loader == intent.loader or _none_loads(world):
        return intent
    kept = replace(intent, loader=pods.loader)
    return kept if has_template(build_pod_template(kept), live) else intent

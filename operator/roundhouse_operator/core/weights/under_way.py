"""What a Job that fetches weights waits for: its pod, a node, a volume, an image, or the bytes."""

from __future__ import annotations

import re
from typing import Final

from roundhouse_api.conditions import Reason
from roundhouse_api.model import Manifest
from roundhouse_operator.core.diagnose import Trouble, unschedulable_reason
from roundhouse_operator.core.masking import masked
from roundhouse_operator.core.observed import Pod
from roundhouse_operator.core.weights.asked import Ask, AskedKind
from roundhouse_operator.core.weights.case import Case
from roundhouse_operator.core.weights.state import JobPurpose, LoaderJob
from roundhouse_operator.core.weights.supply import (
    LOOK_AGAIN_SECONDS,
    Supply,
    Weights,
    coming,
    failed,
    missing,
    progressed,
    unreachable,
)

POD_SECONDS: Final = 60
"""For a Job to get its pod."""
UNSEEN_SECONDS: Final = 600
"""For a Job to be taken up at all: a controller with thousands of them before it takes its time."""
MOUNT_SECONDS: Final = 120
"""For a volume to be attached and mounted, and the loader's image to be pulled."""
_PULL: Final = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
_VOLUME: Final = re.compile(r"(?i)persistentvolumeclaim|volume")


def while_active(case: Case, job: LoaderJob) -> Supply:
    delivery, world = case.intent.delivery, case.world
    pod = next(iter(case.pods(job)), None)
    shown = progressed(delivery, world, world.progress.get(pod.name) if pod else None)
    if pod is None:
        return _without_pod(case, job, shown)
    if pod.unschedulable is not None and not pod.scheduled:
        nowhere, asks = _nowhere(case, pod.unschedulable)
        return Supply(missing(nowhere), shown, asks=asks, revisit_seconds=LOOK_AGAIN_SECONDS)
    if trouble := _not_made(pod):
        return Supply(missing(trouble), shown, asks=case.asks)
    if pod.scheduled and not pod.begun and pod.scheduled_at:
        return _not_mounted(case, pod, shown)
    return Supply(_loading(case, job, pod), shown, asks=case.asks)


def _loading(case: Case, job: LoaderJob, pod: Pod) -> Weights:
    """What the loader itself says, while it runs or after its end."""
    if pod.loader and pod.loader.report and not pod.loader.report.complete:
        return missing(failed(case.intent.delivery, pod.loader.report))
    if stuck := unreachable(case.world.progress.get(pod.name)):
        return missing(stuck)
    if job.purpose is JobPurpose.CHECK:
        text = "`downloadPolicy: Never`: nothing is fetched, and it is looked whether the weights are there"
        return coming(text)
    return coming("The weights are being fetched")


def _not_mounted(case: Case, pod: Pod, shown: Manifest) -> Supply:
    """It has a node and no container yet; a claim of others may be one that a node at a time can mount."""
    left = pod.scheduled_at + MOUNT_SECONDS - case.world.now
    if left > 0:
        told = coming("The loader's volumes are being mounted")
        return Supply(told, shown, asks=case.asks, revisit_seconds=left)
    claim = case.intent.delivery.claim
    trouble = Trouble(
        Reason.VOLUME_PENDING,
        f"The loader's pod waits on node {pod.node} for its volumes: if claim {claim!r} is ReadWriteOnce and "
        "in use on another node, take one that is ReadWriteMany",
    )
    return Supply(missing(trouble), shown, asks=case.asks)


def _without_pod(case: Case, job: LoaderJob, shown: Manifest) -> Supply:
    """A queue holds the Job, or its pod is refused: a Job does not say so before it gives up, a day later."""
    if job.suspended:
        queued = Trouble(Reason.QUEUED, f"Job {job.name!r} waits to be admitted by a queue: it is suspended")
        return Supply(missing(queued), shown, asks=case.asks)
    left = job.made_at + POD_SECONDS - case.world.now
    if left > 0:
        return Supply(coming("The loader is being started"), shown, asks=case.asks, revisit_seconds=left)
    if "doneBytes" in shown:
        return Supply(coming("The loader's pod is gone, and another is being made"), shown, asks=case.asks)
    unseen = job.made_at + UNSEEN_SECONDS - case.world.now
    if not job.seen and unseen > 0:
        told = coming(f"Job {job.name!r} was made, and the cluster's Job controller has yet to take it up")
        return Supply(told, shown, asks=case.asks, revisit_seconds=unseen)
    cause = "which quota or policy it is" if job.seen else "whether the cluster's Job controller runs"
    why = f"No pod is made for Job {job.name!r}: `kubectl describe job` says {cause}"
    return Supply(missing(Trouble(Reason.CACHE_REFUSED, why)), shown, asks=case.asks)


def _nowhere(case: Case, message: str) -> tuple[Trouble, frozenset[Ask]]:
    """Why the loader has no node: the volume first, because a claim without one keeps every node away."""
    claim = case.store.claim if case.intent.delivery.own else None
    if claim and claim.phase != "Bound":
        if claim.class_name is None:
            text = f"Claim {claim.name!r} names no StorageClass, and the cluster has no default one"
            return Trouble(Reason.STORAGE_CLASS_NOT_FOUND, text), case.asks
        ask = Ask(AskedKind.STORAGE_CLASS, claim.class_name)
        answer = case.world.answers.get(ask)
        asks = case.asks | {ask}
        if answer and not answer.found:
            text = f"StorageClass {claim.class_name!r} of claim {claim.name!r} does not exist"
            return Trouble(Reason.STORAGE_CLASS_NOT_FOUND, text), asks
        return Trouble(
            Reason.VOLUME_PENDING, f"Claim {claim.name!r} has no volume, so the loader waits: {message}"
        ), asks
    text = f"The scheduler finds no node for the loader: {message}"
    reason = Reason.VOLUME_PENDING if _VOLUME.search(message) else unschedulable_reason(message, None)
    return Trouble(reason, text), case.asks


def _not_made(pod: Pod) -> Trouble | None:
    reason, words = pod.loader.waiting if pod.loader else ("", "")
    message = masked(words)
    if reason in _PULL:
        return Trouble(Reason.IMAGE_PULL, "The loader's image cannot be pulled", message or reason)
    if reason in ("CreateContainerConfigError", "CreateContainerError", "RunContainerError"):
        return Trouble(Reason.CONFIG_ERROR, "The loader's container cannot be made", message or reason)
    return None

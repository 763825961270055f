"""Weights on a claim: the Job that fetches them, the claim where there is none, and what has become of both.

A Job is of one attempt. One that failed is followed by the next after a delay that doubles, at once when the
Secret that it used was changed; so nothing turns in a hot loop, and what was mended is found. All that is
known of an attempt stands on its Job, and all that is known of weights that arrived in their record.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from roundhouse_api.conditions import Reason
from roundhouse_api.model import Manifest
from roundhouse_api.v1alpha1 import DownloadPolicy, PVCCache
from roundhouse_operator.core.desired.cache import (
    LoaderRun,
    build_claim,
    build_job,
    build_record,
    claim_size,
    job_digest,
)
from roundhouse_operator.core.desired.intent import Intent
from roundhouse_operator.core.diagnose import Trouble, unschedulable_reason
from roundhouse_operator.core.kinds import CONFIG_MAP, JOB, VOLUME_CLAIM
from roundhouse_operator.core.masking import masked
from roundhouse_operator.core.observed import Pod, Store, World
from roundhouse_operator.core.plan import NOTHING, Apply, Delete, Plan
from roundhouse_operator.core.weights.asked import Ask, AskedKind
from roundhouse_operator.core.weights.key import credential
from roundhouse_operator.core.weights.state import JobPhase, JobPurpose, LoaderJob, Record
from roundhouse_operator.core.weights.supply import (
    LOOK_AGAIN_SECONDS,
    Supply,
    Weights,
    arrived,
    coming,
    credential_trouble,
    failed,
    missing,
    progressed,
    there,
)
from roundhouse_operator.core.weights.sweep import sweeping

FIRST_DELAY_SECONDS: Final = 10
LAST_DELAY_SECONDS: Final = 300
STUBBORN: Final = 3
"""So many times as long is waited where the loader says that trying again will not help."""
MOUNT_SECONDS: Final = 120
"""For a volume to be attached and mounted, and the loader's image to be pulled."""
_PULL: Final = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
_VOLUME: Final = re.compile(r"(?i)persistentvolumeclaim|volume")


@dataclass(frozen=True, slots=True)
class _Case:
    """One variant, and what there is of the store that it wants."""

    world: World
    intent: Intent
    store: Store
    asks: frozenset[Ask]

    @property
    def jobs(self) -> list[LoaderJob]:
        """Those that this variant may have, oldest first; under Never one that others have is as good."""
        fetching = [job for job in self.store.jobs if job.purpose is JobPurpose.FETCH]
        never = self.intent.delivery.policy is DownloadPolicy.NEVER
        if never and not any(job.phase is not JobPhase.FAILED for job in fetching):
            fetching = [job for job in self.store.jobs if job.purpose is JobPurpose.CHECK]
        return sorted(fetching, key=lambda job: job.attempt)

    @property
    def purpose(self) -> JobPurpose:
        never = self.intent.delivery.policy is DownloadPolicy.NEVER
        return JobPurpose.CHECK if never else JobPurpose.FETCH

    @property
    def claim_uid(self) -> str:
        """Empty for a claim of somebody else, which is not watched."""
        return self.store.claim.uid if self.intent.delivery.own and self.store.claim else ""

    @property
    def secret_version(self) -> str:
        secret = credential(self.intent.delivery.source)
        answer = self.world.answers.get(Ask(AskedKind.SECRET, secret.secret)) if secret else None
        return answer.version if answer else ""


def supply_by_job(world: World, intent: Intent) -> Supply:
    delivery = intent.delivery
    store = world.stores.get(delivery.store) or Store()
    if waiting := _end_of_sweep(world, intent, store):
        return waiting
    if store.record and _complete(intent, store, store.record):
        told = there(Reason.DOWNLOADED, f"PersistentVolumeClaim {delivery.claim!r} holds them")
        return Supply(told, arrived(delivery, store.record))
    if intent.variant.suspend:
        told = Weights(False, False, Reason.SUSPENDED, "Nothing is fetched while `spec.suspend` is true")
        return Supply(told, progressed(delivery, world, None))
    asks, trouble = credential_trouble(delivery, world)
    if trouble:
        shown = progressed(delivery, world, None)
        return Supply(missing(trouble), shown, asks=asks, revisit_seconds=LOOK_AGAIN_SECONDS)
    case = _Case(world, intent, store, asks)
    if delivery.own and (waiting := _make_claim(case, delivery.own)):
        return waiting
    return _look_at_job(case)


def _end_of_sweep(world: World, intent: Intent, store: Store) -> Supply | None:
    """What removes the weights that are wanted again must be gone before they are fetched."""
    jobs = sweeping(store)
    going = [
        pod for pod in store.pods if pod.job not in {job.name for job in store.jobs} | {""} and pod.loader
    ]
    if not jobs and not any(pod.loader and pod.loader.running for pod in going):
        return None
    plan = Plan(deletes=tuple(Delete(JOB, world.variant.namespace, job.name, job.uid) for job in jobs))
    shown = progressed(intent.delivery, world, None)
    return Supply(coming("They were being removed, and are fetched anew"), shown, plan)


def retry_delay_seconds(attempt: int, *, retryable: bool) -> int:
    delay: int = min(FIRST_DELAY_SECONDS * 2 ** min(attempt - 1, 10), LAST_DELAY_SECONDS)
    return delay if retryable else min(delay * STUBBORN, LAST_DELAY_SECONDS)


def _complete(intent: Intent, store: Store, record: Record) -> bool:
    if not record.complete or record.claim != intent.delivery.claim:
        return False
    if intent.delivery.own is None:
        return True
    claim = store.claim
    return claim is not None and not claim.ending and claim.uid == record.claim_uid


def _make_claim(case: _Case, asked: PVCCache) -> Supply | None:
    """None once it is there as asked. It only ever grows: what is on it is not given up."""
    claim, intent = case.store.claim, case.intent
    shown = progressed(intent.delivery, case.world, None)
    if claim and claim.ending:
        return Supply(coming("The claim for them is being deleted"), shown, asks=case.asks)
    size = claim_size(intent, asked)
    if claim and claim.size_bytes >= size.bytes:
        return None
    plan = Plan(applies=(Apply(VOLUME_CLAIM, build_claim(intent, asked, size), force=False),))
    return Supply(coming("The claim for them is being made"), shown, plan, case.asks)


def _look_at_job(case: _Case) -> Supply:
    jobs = case.jobs
    if not jobs:
        return _start(case, LoaderRun(case.purpose), coming("The loader is being started"))
    job = jobs[-1]
    older = tuple(_delete(case, one) for one in jobs[:-1])
    if job.claim_uid != case.claim_uid:
        return _start(case, LoaderRun(case.purpose), coming("The loader is being started anew"), jobs)
    match job.phase:
        case JobPhase.COMPLETE:
            return _keep_record(case, job)
        case JobPhase.FAILED:
            return _after_failure(case, job)
        case JobPhase.ACTIVE:
            replaced = _replaces(case, job)
            supply = _while_active(case, job)
            if replaced:
                return _start(case, LoaderRun(job.purpose, job.attempt + 1), supply.weights, [job])
            return Supply(
                supply.weights,
                supply.shown,
                Plan(deletes=older) if older else NOTHING,
                supply.asks,
                supply.revisit_seconds,
            )


def _start(case: _Case, run: LoaderRun, told: Weights, instead_of: list[LoaderJob] | None = None) -> Supply:
    attempt = max([run.attempt, *(job.attempt + 1 for job in instead_of or ())])
    made = LoaderRun(run.purpose, attempt, case.secret_version, case.claim_uid)
    applies = [Apply(JOB, build_job(case.intent, made), force=False, new=True)]
    record = case.store.record
    fetches = run.purpose is JobPurpose.FETCH and case.intent.delivery.own is None
    if fetches and not (record and record.pod_spec):
        # On a claim of others it tells, when nobody wants the weights any more, what is to be removed.
        begun = build_record(case.intent, None, ours=True)
        applies.insert(0, Apply(CONFIG_MAP, begun, force=False))
    deletes = tuple(_delete(case, job) for job in instead_of or ())
    shown = _as_before(case)
    return Supply(told, shown, Plan(applies=tuple(applies), deletes=deletes), case.asks)


def _keep_record(case: _Case, job: LoaderJob) -> Supply:
    report = next((pod.loader.report for pod in _pods(case, job) if pod.loader and pod.loader.report), None)
    # What was only looked at is somebody else's: a person has put it there, for a cluster without a network.
    ours = job.purpose is JobPurpose.FETCH or bool(case.store.record and case.store.record.pod_spec)
    record = build_record(case.intent, report, claim_uid=case.claim_uid, complete=True, ours=ours)
    plan = Plan(applies=(Apply(CONFIG_MAP, record, force=False),))
    shown = (
        arrived(case.intent.delivery, report)
        if report
        else progressed(case.intent.delivery, case.world, None)
    )
    return Supply(coming("The loader has ended well"), shown, plan, case.asks)


def _after_failure(case: _Case, job: LoaderJob) -> Supply:
    trouble, retryable = _failure(case, job)
    changed = bool(case.secret_version) and case.secret_version != job.secret_version
    due = job.failed_at + retry_delay_seconds(job.attempt, retryable=retryable) - case.world.now
    if changed or due <= 0 or _replaces(case, job):
        return _start(case, LoaderRun(case.purpose, job.attempt + 1), missing(trouble), [job])
    shown = _as_before(case)
    wait = min(due, LOOK_AGAIN_SECONDS) if case.secret_version else due
    return Supply(missing(trouble), shown, asks=case.asks, revisit_seconds=wait)


def _failure(case: _Case, job: LoaderJob) -> tuple[Trouble, bool]:
    for pod in _pods(case, job):
        loader = pod.loader
        if loader and loader.report and not loader.report.complete:
            return failed(case.intent.delivery, loader.report), loader.report.retryable
        if pod.failure or (loader and loader.exit_code):
            what = pod.failure or f"exit code {loader.exit_code if loader else ''}"
            return Trouble(Reason.LOADER_FAILED, f"The loader ended without a word: {what}"), True
    return Trouble(Reason.LOADER_FAILED, f"The loader did not end well: {job.failure}"), True


def _replaces(case: _Case, job: LoaderJob) -> bool:
    """Whether the variant that it was made for would have it otherwise now, or wants it no more."""
    whose = job.made_for == case.intent.name or job.made_for not in case.store.wanted_by
    return whose and job.made_from != job_digest(case.intent, job.purpose)


def _while_active(case: _Case, job: LoaderJob) -> Supply:
    delivery, world = case.intent.delivery, case.world
    pod = next(iter(_pods(case, job)), None)
    shown = progressed(delivery, world, world.progress.get(pod.name) if pod else None)
    if pod is None:
        return Supply(coming("The loader is being started"), shown, asks=case.asks)
    if pod.unschedulable is not None and not pod.scheduled:
        nowhere, asks = _nowhere(case, pod.unschedulable)
        return Supply(missing(nowhere), shown, asks=asks, revisit_seconds=LOOK_AGAIN_SECONDS)
    if trouble := _not_made(pod):
        return Supply(missing(trouble), shown, asks=case.asks)
    if pod.scheduled and not pod.begun and pod.scheduled_at:
        return _not_mounted(case, pod, shown)
    if pod.loader and pod.loader.report and not pod.loader.report.complete:
        return Supply(missing(failed(delivery, pod.loader.report)), shown, asks=case.asks)
    return Supply(coming("The weights are being fetched"), shown, asks=case.asks)


def _not_mounted(case: _Case, pod: Pod, shown: Manifest) -> Supply:
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


def _nowhere(case: _Case, message: str) -> tuple[Trouble, frozenset[Ask]]:
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


def _as_before(case: _Case) -> Manifest:
    return progressed(case.intent.delivery, case.world, None)


def _pods(case: _Case, job: LoaderJob) -> list[Pod]:
    """Of that Job, newest first."""
    own = [pod for pod in case.store.pods if pod.job == job.name]
    return sorted(own, key=lambda pod: (pod.created, pod.name), reverse=True)


def _delete(case: _Case, job: LoaderJob) -> Delete:
    return Delete(JOB, case.world.variant.namespace, job.name, job.uid)

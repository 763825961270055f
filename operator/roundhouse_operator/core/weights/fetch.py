"""Weights on a claim: the Job that fetches them, the claim where there is none, and what has become of both.

A Job is of one attempt. One that failed is followed by the next after a delay that doubles, at once when the
Secret that it used was changed; so nothing turns in a hot loop, and what was mended is found. All that is
known of an attempt stands on its Job, and all that is known of weights that arrived in their record.
"""

from __future__ import annotations

from typing import Final

from roundhouse_api.conditions import Reason
from roundhouse_api.model import Manifest
from roundhouse_api.v1alpha1 import PVCCache
from roundhouse_operator.core.desired.cache import (
    LoaderRun,
    build_claim,
    build_job,
    build_record,
    claim_size,
    job_digest,
    loader_nodes,
)
from roundhouse_operator.core.desired.intent import Intent
from roundhouse_operator.core.diagnose import Trouble
from roundhouse_operator.core.kinds import CONFIG_MAP, JOB, VOLUME_CLAIM
from roundhouse_operator.core.observed import Store, World
from roundhouse_operator.core.plan import NOTHING, Apply, Delete, Mark, Plan
from roundhouse_operator.core.weights.case import Case
from roundhouse_operator.core.weights.mark import mark_fetched, nodes_of, unmark
from roundhouse_operator.core.weights.marking import marked_again
from roundhouse_operator.core.weights.mounting import asked_of_mounts
from roundhouse_operator.core.weights.state import JobPhase, JobPurpose, LoaderJob, Record, Report
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
from roundhouse_operator.core.weights.under_way import while_active

FIRST_DELAY_SECONDS: Final = 10
LAST_DELAY_SECONDS: Final = 300
STUBBORN: Final = 3
"""So many times as long is waited where the loader says that trying again will not help."""


def supply_by_job(world: World, intent: Intent) -> Supply:
    delivery = intent.delivery
    store = world.stores.get(delivery.store) or Store()
    if waiting := _end_of_sweep(world, intent, store):
        return waiting
    if store.record and _complete(intent, store, store.record):
        return _arrived(Case(world, intent, store, asked_of_mounts(world, delivery)), store.record)
    if intent.variant.suspend:
        told = Weights(False, False, Reason.SUSPENDED, "Nothing is fetched while `spec.suspend` is true")
        return Supply(told, progressed(delivery, world, None))
    asks, trouble = credential_trouble(delivery, world)
    if trouble:
        shown = progressed(delivery, world, None)
        return Supply(missing(trouble), shown, asks=asks, revisit_seconds=LOOK_AGAIN_SECONDS)
    case = Case(world, intent, store, asks)
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


def _arrived(case: Case, record: Record) -> Supply:
    told = there(Reason.DOWNLOADED, f"PersistentVolumeClaim {case.intent.delivery.claim!r} holds them")
    job = next((one for one in reversed(case.jobs) if one.phase is JobPhase.COMPLETE), None)
    marks = _last_marks(case, job, _report(case, job)) if job else ()
    return marked_again(case, Supply(told, arrived(case.intent.delivery, record), asks=case.asks), marks)


def _make_claim(case: Case, asked: PVCCache) -> Supply | None:
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


def _look_at_job(case: Case) -> Supply:
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
            supply = while_active(case, job)
            if replaced:
                return _start(case, LoaderRun(job.purpose, job.attempt + 1), supply.weights, [job])
            return Supply(
                supply.weights,
                supply.shown,
                Plan(deletes=older) if older else NOTHING,
                supply.asks,
                supply.revisit_seconds,
            )


def _start(case: Case, run: LoaderRun, told: Weights, instead_of: list[LoaderJob] | None = None) -> Supply:
    attempt = max([run.attempt, *(job.attempt + 1 for job in instead_of or ())])
    made = LoaderRun(run.purpose, attempt, case.secret_version, case.claim_uid)
    applies = [Apply(JOB, build_job(case.intent, made), force=False, new=True)]
    marks = _marks(case, run.purpose)
    if marks and case.store.record is None:
        # On a claim of others it tells, when nobody wants the weights any more, what is to be looked at.
        applies.insert(0, Apply(CONFIG_MAP, build_record(case.intent, None), force=False))
    deletes = tuple(_delete(case, job) for job in instead_of or ())
    shown = _as_before(case)
    return Supply(told, shown, Plan(applies=tuple(applies), deletes=deletes, marks=marks), case.asks)


def _marks(case: Case, purpose: JobPurpose) -> tuple[Mark, ...]:
    """On a claim of somebody else's stands which directories we have made.

    What was only looked at is another's: a person has put it there, for a cluster without a network.
    """
    delivery = case.intent.delivery
    if purpose is not JobPurpose.FETCH or delivery.own:
        return ()
    nodes = nodes_of(loader_nodes(case.intent))
    return (mark_fetched(case.world.variant.namespace, delivery.claim, delivery.key, nodes),)


def _keep_record(case: Case, job: LoaderJob) -> Supply:
    report = _report(case, job)
    record = build_record(case.intent, report, claim_uid=case.claim_uid, complete=True)
    # By force over what others wrote into it: else their word would keep pods from coming for ever.
    written = Apply(CONFIG_MAP, record, force=case.store.record is not None)
    plan = Plan(applies=(written,), marks=_last_marks(case, job, report))
    shown = (
        arrived(case.intent.delivery, report)
        if report
        else progressed(case.intent.delivery, case.world, None)
    )
    return Supply(coming("The loader has ended well"), shown, plan, case.asks)


def _report(case: Case, job: LoaderJob) -> Report | None:
    return next((pod.loader.report for pod in case.pods(job) if pod.loader and pod.loader.report), None)


def _last_marks(case: Case, job: LoaderJob, report: Report | None) -> tuple[Mark, ...]:
    """Weights that were there whole, though nothing told that, are kept: a person may have put them there.

    Also where an attempt of ours had begun, and left its mark. What was fetched is marked once more, because
    the claim may have come after the Job.
    """
    delivery = case.intent.delivery
    if delivery.own or (job.purpose is JobPurpose.FETCH and (report is None or report.fetched)):
        return _marks(case, job.purpose)
    return (unmark(case.world.variant.namespace, delivery.claim, delivery.key),)


def _after_failure(case: Case, job: LoaderJob) -> Supply:
    trouble, retryable = _failure(case, job)
    changed = bool(case.secret_version) and case.secret_version != job.secret_version
    due = job.failed_at + retry_delay_seconds(job.attempt, retryable=retryable) - case.world.now
    if changed or due <= 0 or _replaces(case, job):
        return _start(case, LoaderRun(case.purpose, job.attempt + 1), missing(trouble), [job])
    shown = _as_before(case)
    wait = min(due, LOOK_AGAIN_SECONDS) if case.secret_version else due
    return Supply(missing(trouble), shown, asks=case.asks, revisit_seconds=wait)


def _failure(case: Case, job: LoaderJob) -> tuple[Trouble, bool]:
    for pod in case.pods(job):
        loader = pod.loader
        if loader and loader.report and not loader.report.complete:
            return failed(case.intent.delivery, loader.report), loader.report.retryable
        if pod.failure or (loader and loader.exit_code):
            what = pod.failure or f"exit code {loader.exit_code if loader else ''}"
            return Trouble(Reason.LOADER_FAILED, f"The loader ended without a word: {what}"), True
    return Trouble(Reason.LOADER_FAILED, f"The loader did not end well: {job.failure}"), True


def _replaces(case: Case, job: LoaderJob) -> bool:
    """Whether the variant that it was made for would have it otherwise now, or wants it no more."""
    whose = job.made_for == case.intent.name or job.made_for not in case.store.wanted_by
    return whose and job.made_from != job_digest(case.intent, job.purpose)


def _as_before(case: Case) -> Manifest:
    return progressed(case.intent.delivery, case.world, None)


def _delete(case: Case, job: LoaderJob) -> Delete:
    return Delete(JOB, case.world.variant.namespace, job.name, job.uid)

"""What is taken away when no variant wants weights any more.

A claim that the operator made goes whole. On a claim of somebody else other weights may lie, so a Job removes
the one directory; the record goes after it, because it tells how to make that Job. Directories of nodes stay.
"""

from __future__ import annotations

import json
from typing import Final

from roundhouse_api.model import Manifest
from roundhouse_operator.core.desired.cache import head, job
from roundhouse_operator.core.kinds import CONFIG_MAP, JOB, VOLUME_CLAIM
from roundhouse_operator.core.observed import Store
from roundhouse_operator.core.plan import Apply, Delete, Plan
from roundhouse_operator.core.weights.state import JobPhase, JobPurpose, LoaderJob, Record

TRIES: Final = 3


def plan_sweep(namespace: str, name: str, store: Store) -> Plan:
    """One step: what follows it is seen when it has been taken."""
    jobs = tuple(
        Delete(JOB, namespace, one.name, one.uid) for one in store.jobs if one.purpose is not JobPurpose.SWEEP
    )
    record, claim = store.record, store.claim
    if record and record.pod_spec:
        applies, swept = _sweep_directory(namespace, name, store, record)
        if not swept:
            return Plan(applies=applies, deletes=jobs)
    sweeps = tuple(
        Delete(JOB, namespace, one.name, one.uid) for one in store.jobs if one.purpose is JobPurpose.SWEEP
    )
    claims = (Delete(VOLUME_CLAIM, namespace, claim.name, claim.uid),) if claim and not claim.ending else ()
    records = (Delete(CONFIG_MAP, namespace, name, record.uid),) if record else ()
    return Plan(deletes=(*jobs, *claims, *records, *sweeps))


def sweeping(store: Store) -> list[LoaderJob]:
    return [one for one in store.jobs if one.purpose is JobPurpose.SWEEP]


def _sweep_directory(
    namespace: str, name: str, store: Store, record: Record
) -> tuple[tuple[Apply, ...], bool]:
    """The writes that are next, and whether it is over."""
    if any(one.phase is not JobPhase.ACTIVE for one in sweeping(store)):
        return (), True
    if sweeping(store):
        return (), False
    # First the record: whoever wants the weights again must not believe it while the Job works.
    applies = [Apply(CONFIG_MAP, _incomplete(namespace, name, store, record), force=False)]
    sweep = head(JOB, namespace, f"{name}-sweep-1", store.key)
    pod = json.loads(record.pod_spec)
    mark = {"attempt": 1, "purpose": JobPurpose.SWEEP.value}
    applies.append(Apply(JOB, job(sweep, mark, pod, key=store.key, tries=TRIES), force=False, new=True))
    return tuple(applies), False


def _incomplete(namespace: str, name: str, store: Store, record: Record) -> Manifest:
    said = {"claim": record.claim, "key": store.key, "pod": record.pod_spec}
    return {**head(CONFIG_MAP, namespace, name, store.key), "data": said}

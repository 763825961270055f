"""What is taken away when no variant wants weights any more.

A claim that the operator made goes whole. On a claim of somebody else other weights may lie, so a Job removes
the one directory; the record goes after it, because it tells which one that is. A record that names none of
ours has nothing removed. Directories of nodes stay.
"""

from __future__ import annotations

import re
from typing import Final

from roundhouse_operator.core.desired.cache import build_sweep, head, swept_record
from roundhouse_operator.core.kinds import CONFIG_MAP, JOB, VOLUME_CLAIM
from roundhouse_operator.core.observed import Store
from roundhouse_operator.core.plan import Apply, Delete, Plan
from roundhouse_operator.core.weights.key import DIGEST_LENGTH, WORD_LENGTH, store_name
from roundhouse_operator.core.weights.loader import LoaderImage
from roundhouse_operator.core.weights.state import JobPhase, JobPurpose, LoaderJob, Record

_KEY: Final = re.compile(rf"[a-z0-9][a-z0-9-]{{0,{WORD_LENGTH - 1}}}-[0-9a-f]{{{DIGEST_LENGTH}}}")
_CLAIM: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


def plan_sweep(namespace: str, name: str, store: Store, loader: LoaderImage) -> Plan:
    """One step: what follows it is seen when it has been taken."""
    jobs = tuple(
        Delete(JOB, namespace, one.name, one.uid) for one in store.jobs if one.purpose is not JobPurpose.SWEEP
    )
    record, claim = store.record, store.claim
    if record and _ours(name, record, store.key):
        applies, swept = _sweep_directory(namespace, name, store, record, loader)
        if not swept:
            return Plan(applies=applies, deletes=jobs)
    sweeps = tuple(
        Delete(JOB, namespace, one.name, one.uid) for one in store.jobs if one.purpose is JobPurpose.SWEEP
    )
    claims = (Delete(VOLUME_CLAIM, namespace, claim.name, claim.uid),) if claim and not claim.ending else ()
    records = (Delete(CONFIG_MAP, namespace, name, record.uid),) if record else ()
    return Plan(deletes=(*jobs, *claims, *records, *sweeps))


def _ours(name: str, record: Record, key: str) -> bool:
    """Whether a Job of ours made the directory: claim and key, which anybody may write, must fit the name."""
    well = _CLAIM.fullmatch(record.claim) is not None and _KEY.fullmatch(key) is not None
    return record.ours and well and name == store_name(key, f"claim {record.claim}")


def sweeping(store: Store) -> list[LoaderJob]:
    return [one for one in store.jobs if one.purpose is JobPurpose.SWEEP]


def _sweep_directory(
    namespace: str, name: str, store: Store, record: Record, loader: LoaderImage
) -> tuple[tuple[Apply, ...], bool]:
    """The writes that are next, and whether it is over."""
    if any(one.phase is not JobPhase.ACTIVE for one in sweeping(store)):
        return (), True
    if sweeping(store):
        return (), False
    # First the record: whoever wants the weights again must not believe it while the Job works.
    said = {**head(CONFIG_MAP, namespace, name, store.key), "data": swept_record(store.key, record)}
    sweep = build_sweep(head(JOB, namespace, f"{name}-sweep-1", store.key), store.key, record, loader)
    return (Apply(CONFIG_MAP, said, force=False), Apply(JOB, sweep, force=False, new=True)), False

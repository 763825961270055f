"""What is taken away when no variant wants weights any more, and since when that is so.

A claim that the operator made goes whole. On a claim of somebody else other weights may lie, so a Job removes
the one directory; the record goes after it, because it tells which claim that is. A directory that is not
marked as ours stays, whatever a record says. Directories of nodes stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from roundhouse_api.names import ANNOTATION_UNWANTED
from roundhouse_operator.core.desired.cache import build_sweep, head
from roundhouse_operator.core.kinds import CONFIG_MAP, JOB, VOLUME_CLAIM, Kind
from roundhouse_operator.core.observed import Store
from roundhouse_operator.core.plan import Apply, Delete, Mark, Plan
from roundhouse_operator.core.weights.key import DIGEST_LENGTH, WORD_LENGTH, store_name
from roundhouse_operator.core.weights.loader import LoaderImage
from roundhouse_operator.core.weights.mark import Nodes, unmark
from roundhouse_operator.core.weights.state import JobPhase, JobPurpose, LoaderJob, Record

AGAIN_SECONDS: Final = 300
"""After so long a sweep that failed is tried again."""
_KEY: Final = re.compile(rf"[a-z0-9][a-z0-9-]{{0,{WORD_LENGTH - 1}}}-[0-9a-f]{{{DIGEST_LENGTH}}}")
_CLAIM: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


def unwanted_since(store: Store) -> int:
    """Seconds since the epoch; 0 where it is not written down."""
    return min((one.unwanted_since for one in _belongings("", store) if one.unwanted_since), default=0)


def mark_unwanted(namespace: str, name: str, store: Store, time: str) -> Plan:
    """One of the objects says it, so that a restart of the operator gives no further time."""
    marks = (one.mark(namespace, time) for one in _belongings(name, store))
    return Plan(marks=tuple(islice(marks, 1)))


def mark_wanted(namespace: str, name: str, store: Store) -> Plan:
    """When it is wanted no more, it is given the whole time again."""
    told = (one for one in _belongings(name, store) if one.unwanted_since)
    return Plan(marks=tuple(one.mark(namespace, None) for one in told))


def swept_claim(name: str, store: Store) -> str | None:
    """The claim of somebody else's on which a directory may have to be removed.

    Record and key, which anybody may write, must fit the name.
    """
    record, key = store.record, store.key
    if record is None or not (_CLAIM.fullmatch(record.claim) and _KEY.fullmatch(key)):
        return None
    return record.claim if name == store_name(key, f"claim {record.claim}") else None


def plan_sweep(namespace: str, name: str, store: Store, loader: LoaderImage, marked: Nodes | None) -> Plan:
    """One step: what follows it is seen when it has been taken. `marked`: by the claim of `swept_claim`."""
    jobs = tuple(
        Delete(JOB, namespace, one.name, one.uid) for one in store.jobs if one.purpose is not JobPurpose.SWEEP
    )
    record, claim, marks = store.record, store.claim, tuple[Mark, ...]()
    if record and marked is not None and swept_claim(name, store):
        if not sweeping(store):
            heading = head(JOB, namespace, f"{name}-sweep-1", store.key)
            sweep = build_sweep(heading, store.key, record.claim, marked, loader)
            # First the record: whoever wants the weights again must not believe it while the Job works.
            applies = (
                _forgetful(namespace, name, store.key, record),
                Apply(JOB, sweep, force=False, new=True),
            )
            return Plan(applies=applies, deletes=jobs)
        if any(one.phase is JobPhase.ACTIVE for one in sweeping(store)):
            return Plan(deletes=jobs)
        if any(one.phase is JobPhase.FAILED for one in sweeping(store)):
            return Plan(deletes=(*jobs, *_sweeps(namespace, store)))  # the record stays: it is tried again
        marks = (unmark(namespace, record.claim, store.key),)
    sweeps = _sweeps(namespace, store)
    claims = (Delete(VOLUME_CLAIM, namespace, claim.name, claim.uid),) if claim and not claim.ending else ()
    records = (Delete(CONFIG_MAP, namespace, name, record.uid),) if record else ()
    return Plan(deletes=(*jobs, *claims, *records, *sweeps), marks=marks)


def sweeping(store: Store) -> list[LoaderJob]:
    return [one for one in store.jobs if one.purpose is JobPurpose.SWEEP]


def failed_sweep(store: Store) -> tuple[int, str]:
    """When it failed, in seconds since the epoch, and why; 0 where none did."""
    jobs = [one for one in sweeping(store) if one.phase is JobPhase.FAILED]
    names = {one.name for one in jobs}
    loaders = (pod.loader for pod in store.pods if pod.job in names)
    said = (one.report.message for one in loaders if one and one.report and one.report.message)
    why = next(said, "") or next((one.failure for one in jobs if one.failure), "its log says why")
    return max((one.failed_at for one in jobs), default=0), why


def _sweeps(namespace: str, store: Store) -> tuple[Delete, ...]:
    return tuple(Delete(JOB, namespace, one.name, one.uid) for one in sweeping(store))


def _forgetful(namespace: str, name: str, key: str, record: Record) -> Apply:
    said = {**head(CONFIG_MAP, namespace, name, key), "data": {"claim": record.claim, "key": key}}
    return Apply(CONFIG_MAP, said, force=False)


@dataclass(frozen=True, slots=True)
class _Belonging:
    """An object of a cache, and since when nobody wants it, as it says."""

    kind: Kind
    name: str
    uid: str
    unwanted_since: int

    def mark(self, namespace: str, time: str | None) -> Mark:
        return Mark(self.kind, namespace, self.name, {ANNOTATION_UNWANTED: time}, self.uid)


def _belongings(name: str, store: Store) -> Iterator[_Belonging]:
    """What lasts longest first."""
    if record := store.record:
        yield _Belonging(CONFIG_MAP, name, record.uid, record.unwanted_since)
    if claim := store.claim:
        yield _Belonging(VOLUME_CLAIM, claim.name, claim.uid, claim.unwanted_since)
    for job in store.jobs:
        yield _Belonging(JOB, job.name, job.uid, job.unwanted_since)

"""Marks that were refused: what is told of weights whose claim does not say what it should, and what is done.

The weights serve as they are; what is at stake is their end. What was fetched and is not marked stays on the
claim for ever, and what is marked and was not fetched is a person's, and must not go. Only a Job that stands
says which of both it is: a record, which others may write, has no claim marked. Where the Job is gone, a
person is asked.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from roundhouse_api.conditions import Reason
from roundhouse_api.names import ANNOTATION_FETCHED
from roundhouse_operator.core.desired.cache import build_record, note_refusal
from roundhouse_operator.core.diagnose import Trouble
from roundhouse_operator.core.kinds import CONFIG_MAP
from roundhouse_operator.core.outcome import Refusal
from roundhouse_operator.core.plan import Apply, Mark, Plan
from roundhouse_operator.core.weights.asked import Ask, AskedKind
from roundhouse_operator.core.weights.case import Case
from roundhouse_operator.core.weights.state import MarkRefusal
from roundhouse_operator.core.weights.supply import Supply

AGAIN_SECONDS: Final = 300
"""After so long a mark that was refused is tried again."""


def marked_again(case: Case, supply: Supply, marks: Iterable[Mark]) -> Supply:
    """Of weights that are there. `marks`: what the Job that stands says; none where it is gone."""
    record, delivery = case.store.record, case.intent.delivery
    if record is None or record.refused is None or delivery.own:
        return supply
    refused, name = record.refused, f"{ANNOTATION_FETCHED}{delivery.key}"
    kept = replace(supply, unmarked=_trouble(delivery.claim, name, refused))
    clean = Apply(
        CONFIG_MAP,
        build_record(case.intent, record, claim_uid=record.claim_uid, complete=True),
        force=False,
    )
    if (due := refused.at + AGAIN_SECONDS - case.world.now) > 0:
        return replace(kept, revisit_seconds=due)
    marks = tuple(one for one in marks if _wanted(one) is refused.wanted)
    if marks:
        return replace(kept, plan=Plan(applies=(clean,), marks=marks), revisit_seconds=AGAIN_SECONDS)
    ask = Ask(AskedKind.CLAIM, delivery.claim)
    answer = case.world.answers.get(ask)
    if answer and not answer.refused and (not answer.found or (name in answer.annotations) is refused.wanted):
        return replace(supply, plan=Plan(applies=(clean,)), asks=supply.asks | {ask})
    return replace(kept, asks=supply.asks | {ask}, revisit_seconds=AGAIN_SECONDS)


def without_marks(plan: Plan, refused: Refusal, now: int) -> Plan:
    """What is left to do of it when its marks are refused."""
    said = MarkRefusal(any(map(_wanted, plan.marks)), refused.message, now)
    applies = tuple(
        replace(one, manifest=note_refusal(one.manifest, said)) if one.kind == CONFIG_MAP else one
        for one in plan.applies
    )
    return replace(plan, applies=applies, marks=())


def _wanted(mark: Mark) -> bool:
    return any(value is not None for value in mark.annotations.values())


def _trouble(claim: str, name: str, refused: MarkRefusal) -> Trouble:
    if refused.wanted:
        what = "so these weights stay there when nobody wants them any more"
        do = f"give it the annotation `{name}: '{{}}'`"
    else:
        what = "which says of these weights that they were fetched, and they were there before"
        do = f"take the annotation `{name}` from it"
    told = f"PersistentVolumeClaim {claim!r} may not be annotated, {what}: let the operator patch it, or {do}"
    return Trouble(Reason.CACHE_NOT_SWEPT, f"{told} ({refused.why})")

"""The status of an Engine: whether variants can be run on it, and how many are.

Counts and never lists: a status that names its variants grows with them and is written whenever one of
them changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from roundhouse_api.conditions import ConditionType, Reason
from roundhouse_api.model import Manifest
from roundhouse_api.v1alpha1 import EnginePlacement, EngineSpec, Hardware, Quantity
from roundhouse_operator.core import placement
from roundhouse_operator.core.credentials import foremost
from roundhouse_operator.core.diagnose import Trouble
from roundhouse_operator.core.observed import Engine, Invalid
from roundhouse_operator.core.placement import Fleet
from roundhouse_operator.core.rollout.line import Stand
from roundhouse_operator.core.status.conditions import (
    Degradations,
    Finding,
    false,
    ready,
    troubled,
    true,
    unknown,
    write_conditions,
)
from roundhouse_operator.core.status.probed import find_probed, probed_status
from roundhouse_operator.core.status.shared import SharedPods, shared_findings
from roundhouse_operator.core.status.up_to_date import NOBODY_WAITS, find_engine_up_to_date
from roundhouse_operator.core.support import refuse_engine, unsupported_by_engine


@dataclass(frozen=True, slots=True)
class Usage:
    """What an engine's variants say in their own statuses, summed up."""

    variants: int = 0
    ready_variants: int = 0
    replicas: int = 0
    ready_replicas: int = 0
    verified: frozenset[str] = frozenset()
    """Features that some variant was seen to have."""
    unproven: frozenset[str] = frozenset()
    """Features that were asked of a variant and not seen."""


def usage_of(status: Manifest) -> Usage:
    """What one variant adds."""
    proven = status.get("verification") or {}
    return Usage(
        1,
        int(_is_ready(status)),
        status.get("replicas", 0),
        status.get("readyReplicas", 0),
        frozenset(proven.get("verifiedFeatures") or ()),
        frozenset(proven.get("unprovenFeatures") or ()),
    )


def sum_up(usages: Iterable[Usage]) -> Usage:
    seen = tuple(usages)
    return Usage(
        variants=sum(one.variants for one in seen),
        ready_variants=sum(one.ready_variants for one in seen),
        replicas=sum(one.replicas for one in seen),
        ready_replicas=sum(one.ready_replicas for one in seen),
        verified=frozenset[str]().union(*(one.verified for one in seen)),
        unproven=frozenset[str]().union(*(one.unproven for one in seen)),
    )


def engine_status(  # noqa: PLR0913  # all that a pass over an engine looks at
    engine: Engine,
    used: Usage,
    fleet: Fleet,
    *,
    now: str,
    api_hosts: Iterable[str] = (),
    stand: Stand = NOBODY_WAITS,
    shared: SharedPods | None = None,
    credential: Trouble | None = None,
) -> Manifest:
    """`credential` is what is wrong with the Secret of an upstream."""
    placed = None if isinstance(engine.spec, Invalid) else _placement(engine.spec, fleet)
    up_to_date = find_engine_up_to_date(used.variants, stand)
    refused = _refused(engine, credential, api_hosts)
    findings = _findings(engine, used, placed, refused, up_to_date)
    if shared:
        findings = {**findings, **shared_findings(shared, findings[ConditionType.DEGRADED])}
    status: Manifest = {
        "observedGeneration": engine.generation,
        "conditions": write_conditions(
            findings, engine.status.get("conditions") or (), generation=engine.generation, now=now
        ),
        "variants": used.variants,
        "readyVariants": used.ready_variants,
        "replicas": shared.replicas if shared else used.replicas,
        "readyReplicas": shared.ready_replicas if shared else used.ready_replicas,
    }
    if shared and shared.active_variant:
        status["activeVariantName"] = shared.active_variant
    if placed:
        status["placement"] = placed.status
    if probed := probed_status(engine, used.verified, used.unproven):
        status["verification"] = probed
    return status


@dataclass(frozen=True, slots=True)
class _Placed:
    finding: Finding
    status: Manifest


def _placement(spec: EngineSpec, fleet: Fleet) -> _Placed | None:
    if spec.upstream:
        return None
    need = placement.place(placement.state(spec.hardware or Hardware()), fleet)
    if need.unplaceable:
        why = false(need.unplaceable.reason, need.unplaceable.message)
        return _Placed(why, EnginePlacement(device=need.device).model_dump(by_alias=True, exclude_none=True))
    found = fleet.survey(need)
    largest = Quantity.of_mib(found.largest_mib) if found.largest_mib else None
    message = placement.explain(need, found)
    return _Placed(
        true(Reason.HARDWARE_FOUND, f"The engine {message}")
        if found.fitting
        else false(found.obstacle, f"The engine {message}"),
        EnginePlacement(
            device=need.device, nodes_fitting=found.fitting, largest_gpu_memory=largest
        ).model_dump(by_alias=True, exclude_none=True, mode="json"),
    )


def _refused(engine: Engine, credential: Trouble | None, api_hosts: Iterable[str]) -> Trouble | None:
    found = None if isinstance(engine.spec, Invalid) else refuse_engine(engine.spec, api_hosts=api_hosts)
    return foremost(credential, found)


def _findings(
    engine: Engine, used: Usage, placed: _Placed | None, refused: Trouble | None, up_to_date: Finding
) -> Mapping[ConditionType, Finding | None]:
    spec = engine.spec
    if isinstance(spec, Invalid):
        accepted, hardware = (
            false(spec.reason, spec.message),
            unknown(Reason.PENDING, "Not looked at: the spec is not accepted"),
        )
    else:
        accepted = troubled(refused) if refused else true(Reason.VALID, "The spec is accepted")
        hardware = placed.finding if placed else true(Reason.UPSTREAM, "The upstream has its own")
    degraded = Degradations()
    if not isinstance(spec, Invalid):
        if accepted.reason is Reason.NOT_YET_SUPPORTED:
            degraded.add(accepted.reason, accepted.message)
        if fields := unsupported_by_engine(spec):
            degraded.add(Reason.NOT_YET_SUPPORTED, f"Accepted and not honoured yet: {', '.join(fields)}")
    if up_to_date.reason is Reason.ROLLOUT_PAUSED:
        degraded.add(up_to_date.reason, up_to_date.message)
    return {
        ConditionType.READY: ready((accepted, hardware), hardware),
        ConditionType.ACCEPTED: accepted,
        ConditionType.HARDWARE_AVAILABLE: hardware,
        ConditionType.VERIFIED: find_probed(engine, used.verified, used.unproven),
        ConditionType.UP_TO_DATE: up_to_date,
        ConditionType.DEGRADED: degraded.finding(),
    }


def _is_ready(status: Manifest) -> bool:
    return any(one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions") or ())

"""Public names: which resource of a namespace answers to them.

A name belongs to whoever has it already, else to the oldest resource that wants it, else to the first by
name. So nobody takes a name over by being created, renamed or restarted later. A resource that is not
accepted and serves nothing stands back behind every other that wants the name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from roundhouse_api.conditions import ConditionStatus, ConditionType, Reason
from roundhouse_api.v1alpha1 import AdapterSpec, ModelVariantSpec, SelectionPolicySpec
from roundhouse_operator.core.kinds import Key
from roundhouse_operator.core.observed import Adapter, Claim, Invalid, Policy, Variant


@dataclass(frozen=True, slots=True)
class Award:
    """What came of a claim: the names it won, and for those it lost their owners."""

    won: tuple[str, ...]
    lost: Mapping[str, Key]


def served_name(name: str, spec: ModelVariantSpec | AdapterSpec) -> str:
    return spec.served_name or name


def claim(resource: Variant | Adapter | Policy) -> Claim:
    """A resource whose spec cannot be read keeps the names that it has and wants no others."""
    status, spec = resource.status, resource.spec
    published = tuple(status.get("publishedNames") or ())
    names = published if isinstance(spec, Invalid) else _names(resource.name, spec)
    accepted = resource.condition(ConditionType.ACCEPTED) or {}
    against = accepted.get("reason") if accepted.get("status") == ConditionStatus.FALSE else None
    if isinstance(spec, Invalid) or against not in (None, Reason.NAME_CONFLICT):
        # What it serves it goes on serving; without that, its names are free for others.
        kept = published if status.get("backends") else ()
        return Claim(resource.key, resource.created, names, kept, yielding=names)
    yielding = names[1:] if against else ()
    return Claim(resource.key, resource.created, names, published, yielding)


def award(claimant: Claim, rivals: Mapping[str, Iterable[Claim]]) -> Award:
    owners = {name: owner(name, (claimant, *rivals.get(name, ()))) for name in claimant.names}
    return Award(
        won=tuple(name for name in claimant.names if owners[name] == claimant.key),
        lost={name: key for name, key in owners.items() if key != claimant.key},
    )


def owner(name: str, claims: Iterable[Claim]) -> Key:
    """Of at least one claim, whose name belongs to."""

    def standing(one: Claim) -> tuple[bool, bool, str, str, str]:
        return (
            name not in one.published,
            name in one.yielding,
            one.created,
            one.key.name,
            one.key.kind.name,
        )

    return min(claims, key=standing).key


def _names(name: str, spec: ModelVariantSpec | AdapterSpec | SelectionPolicySpec) -> tuple[str, ...]:
    """The public id first."""
    match spec:
        case SelectionPolicySpec():
            return spec.served_names
        case ModelVariantSpec():
            return (served_name(name, spec), *spec.alternate_names, *spec.aliases)
        case AdapterSpec():
            return (served_name(name, spec),)

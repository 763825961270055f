"""Public names: which resource of a namespace answers to them.

A name belongs to whoever has it already, else to the oldest resource that wants it, else to the first by
name. So nobody takes a name over by being created, renamed or restarted later.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from roundhouse_api.v1alpha1 import ModelVariantSpec
from roundhouse_operator.core.kinds import Key
from roundhouse_operator.core.observed import Claim, Invalid, Variant


@dataclass(frozen=True, slots=True)
class Award:
    """What came of a claim: the names it won, and for those it lost their owners."""

    won: tuple[str, ...]
    lost: Mapping[str, Key]


def served_name(name: str, spec: ModelVariantSpec) -> str:
    return spec.served_name or name


def claim(variant: Variant) -> Claim:
    """A variant whose spec cannot be read keeps the names that it has and wants no others."""
    published = tuple(variant.status.get("publishedNames") or ())
    if isinstance(variant.spec, Invalid):
        names = published
    else:
        spec = variant.spec
        names = (served_name(variant.name, spec), *spec.alternate_names, *spec.aliases)
    return Claim(variant.key, variant.created, names, published)


def award(claimant: Claim, rivals: Mapping[str, Iterable[Claim]]) -> Award:
    owners = {name: _owner(name, (claimant, *rivals.get(name, ()))) for name in claimant.names}
    return Award(
        won=tuple(name for name in claimant.names if owners[name] == claimant.key),
        lost={name: key for name, key in owners.items() if key != claimant.key},
    )


def _owner(name: str, claims: Iterable[Claim]) -> Key:
    first = min(claims, key=lambda one: (name not in one.published, one.created, one.key.name))
    return first.key

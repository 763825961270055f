"""What a variant's spec says about JSON requests: defaults, limits, and how its replicas share them.

Read once for each event. A word that a newer operator knows and this version does not is passed over.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from roundhouse_api.enums import LoadBalancingType
from roundhouse_api.model import Manifest

PREFIX_CHARACTERS: Final = 1024
MEAN_LOAD_PERCENT: Final = 125


@dataclass(frozen=True, slots=True)
class PrefixRule:
    """Requests that begin with the same characters go to the same replica while its load allows it."""

    characters: int
    mean_load_percent: int


@dataclass(frozen=True, slots=True)
class TextSpec:
    """`defaults` are the encoded values of the fields to add where a request has none of that name."""

    defaults: Mapping[str, msgspec.Raw] = field(default_factory=dict)
    prefix: PrefixRule | None = None
    max_batch_items: int | None = None


NOTHING: Final = TextSpec()


def read_text_spec(spec: Manifest) -> TextSpec:
    return TextSpec(
        defaults=_defaults(spec.get("requestDefaults") or {}),
        prefix=_prefix(spec.get("loadBalancing") or {}),
        max_batch_items=(spec.get("limits") or {}).get("maxBatchItems"),
    )


def _defaults(members: Manifest) -> Mapping[str, msgspec.Raw]:
    """Which model is asked is settled before there are defaults."""
    return {
        name: msgspec.Raw(msgspec.json.encode(value))
        for name, value in members.items()
        if name.lower() != "model"
    }


def _prefix(balancing: Manifest) -> PrefixRule | None:
    if balancing.get("type") != LoadBalancingType.PREFIX_HASH:
        return None
    given = balancing.get("prefixHash") or {}
    return PrefixRule(
        given.get("prefixCharacters") or PREFIX_CHARACTERS, given.get("meanLoadPercent") or MEAN_LOAD_PERCENT
    )

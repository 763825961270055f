"""What a client wants a model for, in a word, and what `auto` prefers for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from roundhouse_api.enums import CostTier


@dataclass(frozen=True, slots=True)
class Task:
    """Wishes, not conditions: where nothing has them, another model does."""

    cost_tier: CostTier
    classes: frozenset[str] = frozenset()


TASKS: Final[Mapping[str, Task]] = MappingProxyType(
    {
        "classification": Task(CostTier.PREMIUM, frozenset({"quality"})),
        "diarization": Task(CostTier.PREMIUM, frozenset({"quality"})),
        "summarization": Task(CostTier.BUDGET, frozenset({"fast"})),
        "extraction": Task(CostTier.BUDGET, frozenset({"fast"})),
        "general": Task(CostTier.FALLBACK),
    }
)

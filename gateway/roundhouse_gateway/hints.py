"""What a client would like of the model that `auto` takes: words in the query, the same on every route.

They are wishes and rank what fits; none is a condition, and none is passed on to an engine. In the query they
stand in nobody's way: bodies have fields of these names that mean other things to engines.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar
from urllib.parse import parse_qs

from roundhouse_api.enums import CostTier, SpeedTier
from roundhouse_api.selection import TASKS, Needs, Task, Tier
from roundhouse_gateway.errors import InvalidRequestError

TIERS: Final[dict[str, Tier]] = {tier.lower(): tier for tier in (*SpeedTier, *CostTier)}
MAX_CLASSES: Final = 16
MAX_CLASS: Final = 63
_MOST_FIELDS: Final = 100
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Hints:
    """`tier` goes before the tier that the task stands for; classes are those of both."""

    tier: Tier | None = None
    task: Task | None = None
    classes: frozenset[str] = frozenset()

    def over(self, needs: Needs) -> Needs:
        """The needs with these wishes; a tier that they have already stays."""
        if self is NO_HINTS:
            return needs
        tier = needs.tier or self.tier or (self.task.cost_tier if self.task else None)
        classes = needs.classes | self.classes | (self.task.classes if self.task else frozenset())
        return replace(needs, tier=tier, classes=classes)


NO_HINTS: Final = Hints()


def read_hints(query: bytes) -> Hints:
    """Raises `InvalidRequestError`. What else stands in the query is not looked at."""
    if not query:
        return NO_HINTS
    try:
        found = parse_qs(query.decode("latin-1"), max_num_fields=_MOST_FIELDS)
    except ValueError as error:
        raise InvalidRequestError(f"The query has more than {_MOST_FIELDS} fields.") from error
    tier, task = _word(found, "tier", TIERS), _word(found, "task", TASKS)
    classes = frozenset(found.get("class", ()))
    if len(classes) > MAX_CLASSES or any(len(each) > MAX_CLASS for each in classes):
        raise InvalidRequestError(
            f"There may be {MAX_CLASSES} of `class`, of {MAX_CLASS} characters each.", param="class"
        )
    return Hints(tier, task, classes) if tier or task or classes else NO_HINTS


def _word(found: Mapping[str, list[str]], name: str, known: Mapping[str, V]) -> V | None:
    given = found.get(name)
    if given is None:
        return None
    if len(given) > 1:
        raise InvalidRequestError(f"`{name}` is given {len(given)} times; once is enough.", param=name)
    try:
        return known[given[0].lower()]
    except KeyError:
        raise InvalidRequestError(
            f"{name} {given[0]!r} is unknown. Use one of {', '.join(known)}.", param=name
        ) from None


def _parameter(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": description}


PARAMETERS: Final = [
    _parameter("task", {"type": "string", "enum": list(TASKS)}, "What it is for: a tier and classes."),
    _parameter("tier", {"type": "string", "enum": list(TIERS)}, "`auto` prefers models of this tier."),
    _parameter(
        "class",
        {"type": "array", "items": {"type": "string", "maxLength": MAX_CLASS}, "maxItems": MAX_CLASSES},
        "`auto` prefers models of this class; may be repeated.",
    ),
]
"""For `/openapi.json`."""

"""Models in the order in which `auto` takes them, kept so that asking is cheap and a change costs little.

Models of the same capabilities lie together, in the order of their merit: a request is held against each
such group once, not against each model. A catalogue of ten thousand has some dozens of groups. Where every
model had capabilities of its own, asking would cost as much as looking at each of them.
"""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from heapq import heapify, heappop, heapreplace
from types import MappingProxyType
from typing import Final, NamedTuple

from roundhouse_api.enums import (
    CostTier,
    Feature,
    Interface,
    SpeedTier,
    Stage,
    Streaming,
    WordTimestamps,
)
from roundhouse_api.selection.fit import Manner, by_priority, by_speed, manner, mismatch
from roundhouse_api.selection.model import Model
from roundhouse_api.selection.needs import Needs

_FEW: Final = 64
"""Up to so many are put in their places one by one; more are sorted in."""

_Standing = tuple[float, float, str, Model]
"""Merit and model. Ids are unique, so that models themselves are never compared."""


class _Profile(NamedTuple):
    """All of a model that `mismatch` and `manner` look at."""

    stage: Stage | None
    interfaces: frozenset[Interface]
    languages: frozenset[str] | None
    streaming: Streaming
    word_timestamps: WordTimestamps
    speed_tier: SpeedTier | None
    cost_tiers: frozenset[CostTier]
    classes: frozenset[str]
    features: frozenset[Feature]


class _Group:
    """Models of one profile, best first, by either order; never changed."""

    __slots__ = ("by_priority", "by_speed")

    def __init__(self, prioritised: list[_Standing], fastest: list[_Standing]) -> None:
        self.by_priority = prioritised
        self.by_speed = fastest

    @property
    def example(self) -> Model:
        return self.by_priority[0][3]

    def changed(self, gone: list[Model], come: list[Model]) -> "_Group":
        return _Group(
            _moved(
                self.by_priority,
                [(*by_priority(model), model) for model in gone],
                [(*by_priority(model), model) for model in come],
            ),
            _moved(
                self.by_speed,
                [(*by_speed(model), model) for model in gone],
                [(*by_speed(model), model) for model in come],
            ),
        )


class Ranking:
    """An immutable set of models with unique ids."""

    __slots__ = ("_groups",)

    def __init__(self, groups: Mapping[_Profile, _Group] = MappingProxyType({})) -> None:
        self._groups = groups

    @classmethod
    def of(cls, models: Iterable[Model]) -> "Ranking":
        return cls().changed((), models)

    def __bool__(self) -> bool:
        return bool(self._groups)

    def changed(self, gone: Iterable[Model], come: Iterable[Model]) -> "Ranking":
        """Another with some less and some more. `gone` must be as they are here."""
        moves: defaultdict[_Profile, tuple[list[Model], list[Model]]] = defaultdict(lambda: ([], []))
        for which, models in enumerate((gone, come)):
            for model in models:
                moves[_profile(model)][which].append(model)
        groups = dict(self._groups)
        for profile, (less, more) in moves.items():
            group = groups.get(profile, _Group([], [])).changed(less, more)
            if group.by_priority:
                groups[profile] = group
            else:
                groups.pop(profile, None)
        return Ranking(groups)

    def fitting(self, needs: Needs) -> Iterator[Model]:
        """Those that fit, the best first; whoever takes only a few pays for no more."""
        fastest = needs.tier is SpeedTier.FAST
        heads: list[tuple[Manner, _Standing, Iterator[_Standing]]] = []
        for group in self._fitting_groups(needs):
            rest = iter(group.by_speed if fastest else group.by_priority)
            heads.append((manner(group.example, needs), next(rest), rest))
        heapify(heads)
        while heads:
            how, (*_, model), rest = heads[0]
            yield model
            following = next(rest, None)
            if following is None:
                heappop(heads)
            else:
                heapreplace(heads, (how, following, rest))

    def possible(self, needs: Needs) -> Iterator[Model]:
        """Those that fit or are of no known stage, of which nobody knows what they do; in no order."""
        for profile, group in self._groups.items():
            if profile.stage is None or mismatch(group.example, needs) is None:
                yield from (model for *_, model in group.by_priority)

    def _fitting_groups(self, needs: Needs) -> Iterator[_Group]:
        return (group for group in self._groups.values() if mismatch(group.example, needs) is None)


def _profile(model: Model) -> _Profile:
    return _Profile(
        model.stage,
        model.interfaces,
        model.languages,
        model.streaming,
        model.word_timestamps,
        model.speed_tier,
        model.cost_tiers,
        model.classes,
        model.features,
    )


def _moved(standings: list[_Standing], gone: list[_Standing], come: list[_Standing]) -> list[_Standing]:
    moved = standings.copy()
    if len(gone) > _FEW:
        ids = {standing[2] for standing in gone}
        moved = [standing for standing in moved if standing[2] not in ids]
    else:
        for standing in gone:
            # Up to the id: of a model that is the same but for its status there is only one place.
            del moved[bisect_left(moved, standing[:3], key=lambda each: each[:3])]
    if len(come) > _FEW:
        return sorted([*moved, *come], key=lambda each: each[:3])
    for standing in come:
        insort(moved, standing, key=lambda each: each[:3])
    return moved

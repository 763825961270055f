"""Which pods go first when there are to be fewer."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse_operator.core.observed import Pod
from roundhouse_operator.core.rollout.parting import deletion_costs, who_may_go
from tests.unit.operator.samples import engine, variant
from tests.unit.operator.worlds import Scene


def scene(before: int, after: int, *, ready: bool = True) -> tuple[str, ...]:
    played = Scene(engine(), variant(replicas=before))
    played.settle("kws-en", replicas=before, updatedReplicas=before, readyReplicas=before)
    played.put({**variant(replicas=after), "metadata": {"name": "kws-en", "generation": 2}})
    world = played.world("kws-en")
    pods = tuple(
        Pod(f"p{number}", "", "a", ready=ready, address=f"10.0.0.{number}:8000") for number in range(before)
    )
    world = replace(world, pods=pods)
    return tuple(pod.name for pod in who_may_go(world, played.decide("kws-en").plan))


@pytest.mark.parametrize(
    ("before", "after", "asked"), [(3, 2, 3), (3, 1, 3), (3, 3, 0), (2, 3, 0), (3, 0, 0), (1, 1, 0)]
)
def test_pods_are_asked_where_some_go_and_some_stay(before: int, after: int, asked: int) -> None:
    assert len(scene(before, after)) == asked


def test_pods_that_are_not_ready_have_nothing_in_hand() -> None:
    assert scene(3, 2, ready=False) == ()


@given(st.dictionaries(st.text("ab", min_size=1, max_size=2), st.none() | st.integers(0, 9), max_size=4))
def test_who_has_less_in_hand_costs_less(in_use: dict[str, int | None]) -> None:
    pods = tuple(Pod(name, "", "a") for name in in_use)
    costs = deletion_costs(pods, in_use)
    if costs:
        known = {name: count for name, count in in_use.items() if count is not None}
        assert all(costs[name] == count for name, count in known.items())
        assert all(costs[name] > 0 for name in in_use.keys() - known)
    else:
        assert len({1 if count is None else count for count in in_use.values()}) <= 1

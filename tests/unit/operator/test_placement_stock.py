"""What nodes offer is kept up by difference: a change costs what changed, and comes to the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roundhouse_operator.core.placement import Fleet, Need, Node, fleet, supply
from roundhouse_operator.core.placement.devices import ClaimableDevice, DeviceClass, DeviceSlice
from roundhouse_operator.project_fleet import project_node
from tests.unit.operator.kinds_of_nodes import ALL, PLAIN
from tests.unit.operator.test_placement_claims import DRIVER, scene
from tests.unit.operator.worlds import sent

KINDS = [project_node(sent(one)) for one in ALL]
MIXED = replace(
    project_node(sent(PLAIN)),
    devices={"nvidia.com/gpu": 2},
    capacity={"nvidia.com/gpu": 2},
    labels={"nvidia.com/gpu.count": "1"},
)
"""A node whose labels tell of one of its cards only."""
CARD = ClaimableDevice(DRIVER, {}, {f"{DRIVER}/memory": 24 * 2**30})


def named(kind: Node, name: str) -> Node:
    return replace(kind, name=name, labels={**kind.labels, "kubernetes.io/hostname": name})


def claim() -> Need:
    intent = scene().decide("kws-en").intent
    assert intent
    return intent.need


def card_of(node: str, generation: int = 1) -> DeviceSlice:
    return DeviceSlice((DRIVER, node), generation, node, (CARD,))


class Calls:
    """How often a function of a module is asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> None:
        self.count = 0
        called: Callable[..., Any] = getattr(module, name)

        def counted(*given: Any) -> Any:
            self.count += 1
            return called(*given)

        monkeypatch.setattr(module, name, counted)

    def taken(self) -> int:
        count, self.count = self.count, 0
        return count


@pytest.mark.parametrize("nodes", [100, 1000])
def test_a_node_that_comes_is_all_that_is_looked_at(nodes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = Calls(monkeypatch, supply, "has_mixed_cards")
    there = Fleet()
    for number in range(nodes):
        there.put_node(f"n{number:04}", named(MIXED, f"n{number:04}"))
    assert looked.taken() == nodes
    assert there.supply.mixed == tuple(f"n{number:04}" for number in range(32))
    there.put_node("n0000", None)
    assert looked.taken() == 1
    assert there.supply.mixed == tuple(f"n{number:04}" for number in range(1, 33))


@pytest.mark.parametrize("nodes", [100, 1000])
def test_a_slice_is_judged_for_the_node_that_has_it(nodes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    there, need = Fleet(), claim()
    for number in range(nodes):
        there.put_node(f"n{number}", named(KINDS[0], f"n{number}"))
        assert there.put_slice(f"s{number}", card_of(f"n{number}")) is False, "nothing claims any"
    there.put_class(DRIVER, DeviceClass(()))
    assert there.survey(need).fitting == nodes
    judged = Calls(monkeypatch, fleet, "judge")
    assert there.put_slice("s7", card_of("n7", generation=2)) is False, "the same devices once more"
    assert judged.taken() == 1
    assert there.put_slice("s7", None) is True
    assert judged.taken() == 1
    assert there.survey(need).fitting == nodes - 1
    assert there.put_slice("everywhere", card_of("")) is True
    assert judged.taken() == nodes
    assert there.survey(need).fitting == nodes


def test_a_class_that_nobody_claims_from_is_no_news() -> None:
    there, need = Fleet(), claim()
    there.put_node("n1", named(KINDS[0], "n1"))
    there.put_slice("s1", card_of("n1"))
    assert there.survey(need).fitting == 0
    assert there.put_class("another.example.com", DeviceClass(())) is False
    assert there.put_class(DRIVER, DeviceClass(())) is True
    assert there.survey(need).fitting == 1


NODES = st.lists(st.tuples(st.integers(0, 40), st.sampled_from([*KINDS, MIXED]) | st.none()), max_size=60)
PART = st.builds(
    DeviceSlice,
    pool=st.sampled_from([(DRIVER, "a"), (DRIVER, "b")]),
    generation=st.integers(1, 3),
    node=st.sampled_from(["", "n0", "n1"]),
    devices=st.sampled_from([(), (CARD,)]),
)
SLICES = st.lists(st.tuples(st.integers(0, 5), PART | st.none()), max_size=12)


@settings(max_examples=200, deadline=None)
@given(changes=NODES)
def test_the_supply_is_what_it_were_if_it_was_taken_anew(changes: list[tuple[int, Node | None]]) -> None:
    kept, there = Fleet(), dict[str, Node]()
    for number, kind in changes:
        name, before = f"n{number:02}", kept.supply
        changed = kept.put_node(name, named(kind, name) if kind else None)
        there.pop(name, None)
        if kind:
            there[name] = named(kind, name)
        assert changed == (before != kept.supply)
    fresh = Fleet()
    for name, node in there.items():
        fresh.put_node(name, node)
    assert kept.supply == fresh.supply


@settings(max_examples=200, deadline=None)
@given(changes=SLICES)
def test_devices_are_those_that_were_found_anew(changes: list[tuple[int, DeviceSlice | None]]) -> None:
    need = claim()

    def empty() -> Fleet:
        made = Fleet()
        made.put_class(DRIVER, DeviceClass(()))
        for name in ("n0", "n1", "n2"):
            made.put_node(name, named(KINDS[0], name))
        return made

    kept, there = empty(), dict[str, DeviceSlice]()
    for number, part in changes:
        before = dict(kept.verdicts(need))
        changed = kept.put_slice(f"s{number}", part)
        there.pop(f"s{number}", None)
        if part:
            there[f"s{number}"] = part
        assert changed == (before != kept.verdicts(need))
    fresh = empty()
    for name, one in there.items():
        fresh.put_slice(name, one)
    assert kept.survey(need) == fresh.survey(need)

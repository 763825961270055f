"""Packing of variants into pods: what holds for any of them, and examples that a person can check."""

import itertools
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse_operator.core.packing import Bin, Item, Packing, pack

GPU = 24_000
NAMES = [f"v{number}" for number in range(10)]
MOST = st.one_of(st.none(), st.integers(1, 4))


@st.composite
def items(draw: st.DrawFn) -> list[Item]:
    names = draw(st.lists(st.sampled_from(NAMES), unique=True))
    memory = st.one_of(st.none(), st.integers(1, GPU))
    return [
        Item(name, draw(st.sampled_from((name, "twin"))), draw(memory), draw(st.integers(0, 3)))
        for name in names
    ]


@st.composite
def bins(draw: st.DrawFn) -> list[Bin]:
    held = st.frozensets(st.sampled_from(NAMES), max_size=5)
    memory = st.sampled_from((GPU, GPU // 2))
    return [Bin(index, draw(memory), draw(held)) for index in draw(st.lists(st.integers(0, 6), unique=True))]


def as_bins(packing: Packing) -> list[Bin]:
    return [Bin(index, packing.mib[index], held) for index, held in packing.bins.items()]


def places(held: Iterable[tuple[int, frozenset[str]]]) -> set[tuple[int, str]]:
    return {(index, name) for index, names in held for name in names}


@given(items(), bins(), MOST)
def test_no_pod_holds_more_than_it_can(items: list[Item], bins: list[Bin], most: int | None) -> None:
    known = {item.name: item for item in items}
    for index, names in pack(items, bins, new_mib=GPU, most=most).bins.items():
        held = [known[name] for name in names]
        room = next((one.mib for one in bins if one.index == index), GPU)
        assert len({one.model for one in held}) == len(held)
        assert most is None or len(held) <= most
        assert sum(one.mib or 0 for one in held) <= (room or 0)
        assert len(held) == 1 or all(one.mib is not None for one in held)


@given(items(), bins(), MOST)
def test_every_copy_has_a_place_or_is_told_to_have_none(
    items: list[Item], bins: list[Bin], most: int | None
) -> None:
    """All of these fit into a new pod, so all have a place."""
    packing = pack(items, bins, new_mib=GPU, most=most)
    assert packing.unplaced == {}
    for item in items:
        assert sum(item.name in names for names in packing.bins.values()) == item.copies
    assert {name for names in packing.bins.values() for name in names} <= {item.name for item in items}


@given(st.data(), items(), bins(), MOST)
def test_the_order_of_things_makes_no_difference(
    data: st.DataObject, items: list[Item], bins: list[Bin], most: int | None
) -> None:
    shuffled = pack(
        data.draw(st.permutations(items)), data.draw(st.permutations(bins)), new_mib=GPU, most=most
    )
    assert shuffled == pack(items, bins, new_mib=GPU, most=most)


@given(items(), bins(), MOST)
def test_what_is_packed_stays_where_it_is(items: list[Item], bins: list[Bin], most: int | None) -> None:
    once = pack(items, bins, new_mib=GPU, most=most)
    assert pack(items, as_bins(once), new_mib=GPU, most=most) == once


@given(items(), MOST, st.integers(1, GPU))
def test_a_new_variant_moves_no_other(items: list[Item], most: int | None, mib: int) -> None:
    """Unless its coming lets a pod be emptied, which it never does: room only gets less."""
    before = pack(items, [], new_mib=GPU, most=most)
    after = pack([*items, Item("new", "new", mib)], as_bins(before), new_mib=GPU, most=most)
    assert places(before.bins.items()) <= places(after.bins.items())


@given(items(), MOST, st.data())
def test_a_variant_that_leaves_moves_others_only_to_free_a_pod(
    items: list[Item], most: int | None, data: st.DataObject
) -> None:
    before = pack(items, [], new_mib=GPU, most=most)
    leaving = data.draw(st.sampled_from(NAMES))
    rest = [item for item in items if item.name != leaving]
    after = pack(rest, as_bins(before), new_mib=GPU, most=most)
    moved = places(after.bins.items()) - places(before.bins.items())
    still = {index for index, names in before.bins.items() if names - {leaving}}
    if moved:
        assert len(after.bins) < len(still)
    for index in after.bins:
        assert index in before.bins, "nothing goes into a new pod"


@given(items(), bins(), MOST)
def test_no_two_pods_are_kept_where_one_would_do(
    items: list[Item], bins: list[Bin], most: int | None
) -> None:
    known = {item.name: item for item in items}
    packing = pack(items, bins, new_mib=GPU, most=most)
    for index, other in itertools.permutations(packing.bins, 2):
        both = [known[name] for each in (index, other) for name in packing.bins[each]]
        assert (
            len({one.model for one in both}) < len(both)
            or (most is not None and len(both) > most)
            or any(one.mib is None for one in both)
            or sum(one.mib or 0 for one in both) > (packing.mib[index] or 0)
        )


EXAMPLES = [
    pytest.param({"a": 10, "b": 10, "c": 4}, {}, [{"a", "b", "c"}], id="all in one"),
    pytest.param({"a": 20, "b": 20, "c": 4, "d": 4}, {}, [{"a", "c"}, {"b", "d"}], id="largest first"),
    pytest.param({"a": 10, "b": 10}, {3: {"b"}, 5: {"a"}}, [{"a", "b"}], id="two half-empty pods become one"),
    pytest.param(
        {"a": 14, "b": 14}, {0: {"a"}, 1: {"b"}}, [{"a"}, {"b"}], id="what does not fit stays apart"
    ),
    pytest.param({"a": 4, "b": 22}, {0: {"a", "b"}}, [{"b"}, {"a"}], id="a need that grew moves the least"),
]


@pytest.mark.parametrize(("needs", "there", "wanted"), EXAMPLES)
def test_examples(needs: dict[str, int], there: dict[int, set[str]], wanted: list[set[str]]) -> None:
    held = [Bin(index, GPU, frozenset(names)) for index, names in there.items()]
    packed = pack([Item(name, name, mib * 1000) for name, mib in needs.items()], held, new_mib=GPU)
    assert [set(packed.bins[index]) for index in sorted(packed.bins)] == wanted


def test_a_variant_that_is_larger_than_any_gpu_has_no_place() -> None:
    packing = pack([Item("big", "big", GPU + 1), Item("a", "a", 1)], [], new_mib=GPU)
    assert packing.unplaced == {"big": 1}
    assert packing.bins == {0: frozenset({"a"})}


def test_where_memory_does_not_count_only_the_number_does() -> None:
    packing = pack([Item(name, name, None) for name in "abcde"], [], new_mib=None, most=3)
    assert sorted(map(len, packing.bins.values())) == [2, 3]


def test_an_index_that_somebody_has_is_left_out() -> None:
    assert list(pack([Item("a", "a", 1)], [], new_mib=GPU, taken={0, 1}.__contains__).bins) == [2]

"""Whose turn it is among those who wait, and when the others are told to come again."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse_gateway.errors import RETRY_AFTER_SECONDS
from roundhouse_gateway.line import Line, who_makes_room
from roundhouse_gateway.pace import LONGEST_SECONDS, Pace, Paces, retry_after


@dataclass(eq=False)
class One:
    name: str
    called: bool = False

    @property
    def key(self) -> str:
        return self.name[0]


def line_of(*names: str) -> Line[One]:
    line: Line[One] = Line()
    for name in names:
        line.join(One(name))
    return line


def served(line: Line[One], count: int) -> list[str]:
    """Called one by one, each the first of those that are left then."""
    names = []
    for _ in range(count):
        one = next(iter(line.in_order()))
        one.called = True
        line.had_its_turn(one.key)
        line.leave(one)
        names.append(one.name)
    return names


def test_keys_take_turns_and_within_a_key_the_first_is_first() -> None:
    line = line_of("a1", "a2", "a3", "a4", "b1", "b2", "c1")
    assert served(line, 7) == ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]
    assert not line


def test_who_comes_late_waits_for_one_of_each_other_key_and_no_more() -> None:
    line = line_of("a1", "a2", "a3", "b1", "b2")
    assert served(line, 2) == ["a1", "b1"]
    line.join(One("z1"))
    assert served(line, 3) == ["a2", "b2", "z1"]


def test_the_order_is_the_same_whether_one_is_called_or_several() -> None:
    names = ["a1", "a2", "b1", "a3", "c1", "b2"]
    at_once = [one.name for one in line_of(*names).in_order()]
    assert at_once == served(line_of(*names), len(names))


def test_who_was_sent_back_goes_before_all() -> None:
    line = line_of("a1", "b1")
    line.rejoin(One("c9"))
    assert served(line, 3) == ["c9", "a1", "b1"]


def test_who_is_called_is_not_counted() -> None:
    line = line_of("a1", "a2")
    next(iter(line.in_order())).called = True
    assert (len(line), bool(line)) == (1, True)
    assert [one.name for one in line.in_order()] == ["a2"]


@pytest.mark.parametrize(
    ("there", "key", "leaves"),
    [
        (("a1", "a2", "a3", "b1"), "c", "a3"),
        (("a1", "a2", "a3", "b1"), "b", "a3"),
        (("a1", "a2", "b1"), "b", None),
        (("a1", "a2", "b1"), "c", "a2"),
        (("a1", "b1"), "c", None),
        (("a1", "a2", "a3"), "a", None),
        ((), "a", None),
    ],
)
def test_the_last_of_the_key_with_most_makes_room(
    there: tuple[str, ...], key: str, leaves: str | None
) -> None:
    line = line_of(*there)
    found = who_makes_room([line], key, len(line.of_key(key)))
    assert (found and found.name) == leaves


@given(st.lists(st.sampled_from("abc"), max_size=30))
def test_nobody_is_forgotten_and_no_key_falls_behind(keys: list[str]) -> None:
    line = line_of(*(f"{key}{number}" for number, key in enumerate(keys)))
    order = served(line, len(keys))
    assert sorted(order) == sorted(f"{key}{number}" for number, key in enumerate(keys))
    for place in range(len(order)):
        left = {name[0] for name in order[place:]}
        counts = {key: sum(name[0] == key for name in order[:place]) for key in left}
        assert max(counts.values(), default=0) - min(counts.values(), default=0) <= 1


def test_turns_tell_how_long_a_line_takes() -> None:
    pace = Pace()
    assert pace.seconds_until_served(0.0, 3) is None
    for now in (10.0, 12.0, 14.0):
        pace.turn(now, others_wait=True)
    assert pace.seconds_until_served(14.0, 4) == pytest.approx(10.0)
    pace.turn(16.0, others_wait=False)
    pace.turn(400.0, others_wait=True)
    assert pace.seconds_until_served(400.0, 4) == pytest.approx(10.0), "an empty line tells nothing"


def test_a_start_tells_how_long_the_next_takes() -> None:
    pace = Pace()
    pace.asleep(100.0)
    pace.asleep(110.0)
    assert pace.seconds_until_served(120.0, 0) is None, "the first start of all"
    pace.awake(140.0)
    pace.asleep(1000.0)
    assert pace.seconds_until_served(1010.0, 5) == pytest.approx(30.0)
    assert pace.seconds_until_served(1100.0, 5) == pytest.approx(1.0)
    pace.nobody_waits()
    pace.asleep(2000.0)
    assert pace.seconds_until_served(2000.0, 0) == pytest.approx(40.0)


@pytest.mark.parametrize(
    ("estimates", "expected"),
    [
        ((None, None), RETRY_AFTER_SECONDS),
        ((None, 17), 17),
        ((3.2, None), 4),
        ((3.2, 17), 17),
        ((0.0,), 1),
        ((99_999.0,), LONGEST_SECONDS),
    ],
)
def test_when_to_ask_again(estimates: tuple[float | None, ...], expected: int) -> None:
    assert retry_after(*estimates) == expected


def test_paces_are_bounded() -> None:
    paces = Paces(most=2)
    first = paces.of(("ns", "a"))
    assert paces.of(("ns", "a")) is first
    paces.of(("ns", "b"))
    paces.of(("ns", "c"))
    assert paces.of(("ns", "a")) is not first

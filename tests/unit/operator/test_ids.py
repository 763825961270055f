"""Who gets a public name."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse_operator.core.ids import award
from roundhouse_operator.core.kinds import VARIANT, Key
from roundhouse_operator.core.observed import Claim


def claim(name: str, *names: str, created: str = "2026-01-01", published: tuple[str, ...] = ()) -> Claim:
    return Claim(Key(VARIANT, "n", name), created, names, published)


@dataclass(frozen=True)
class Case:
    id: str
    reason: str
    claims: tuple[Claim, ...]
    owner: str


CASES = (
    Case("alone", "nobody else wants it", (claim("a", "x"),), "a"),
    Case(
        "incumbent",
        "who has it keeps it",
        (claim("a", "x"), claim("b", "x", created="2026-02", published=("x",))),
        "b",
    ),
    Case("oldest", "nobody has it: the oldest", (claim("a", "x", created="2026-02"), claim("b", "x")), "b"),
    Case("by-name", "of the same age: by name", (claim("b", "x"), claim("a", "x")), "a"),
    Case(
        "gave-up",
        "who published it and no longer wants it is no rival",
        (claim("a", "x", created="2026-02"), claim("b", "y", published=("x",))),
        "a",
    ),
)


def owners(claims: tuple[Claim, ...]) -> dict[str, list[str]]:
    """Winners by name, each variant deciding for itself as it does in a pass."""
    found: dict[str, list[str]] = {}
    for one in claims:
        rivals = {name: [other for other in claims if name in other.names] for name in one.names}
        for name in award(one, rivals).won:
            found.setdefault(name, []).append(one.key.name)
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_owner(case: Case) -> None:
    assert owners(case.claims)["x"] == [case.owner], case.reason


def test_a_loser_learns_who_won() -> None:
    late, early = claim("late", "x", "y", created="2026-02"), claim("early", "x")
    assert award(late, {"x": [early, late], "y": [late]}).lost == {"x": early.key}


names = st.lists(st.sampled_from("vwxyz"), min_size=1, max_size=4, unique=True).map(tuple)
claims = st.lists(
    st.builds(
        lambda name, wanted, created, published: claim(name, *wanted, created=created, published=published),
        st.sampled_from("abcdef"),
        names,
        st.sampled_from(["2026-01", "2026-02"]),
        names,
    ),
    unique_by=lambda one: one.key,
    max_size=6,
).map(tuple)


@given(claims)
def test_every_wanted_name_has_exactly_one_owner(given_claims: tuple[Claim, ...]) -> None:
    found = owners(given_claims)
    assert set(found) == {name for one in given_claims for name in one.names}
    assert all(len(winners) == 1 for winners in found.values())
    assert found == owners(tuple(reversed(given_claims)))

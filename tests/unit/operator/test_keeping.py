"""What is kept of objects, and for how long: packing, sets by key, the token of a pod."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse_operator.configuration import TOKEN_SECONDS, Token
from roundhouse_operator.groups import Groups
from roundhouse_operator.packing import Packer
from tests.unit.operator.worlds import applied

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(st.lists(_JSON, min_size=1, max_size=5))
def test_what_is_packed_comes_out_as_it_went_in(values: list[object]) -> None:
    packer = Packer()
    packed = [packer.pack(value) for value in values]
    assert [packer.unpack(one) for one in packed] == values
    assert [packer.pack(value) for value in values] == packed, "the same object gives the same bytes"


def test_objects_of_one_form_take_little() -> None:
    packer, sizes = Packer(), []
    for number in range(100):
        variables = [{"name": f"V{one}", "value": f"{one}"} for one in range(20)]
        spec = {"replicas": 1, "template": {"containers": [{"name": "engine", "env": variables}]}}
        deployment = {"metadata": {"name": f"variant-{number}"}, "spec": spec}
        sizes.append(len(packer.pack(applied(deployment))))
    assert max(sizes[1:]) < 200


def test_groups_hold_nothing_that_is_empty() -> None:
    groups: Groups[str, int] = Groups()
    groups.add("a", 1)
    groups.add("a", 2)
    groups.discard("a", 1)
    assert groups["a"] == {2}
    groups.discard("a", 2)
    groups.discard("b", 1)
    assert groups["a"] == set()
    assert len(groups) == 0


def test_a_token_is_read_anew_and_an_unreadable_one_does_not_end_what_works(tmp_path: Path) -> None:
    path, now = tmp_path / "token", 0.0
    token = Token(path, clock=lambda: now)
    with pytest.raises(FileNotFoundError):
        token.read()
    path.write_text("first\n")
    assert token.read() == "first"
    path.write_text("second")
    now += TOKEN_SECONDS - 1
    assert token.read() == "first"
    now += 2
    assert token.read() == "second"
    path.unlink()
    now += TOKEN_SECONDS + 1
    assert token.read() == "second"

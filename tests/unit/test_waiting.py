"""A wait that comes to nothing ends before its test is ended: then it can still say what was seen last."""

from __future__ import annotations

import pytest

from tests.support.waiting import deadline_seconds


@pytest.mark.parametrize(("asked", "given"), [(1, 3), (60, 180), (300, 420), (360, 480)])
def test_a_long_wait_is_given_less_beyond_it(asked: float, given: float, pytestconfig: pytest.Config) -> None:
    assert deadline_seconds(asked) == given < float(pytestconfig.getini("timeout"))

"""Causes of errors that stand in a circle are looked at once."""

import pytest

from roundhouse_engine.errors import device_is_lost


@pytest.mark.timeout(60)
def test_an_error_that_is_its_own_cause_is_looked_at_once() -> None:
    own, other = RuntimeError("no"), RuntimeError("neither")
    own.__cause__ = own
    assert not device_is_lost(own)
    own.__cause__, other.__cause__ = other, own
    assert not device_is_lost(own)
    other.args = ("CUDA error: an illegal memory access was encountered",)
    assert device_is_lost(own)

"""What pods say of the memory that a model takes."""

from __future__ import annotations

from roundhouse_operator.core.reports import EngineReport, ModelReport, peak_bytes


def report(**vram: int | None) -> EngineReport:
    return EngineReport(0, {name: ModelReport("ready", size) for name, size in vram.items()})


def test_the_peak_is_that_of_the_pod_which_used_most() -> None:
    assert peak_bytes({"a": report(base=3), "b": report(base=5, large=9)}, "base") == 5


def test_silence_is_no_zero() -> None:
    assert peak_bytes({"a": report(base=None)}, "base") is None
    assert peak_bytes({}, "base") is None
    assert peak_bytes({"a": report(base=0)}, "base") == 0

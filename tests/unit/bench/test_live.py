"""What a library is given of speech while it is spoken, where it has no detector of its own."""

from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.bench.engines.libraries import nemo
from tests.bench.engines.speech import LEAD_SECONDS, PIECE_SECONDS, RATE

SILENCE = bytes(2 * RATE)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time passes where it is slept through."""
    now = [100.0]
    told = SimpleNamespace(monotonic=lambda: now[0], sleep=lambda seconds: now.append(now.pop() + seconds))
    monkeypatch.setattr(nemo, "time", told)


def test_it_gets_the_speech_so_far_and_a_little_before_it_as_fast_as_it_is_spoken() -> None:
    heard: list[float] = []

    def hear(samples: NDArray[np.float32]) -> bool:
        heard.append(len(samples) / RATE)
        return len(heard) == 3

    assert nemo.first_seconds(SILENCE + b"\x00\x40" * RATE, hear) == pytest.approx(1.3)
    assert heard == pytest.approx([LEAD_SECONDS + count * PIECE_SECONDS for count in (1, 2, 3)])


def test_where_nothing_is_heard_nothing_is_measured() -> None:
    with pytest.raises(AssertionError, match="nothing was heard"):
        nemo.first_seconds(SILENCE, lambda _: True)

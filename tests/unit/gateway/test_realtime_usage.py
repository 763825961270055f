"""How many seconds of audio a session is counted for, whatever its client says of them."""

import pytest

from roundhouse_gateway.realtime.native import _byte_rate
from roundhouse_gateway.realtime.sessions import Wanted


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, 32_000),
        ({"sample_rate": "8000", "encoding": "mulaw"}, 8_000),
        ({"encoding": "pcm_f32le"}, 64_000),
        ({"sample_rate": "fast"}, 32_000),
        ({"sample_rate": "0"}, 32_000),
        ({"sample_rate": "9" * 5000}, 32_000),
        ({"sample_rate": "8000", "encoding": "opus"}, 16_000),
    ],
)
def test_bytes_of_a_second(parameters: dict[str, str], expected: float) -> None:
    assert _byte_rate(Wanted("model", parameters)) == expected

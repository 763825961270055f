"""The guide's engine runs as it is printed, and the guide leaves nothing out."""

import re
from pathlib import Path

import numpy as np
import pytest

from roundhouse_engine import settings as settings_module
from roundhouse_engine.metrics import Metrics
from tests.conformance.engine.running import ROOT, running
from tests.support.recordings import wav

GUIDE = (ROOT / "docs/guides/writing-an-engine.md").read_text()
TONES = {"1": (697, 1209), "5": (770, 1336), "9": (852, 1477), "#": (941, 1477), "A": (697, 1633)}


def printed_engine() -> str:
    match = re.search(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    assert match is not None
    return match[1]


def dialled(keys: str) -> bytes:
    """Keys pressed for 0.3 s each, 0.1 s apart, as a WAV file of 44.1 kHz."""
    rate = 44_100
    at = np.arange(round(rate * 0.3)) / rate
    pause = bytes(2 * round(rate * 0.1))
    presses = [
        sum((np.sin(2 * np.pi * hertz * at) * 8000 for hertz in TONES[key]), np.zeros_like(at))
        .astype("<i2")
        .tobytes()
        + pause
        for key in keys
    ]
    return wav(pause * 5 + b"".join(presses) + pause * 5, rate_hertz=rate)


@pytest.mark.req("S1-20", "S2-16")
def test_the_printed_engine_hears_what_was_dialled(tmp_path: Path) -> None:
    script = tmp_path / "keypad.py"
    script.write_text(printed_engine())
    assert len(printed_engine().splitlines()) < 60
    with running([str(script)], tmp_path, MODELS="keys") as engine:
        engine.until_ready()
        found = engine.client.audio.transcriptions.create(
            model="keys",
            file=("dialled.wav", dialled("159#A55")),
            response_format="verbose_json",
            timestamp_granularities=["word"],
        )
        assert found.text == "1 5 9 # A 5 5"
        assert found.words is not None
        assert [word.start for word in found.words] == pytest.approx(
            [0.5 + 0.4 * n for n in range(7)], abs=0.05
        )
        engine.terminate()
        assert engine.ended() == 0


def test_every_setting_stands_in_the_guide() -> None:
    source = Path(settings_module.__file__).read_text()
    variables = set(re.findall(r'"((?:ROUNDHOUSE_[A-Z_]+)|MODELS)"', source))
    assert len(variables) > 10
    assert sorted(name for name in variables if f"`{name}`" not in GUIDE) == []


def test_every_metric_stands_in_the_guide() -> None:
    families = [family.name for family in Metrics().registry.collect()]
    names = [name.removeprefix("roundhouse_engine_") for name in families if name.startswith("roundhouse_")]
    assert len(names) > 10
    assert [name for name in names if not re.search(rf"`{name}(_total)?(\{{[a-z,]+\}})?`", GUIDE)] == []

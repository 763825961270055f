"""The guide's engine runs as it is printed, and the guide leaves nothing out."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from roundhouse_api.v1alpha1 import Engine, ModelVariant
from roundhouse_engine import Chat, Isolation, Speech
from roundhouse_engine import settings as settings_module
from roundhouse_engine.authoring import HandlerError, check_handler
from roundhouse_engine.metrics import Metrics
from roundhouse_engine.settings import SettingsError, read_settings
from tests.conformance.engine.running import ROOT, running
from tests.support.recordings import wav

GUIDE = (ROOT / "docs/guides/writing-an-engine.md").read_text()
TONES = {"1": (697, 1209), "5": (770, 1336), "9": (852, 1477), "#": (941, 1477), "A": (697, 1633)}


def printed(kind: str, *, number: int = 0) -> str:
    """One of the guide's blocks of that kind."""
    found: list[str] = re.findall(rf"```{kind}\n(.*?)```", GUIDE, re.DOTALL)
    return found[number]


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


def last_line_of_one_that_serves_wherever_it_is_imported(folder: Path) -> str:
    script = folder / "keypad.py"
    engine = printed("python").replace('if __name__ == "__main__":\n    serve', "serve")
    engine = engine.replace("import Segment", "import Isolation, Segment")
    script.write_text(
        engine.replace("    capacity = 4", "    isolation = Isolation.PROCESS\n    capacity = 4")
    )
    with running([str(script)], folder, MODELS="keys") as process:
        assert process.ended() == 1
        assert "Cannot listen" not in process.logged
        return process.logged.splitlines()[-1].removeprefix("roundhouse engine: ")


def test_what_the_guide_quotes_of_a_wrong_class_is_said(tmp_path: Path) -> None:
    printed_engine: dict[str, Any] = {"__name__": "keypad"}
    exec(printed("python"), printed_engine)  # noqa: S102 - the guide's own code
    good = printed_engine["Keypad"]

    def keypad(*bases: type, **members: Any) -> Any:
        return type("Keypad", bases or (good,), members)

    async def coroutine(*_: Any) -> None: ...

    def generator(_: Any) -> Iterator[None]:
        yield

    def load(self: Any, model: Any) -> None: ...

    wrong = [
        good(),
        keypad(Speech, transcribe=good.transcribe),
        keypad(__init__=lambda _self, _size: None),
        keypad(transcribe=coroutine),
        keypad(load=load),
        keypad(warm_up=generator),
        keypad(good, Chat),
        keypad(languages="en"),
        keypad(languages=frozenset({"english"})),
        keypad(capacity=4, thread_safe=False, isolation=Isolation.THREAD),
    ]
    said = []
    for handler in wrong:
        with pytest.raises((HandlerError, SettingsError)) as told:  # noqa: PT012 - whichever says it
            check_handler(handler)
            read_settings({"MODELS": "m"}, handler)
        said.append(str(told.value))
    said.append(last_line_of_one_that_serves_wherever_it_is_imported(tmp_path))
    table = GUIDE.partition("last line of the output")[2].partition("\n\n")[0]
    quoted = [row.split(" | ")[-1].strip("`| ") for row in table.splitlines()[2:]]
    assert len(quoted) == len(said)
    for quote, line in zip(quoted, said, strict=True):
        assert re.fullmatch(re.escape(quote).replace("…", ".+"), line), (quote, line)


@pytest.mark.req("S1-20", "S2-16")
def test_the_printed_engine_hears_what_was_dialled(tmp_path: Path) -> None:
    script = tmp_path / "keypad.py"
    script.write_text(printed("python"))
    assert len(printed("python").splitlines()) < 60
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
        subprocess.run([sys.executable, "-c", printed("python", number=1)], cwd=tmp_path, check=True)
        answer = engine.post((tmp_path / "dialled.wav").read_bytes(), model="keys")
        assert f"It answers `{answer.body.decode()}`" in GUIDE
        engine.terminate()
        assert engine.ended() == 0


def test_the_printed_manifest_is_one_of_the_printed_engine() -> None:
    engine, variant = yaml.safe_load_all(printed("yaml"))
    Engine.model_validate(engine)
    ModelVariant.model_validate(variant)
    assert variant["spec"]["engineRef"]["name"] == engine["metadata"]["name"]
    assert variant["spec"]["source"]["format"] in engine["spec"]["formats"]
    assert f"capacity = {engine['spec']['concurrency']['maxInFlightPerReplica']} " in printed("python")


def test_the_printed_containerfile_has_all_that_the_printed_engine_imports() -> None:
    """Its steps want a network: here is looked at what they name."""
    steps = printed("dockerfile")
    copied, _ = re.findall(r"^COPY (\S+) /", steps, re.MULTILINE)
    (extra,) = re.findall(r"pip install \S+ '/sdk\[(\w+)\]'", steps)
    sdk = tomllib.loads((ROOT / copied / "pyproject.toml").read_text())["project"]
    installed = " ".join([*sdk["dependencies"], *sdk["optional-dependencies"][extra]])
    imported = set(re.findall(r"^(?:import|from) (\w+)", printed("python"), re.MULTILINE))
    others = imported - sys.stdlib_module_names - {"roundhouse_engine"}
    assert others == {"numpy"}
    assert re.search(r"\bnumpy\b", installed)
    assert (ROOT / copied / "roundhouse_engine" / "server.py").is_file()
    assert "COPY keypad.py /\n" in steps
    assert 'ENTRYPOINT ["python", "/keypad.py"]' in steps
    python = re.search(r"library/python:(\d+\.\d+)", steps)
    assert python is not None
    assert f">={python[1]}" in sdk["requires-python"]


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

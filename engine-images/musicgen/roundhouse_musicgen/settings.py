"""What the environment tells this engine beyond what it tells all that load models of transformers."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from typing_extensions import override

from roundhouse_engine import ModelError

_ADAPTERS: Final = "ROUNDHOUSE_ADAPTERS"
_VARIABLE: Final = "ROUNDHOUSE_MAX_DURATION_SECONDS"
_DEFAULT: Final = 30.0
"""What MusicGen was trained on; beyond it music falls apart."""
_MOST: Final = 600.0
"""Of a cache that grows with each step, and of a sound that is decoded in one piece."""


def longest_seconds(environ: Mapping[str, str]) -> float:
    """Raises `ModelError`."""
    text = environ.get(_VARIABLE, "").strip()
    if not text:
        return _DEFAULT
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 1.0 <= value <= _MOST:
        raise ModelError(f"{_VARIABLE} must be a number of seconds from 1 to {_MOST:g}, not {text!r}.")
    return value


@dataclass(frozen=True, slots=True)
class AdapterSetting:
    """An entry of `ROUNDHOUSE_ADAPTERS`. `strength` multiplies what it was trained to do."""

    name: str
    path: Path
    strength: float = 1.0


@dataclass(frozen=True, slots=True)
class Placed:
    """An adapter on a device (`cpu`, `cuda`), of one of torch's kinds of numbers."""

    setting: AdapterSetting
    device: str
    dtype: str

    @override
    def __str__(self) -> str:
        return f"the adapter {self.setting.name!r}"


def adapters(environ: Mapping[str, str]) -> tuple[AdapterSetting, ...]:
    """Raises `ModelError`."""
    text = environ.get(_ADAPTERS, "").strip()
    try:
        told = json.loads(text) if text else []
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{_ADAPTERS} is no JSON: {error}.") from error
    if not isinstance(told, list):
        raise ModelError(f"{_ADAPTERS} must be a JSON list of adapters, not {text[:80]!r}.")
    found = tuple(_adapter(f"{_ADAPTERS}[{place}]", entry) for place, entry in enumerate(told))
    if len({each.name for each in found}) < len(found):
        raise ModelError(f"{_ADAPTERS}: two adapters have the same name; give each its own.")
    return found


def _adapter(where: str, entry: Any) -> AdapterSetting:  # noqa: ANN401 - any JSON
    if not isinstance(entry, dict):
        raise ModelError(f'{where} must be an object such as {{"name": "a", "path": "/adapters/a"}}.')
    name, path, strength = entry.get("name"), entry.get("path"), entry.get("strength", 1.0)
    if not isinstance(name, str) or not name.strip():
        raise ModelError(f"{where}: `name` must be a text that is not empty, not {name!r}.")
    if not isinstance(path, str) or not Path(path).is_absolute():
        raise ModelError(f"{where} ({name!r}): `path` must be an absolute path, not {path!r}.")
    if isinstance(strength, bool) or not isinstance(strength, int | float) or not 0 <= strength <= 10:
        raise ModelError(f"{where} ({name!r}): `strength` must be a number from 0 to 10, not {strength!r}.")
    return AdapterSetting(name, Path(path), float(strength))

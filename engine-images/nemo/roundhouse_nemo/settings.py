"""What an Engine or a variant may set beside the SDK's variables.

| variable | default |
|---|---|
| `ROUNDHOUSE_DEVICE` | `auto`: a GPU where there is one; or `cpu`, `cuda` |
| `ROUNDHOUSE_DTYPE` | `auto`: `float32` on a CPU, `bfloat16` on a GPU; or one of them, or `float16` |
| `ROUNDHOUSE_LATENCY_MS` | the model's own: what a model made for streaming hears before it says more |
| `OMP_NUM_THREADS` | the cores that the container may use |
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from roundhouse_engine import ModelError
from roundhouse_engine.cores import available_cores

_DEVICES: Final = ("auto", "cpu", "cuda")
_TYPES: Final = ("auto", "float32", "float16", "bfloat16")


@dataclass(frozen=True, slots=True)
class Settings:
    device: str
    dtype: str
    latency_ms: int | None
    threads: int


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Raises `ModelError`."""
    return Settings(
        device=_one_of(environ, "ROUNDHOUSE_DEVICE", _DEVICES),
        dtype=_one_of(environ, "ROUNDHOUSE_DTYPE", _TYPES),
        latency_ms=_integer(environ, "ROUNDHOUSE_LATENCY_MS"),
        threads=_integer(environ, "OMP_NUM_THREADS") or available_cores(),
    )


def _one_of(environ: Mapping[str, str], variable: str, known: tuple[str, ...]) -> str:
    value = environ.get(variable, "").strip().lower() or "auto"
    if value not in known:
        raise ModelError(f"{variable} must be one of {', '.join(known)}, not {value!r}.")
    return value


def _integer(environ: Mapping[str, str], variable: str) -> int | None:
    text = environ.get(variable, "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise ModelError(f"{variable} must be a whole number, 1 or more, not {text!r}.")
    return int(text)

"""What an Engine or a variant may set beside the SDK's variables.

| variable | default |
|---|---|
| `ROUNDHOUSE_DEVICE` | `auto`: a GPU where there is one; or `cpu`, `cuda` |
| `ROUNDHOUSE_DTYPE` | `auto`: `float32` on a CPU, `bfloat16` on a GPU; or one of them, or `float16` |
| `ROUNDHOUSE_LATENCY_MS` | the model's own: what a model made for streaming hears before it says more |
| `ROUNDHOUSE_LANGUAGE` | none: what is spoken where a request says nothing; of all but Canary the only one |
| `ROUNDHOUSE_PUNCTUATION` | `true`: whether Canary writes capitals and punctuation |
| `OMP_NUM_THREADS` | the cores that the container may use |
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from roundhouse_engine import ModelError
from roundhouse_engine.cores import available_cores
from roundhouse_engine.languages import language_code

_DEVICES: Final = ("auto", "cpu", "cuda")
_LANGUAGE: Final = "ROUNDHOUSE_LANGUAGE"
_TYPES: Final = ("auto", "float32", "float16", "bfloat16")


@dataclass(frozen=True, slots=True)
class Settings:
    device: str
    dtype: str
    latency_ms: int | None
    threads: int
    language: str | None = None
    punctuation: bool = True


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Raises `ModelError`."""
    return Settings(
        device=_one_of(environ, "ROUNDHOUSE_DEVICE", _DEVICES),
        dtype=_one_of(environ, "ROUNDHOUSE_DTYPE", _TYPES),
        latency_ms=_integer(environ, "ROUNDHOUSE_LATENCY_MS"),
        threads=_integer(environ, "OMP_NUM_THREADS") or available_cores(),
        language=_language(environ),
        punctuation=_flag(environ, "ROUNDHOUSE_PUNCTUATION"),
    )


def _one_of(environ: Mapping[str, str], variable: str, known: tuple[str, ...]) -> str:
    value = environ.get(variable, "").strip().lower() or "auto"
    if value not in known:
        raise ModelError(f"{variable} must be one of {', '.join(known)}, not {value!r}.")
    return value


def _language(environ: Mapping[str, str]) -> str | None:
    text = environ.get(_LANGUAGE, "").strip()
    code = language_code(text)
    if text and code is None:
        raise ModelError(f"{_LANGUAGE} must be an ISO 639-1 code such as 'en', not {text!r}.")
    return code


def _flag(environ: Mapping[str, str], variable: str) -> bool:
    value = environ.get(variable, "").strip().lower() or "true"
    if value not in ("true", "false"):
        raise ModelError(f"{variable} must be true or false, not {value!r}.")
    return value == "true"


def _integer(environ: Mapping[str, str], variable: str) -> int | None:
    text = environ.get(variable, "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise ModelError(f"{variable} must be a whole number, 1 or more, not {text!r}.")
    return int(text)

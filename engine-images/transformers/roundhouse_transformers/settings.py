"""What an Engine or a variant may set beside the SDK's variables."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from roundhouse_engine import ModelError

DEVICES: Final = ("auto", "cpu", "cuda")
TYPES: Final = ("auto", "float32", "float16", "bfloat16")
POOLINGS: Final = ("mean", "cls", "last_token")
SEGMENTS: Final = ("auto", "model", "pauses")


@dataclass(frozen=True, slots=True)
class Settings:
    device: str
    """`auto`: a GPU where there is one."""
    dtype: str
    """`auto`: float32 on a processor, as the weights are stored on a GPU."""
    pooling: str | None
    """How the vectors of a text's tokens become one; None: as the repository says, else the mean."""
    context_tokens: int | None
    """The most of one request; the model's own limit holds as well."""
    threads: int | None
    """Cores that one request computes on; None: torch's own choice."""
    segments: str
    """Of speech: as the `model` says, or cut at `pauses`; `auto`: by what its generation_config knows."""


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Raises `ModelError`."""
    return Settings(
        device=_one_of(environ, "ROUNDHOUSE_DEVICE", DEVICES) or "auto",
        dtype=_one_of(environ, "ROUNDHOUSE_DTYPE", TYPES) or "auto",
        pooling=_one_of(environ, "ROUNDHOUSE_POOLING", POOLINGS),
        context_tokens=_integer(environ, "ROUNDHOUSE_CONTEXT_TOKENS", lowest=16),
        threads=_integer(environ, "OMP_NUM_THREADS", lowest=1),
        segments=_one_of(environ, "ROUNDHOUSE_SEGMENTS", SEGMENTS) or "auto",
    )


def _one_of(environ: Mapping[str, str], variable: str, known: tuple[str, ...]) -> str | None:
    value = environ.get(variable, "").strip().lower() or None
    if value not in (None, *known):
        raise ModelError(f"{variable} must be one of {', '.join(known)}, not {value!r}.")
    return value


def _integer(environ: Mapping[str, str], variable: str, *, lowest: int) -> int | None:
    text = environ.get(variable, "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or int(text) < lowest:
        raise ModelError(f"{variable} must be a whole number, {lowest} or more, not {text!r}.")
    return int(text)

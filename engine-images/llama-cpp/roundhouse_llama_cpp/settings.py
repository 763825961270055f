"""What an Engine or a variant may set beside the SDK's variables."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from roundhouse_engine import ModelError
from roundhouse_engine.cores import available_cores

POOLINGS: Final = ("mean", "cls", "last")
MOST: Final = (1 << 31) - 1
"""llama.cpp counts no further."""


@dataclass(frozen=True, slots=True)
class Settings:
    context_tokens: int
    """Of each request: what it reads and what it writes."""
    threads: int
    """Cores that compute; as many as the process may use, unless it is told."""
    gpu_layers: int
    """Layers on a GPU, where the installed build of llama.cpp has one."""
    parallel: int
    """Requests that share one pass over the weights."""
    pooling: str | None
    """How the vectors of a text's tokens become one; None: as the model says."""


def read_settings(environ: Mapping[str, str], *, context_tokens: int, parallel: int) -> Settings:
    """The settings, with these defaults; raises `ModelError`."""
    pooling = environ.get("ROUNDHOUSE_LLAMA_POOLING", "").strip().lower() or None
    if pooling not in (None, *POOLINGS):
        raise ModelError(f"ROUNDHOUSE_LLAMA_POOLING must be one of {', '.join(POOLINGS)}, not {pooling!r}.")
    return Settings(
        context_tokens=_integer(environ, "ROUNDHOUSE_LLAMA_CONTEXT_TOKENS", context_tokens, lowest=16),
        threads=_integer(environ, "ROUNDHOUSE_LLAMA_THREADS", available_cores(), lowest=1),
        gpu_layers=_integer(environ, "ROUNDHOUSE_LLAMA_GPU_LAYERS", 0, lowest=0),
        parallel=_integer(environ, "ROUNDHOUSE_CAPACITY", parallel, lowest=1),
        pooling=pooling,
    )


def _integer(environ: Mapping[str, str], variable: str, default: int, *, lowest: int) -> int:
    text = environ.get(variable, "").strip()
    if not text:
        return default
    digits = text if text.isascii() and text.isdigit() and len(text) <= len(str(MOST)) else "-1"
    if not lowest <= int(digits) <= MOST:
        raise ModelError(f"{variable} must be a whole number from {lowest} to {MOST}, not {text!r:.60}.")
    return int(digits)

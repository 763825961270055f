"""What the environment tells this engine beyond what it tells all that load models of transformers."""

from collections.abc import Mapping
from typing import Final

from roundhouse_engine import ModelError

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

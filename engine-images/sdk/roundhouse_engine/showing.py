"""What a client sent, as an error tells it."""

import math
from typing import Final

_SHOWN: Final = 60
"""Characters."""


def shown(value: object) -> str:
    """The value in an error: what is large is not told whole."""
    if isinstance(value, list | dict):
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)}"
    if isinstance(value, str) and len(value) > _SHOWN:
        return f"{value[:_SHOWN]!r}…"
    text = repr(value) if not isinstance(value, float) or math.isfinite(value) else str(value)
    return text if len(text) <= _SHOWN + 2 else f"{text[:_SHOWN]}…"

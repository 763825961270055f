"""Errors that nobody foresaw, told apart by their type and the way through the code that led to them."""

from __future__ import annotations

import hashlib
import traceback

from roundhouse_operator.core.status.incident import Incident


def incident_of(error: Exception) -> Incident:
    """The same number for the same error at the same place, whatever it was about."""
    way = [
        f"{frame.filename}:{frame.name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)
    ]
    kind = type(error).__name__
    return Incident(hashlib.sha256("\n".join([kind, *way]).encode()).hexdigest()[:8], kind)

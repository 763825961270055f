"""Cosine of two embeddings, and how one is read from JSON."""

from __future__ import annotations

import json
from math import fsum, isfinite, sqrt


class NoVectorError(ValueError):
    """What should be a vector is none; the text says why."""


def read_vector(text: str | bytes) -> list[float]:
    """A JSON list of numbers."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise NoVectorError(f"it is not JSON: {error}") from error
    return as_vector(value)


def as_vector(value: object) -> list[float]:
    if not isinstance(value, list) or not value:
        raise NoVectorError("it is not a JSON list of numbers")
    if not all(isinstance(one, int | float) and not isinstance(one, bool) and isfinite(one) for one in value):
        raise NoVectorError("it holds something else than finite numbers")
    return [float(one) for one in value]


def cosine_percent(one: list[float], other: list[float]) -> float:
    """100 for the same direction, 0 for none in common."""
    if len(one) != len(other):
        raise NoVectorError(f"it has {len(other)} dimensions, and {len(one)} are expected")
    lengths = sqrt(fsum(x * x for x in one)) * sqrt(fsum(x * x for x in other))
    if not lengths:
        raise NoVectorError("it is zero in all dimensions")
    return 100 * fsum(x * y for x, y in zip(one, other, strict=True)) / lengths

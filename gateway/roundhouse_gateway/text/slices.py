"""Long work in slices, between which others have their turn."""

import asyncio
import time
from collections.abc import Iterable
from typing import Final, TypeVar

SLICE_SECONDS: Final = 0.0005
T = TypeVar("T")


async def in_slices(made: Iterable[T]) -> list[T]:
    """All of it. Each is made when it is asked for, and takes less than a slice."""
    found: list[T] = []
    until = time.perf_counter() + SLICE_SECONDS
    for each in made:
        found.append(each)
        if time.perf_counter() >= until:
            await asyncio.sleep(0)
            until = time.perf_counter() + SLICE_SECONDS
    return found

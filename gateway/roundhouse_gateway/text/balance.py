"""Which replica of a model a request goes to.

Mostly the one with the least in flight. Under `loadBalancing.type: PrefixHash` the one that has seen the
conversation's beginning, by a consistent hash with bounded load: where that one has more than its share the
next on the ring is taken, so a replica that comes or goes moves only its own part of the conversations.
"""

import hashlib
from bisect import bisect
from collections.abc import Callable, Collection
from functools import lru_cache
from math import ceil
from typing import Final

POINTS: Final = 128
"""Places on the ring for each replica: more make the shares more even."""

Ring = tuple[tuple[int, ...], tuple[str, ...]]


@lru_cache(1024)
def ring_of(base_urls: tuple[str, ...]) -> Ring:
    """Places in order, and who stands there; the same in each gateway."""
    points = sorted(
        (_place(f"{url}#{number}".encode()), url) for url in base_urls for number in range(POINTS)
    )
    return tuple(place for place, _ in points), tuple(url for _, url in points)


def by_prefix(
    opening: bytes, base_urls: Collection[str], in_flight: Callable[[str], int], mean_load_percent: int
) -> str:
    """The first on the ring after the opening's place that is within its share with one more request."""
    places, owners = ring_of(tuple(sorted(base_urls)))
    in_all = sum(map(in_flight, base_urls)) + 1
    share = ceil(in_all * mean_load_percent / (100 * len(base_urls)))
    start = bisect(places, _place(opening))
    passed: set[str] = set()
    for step in range(len(owners)):
        owner = owners[(start + step) % len(owners)]
        if owner in passed:
            continue
        if in_flight(owner) + 1 <= share:
            return owner
        passed.add(owner)
    return owners[start % len(owners)]


def _place(key: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest())

"""How often endpoints that fail are tried, by the time that has passed: on a busy machine more often."""

from math import log2

from roundhouse_gateway.ejection import FIRST_SECONDS


def most_tries(seconds: float) -> int:
    """By one request after another, where one failure is enough: each rest is twice as long as the last."""
    return 1 + int(log2(1 + seconds / FIRST_SECONDS))

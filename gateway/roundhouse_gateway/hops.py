"""How often a request has passed through Roundhouse, told by its `Via` header (RFC 9110, section 7.6.3).

An upstream may lead back to the gateway that calls it; without a count such a request would go round until
the memory is used up.
"""

from collections.abc import Iterable

from roundhouse_gateway.errors import LoopDetectedError

OWN_HOP = "1.1 roundhouse"
# Gateways in front of gateways are few; a request that met so many of them goes in circles.
MAX_HOPS = 4


def via_onwards(via: Iterable[str]) -> str:
    """The `Via` of a call to an engine: what the client's lines say, and this gateway after it."""
    return ", ".join([*filter(None, map(str.strip, via)), OWN_HOP])


def check_hops(via: Iterable[str], model: str | None) -> None:
    """Raises `LoopDetectedError` for a request that has come through Roundhouse too often."""
    members = (member.split() for line in via for member in line.split(","))
    pseudonym = OWN_HOP.split()[1]
    if sum(member[1:2] == [pseudonym] for member in members) >= MAX_HOPS:
        raise LoopDetectedError(model, MAX_HOPS)

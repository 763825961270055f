"""Who a client is where proxies stand between: `X-Forwarded-For` and `-Proto`, from those that are trusted.

Anybody may write these headers, so they count only as far as the line of trusted proxies reaches, read from
this end: the first address that is none of them is the client's.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from roundhouse_gateway.exchange import EXCHANGE

Network = IPv4Network | IPv6Network

_WITH_PORT: Final = re.compile(r"\[([^\]]+)\](?::\d+)?|([\d.]+):\d+")
_SCHEMES: Final = {"http": {"http": "http", "https": "https"}, "websocket": {"http": "ws", "https": "wss"}}


@dataclass(frozen=True, slots=True)
class Proxied:
    """Around the application, where proxies are trusted."""

    app: ASGIApp
    trusted: Sequence[Network]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = scope[EXCHANGE]
        if is_within(exchange.client, tuple(self.trusted)):
            exchange.client = client_behind(exchange.client, _lines(scope, b"x-forwarded-for"), self.trusted)
            proto = ",".join(_lines(scope, b"x-forwarded-proto")).rpartition(",")[2].strip().lower()
            scope["scheme"] = _SCHEMES[scope["type"]].get(proto, scope["scheme"])
        await self.app(scope, receive, send)


def client_behind(peer: str, forwarded_for: Sequence[str], trusted: Sequence[Network]) -> str:
    """The client of a connection from `peer`, a trusted proxy, by the header's lines in their order."""
    found = peer
    for member in reversed(",".join(forwarded_for).split(",")):
        address = _address(member)
        if address is None:
            break
        found = address
        if not is_within(address, tuple(trusted)):
            break
    return found


@lru_cache(4096)
def is_within(address: str, networks: tuple[Network, ...]) -> bool:
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in networks)


def _address(member: str) -> str | None:
    text = member.strip()
    if found := _WITH_PORT.fullmatch(text):
        text = found[1] or found[2]
    try:
        return str(ip_address(text))
    except ValueError:
        return None


def _lines(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for header, value in scope["headers"] if header == name]

"""Ports on loopback for what cannot tell which one it got."""

import secrets
import socket
from contextlib import suppress
from pathlib import Path

FROM = 20_000
_GIVEN = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_port(host: str = "127.0.0.1") -> int:
    """One that nobody listens on, nor is given before it is bound.

    It lies below those that the machine gives to outgoing connections and to who asks for any, where those
    begin as usual, and is drawn, so that tests beside each other do not choose the same.
    """
    below = max(int(_GIVEN.read_text().split()[0]), FROM + 10_000)
    while True:
        port = FROM + secrets.randbelow(below - FROM)
        with suppress(OSError), socket.create_server((host, port)):
            return port

"""What this machine has and who holds it: asked first, so that nothing of others is touched."""

import json
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Network, ip_network
from pathlib import Path
from typing import Any

from .addresses import Addresses
from .errors import ClusterError
from .processes import run


def check_privileges() -> None:
    if os.geteuid():
        raise ClusterError(
            "a local cluster makes namespaces and interfaces and needs root: run it with sudo, "
            "or name a cluster of your own in ROUNDHOUSE_CONTEXT"
        )


def snapshotter(state: Path) -> str:
    """How containerd stacks layers: an overlay cannot lie on an overlay, so in a container it copies."""
    kind = run("stat", "--file-system", "--format=%T", str(state)).strip()
    return "native" if kind == "overlayfs" else "overlayfs"


def check_disk(folder: Path, needed_mib: int) -> None:
    """A component that meets a full disk ends with a trace that does not say so."""
    held = next(path for path in (folder, *folder.parents) if path.exists())
    free_mib = shutil.disk_usage(held).free >> 20
    if free_mib < needed_mib:
        raise ClusterError(
            f"{str(held)!r} has {free_mib} MiB free, and a cluster needs {needed_mib} MiB for its state: "
            f"make room there and run this again"
        )


def check_free(addresses: Addresses) -> None:
    """Raises ClusterError that names who holds a port, interface name or address range of this cluster."""
    check_port(addresses.api_port_on_host, f"the API server of cluster {addresses.number}")
    check_port(addresses.gateway_port_on_host, f"the gateway of cluster {addresses.number}")
    interface = addresses.host_interface
    if Path(f"/sys/class/net/{interface}").exists():
        raise ClusterError(
            f"a network interface named {interface!r} exists and is not this project's. "
            f"Remove it if it is yours (`ip link del {interface}`), or take another --number (0 to 15)."
        )
    ours = (addresses.link, *addresses.routed)
    for network, where in _networks_in_use():
        clash = next((own for own in ours if own.overlaps(network)), None)
        if clash:
            raise ClusterError(
                f"{where} holds {network}, which overlaps this cluster's {clash}. "
                f"Take another number (--number, 0 to 15), or remove it."
            )


def link_exists(addresses: Addresses) -> bool:
    """Whether the machine's end of the cluster's link is there: the name alone could be somebody else's."""
    name, address = addresses.host_interface, str(addresses.host_address)
    return any(
        link["ifname"] == name and any(held["local"] == address for held in link.get("addr_info", ()))
        for link in _ip("-4", "addr", "show")
    )


def remove_link(addresses: Addresses) -> None:
    """Routes go with it. The kernel would do so too, but after the last half-closed connection timed out."""
    try:
        if link_exists(addresses):
            run("ip", "link", "delete", addresses.host_interface)
    except ClusterError:
        # The kernel was quicker.
        if link_exists(addresses):
            raise


def check_port(port: int, use: str) -> None:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as error:
        holder = port_holder(port) or "a process that cannot be seen from here"
        raise ClusterError(
            f"port {port} on 127.0.0.1, which is needed for {use}, is held by {holder} ({error.strerror}). "
            f"End that, or choose another cluster number (--number, 0 to 15) or port (--port)."
        ) from error


def port_holder(port: int) -> str | None:
    """Who listens on the port on this machine, as "name (pid 12)"."""
    inodes = {inode for inode, local in _listening() if local == port}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and inodes & set(_socket_inodes(entry)):
            with suppress(OSError):  # it ended meanwhile
                return f"{(entry / 'comm').read_text().strip()!r} (pid {entry.name})"
    return None


def _listening() -> Iterator[tuple[str, int]]:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:] if Path(table).exists() else []:
            fields = line.split()
            if fields[3] == "0A":
                yield fields[9], int(fields[1].rpartition(":")[2], 16)


def _socket_inodes(process: Path) -> Iterator[str]:
    try:
        descriptors = list((process / "fd").iterdir())
    except OSError:
        return
    for descriptor in descriptors:
        try:
            target = str(descriptor.readlink())
        except OSError:
            continue
        if target.startswith("socket:["):
            yield target[8:-1]


def _networks_in_use() -> Iterator[tuple[IPv4Network, str]]:
    for link in _ip("-4", "addr", "show"):
        for address in link.get("addr_info", []):
            network = ip_network(f"{address['local']}/{address['prefixlen']}", strict=False)
            if isinstance(network, IPv4Network):
                yield network, f"interface {link['ifname']!r}"
    for route in _ip("-4", "route", "show"):
        if route["dst"] != "default":
            network = ip_network(route["dst"])
            if isinstance(network, IPv4Network):
                yield network, f"a route by {route.get('dev', 'no interface')!r}"


def _ip(*arguments: str) -> list[dict[str, Any]]:
    parsed: list[dict[str, Any]] = json.loads(run("ip", "-json", *arguments) or "[]")
    return parsed

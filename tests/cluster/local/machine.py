"""What this machine has and who holds what on it: asked before anything is made, so that nothing of others is touched."""

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Network, ip_network
from pathlib import Path

from .addresses import Addresses
from .errors import ClusterError
from .layout import Mode

# Command → Debian package that has it.
CONTROL_PLANE_COMMANDS = {"ip": "iproute2", "nsenter": "util-linux", "openssl": "openssl"}
NODE_COMMANDS = {"containerd": "containerd", "ctr": "containerd", "runc": "runc", "nft": "nftables"}
CNI_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))
CNI_PACKAGE = "containernetworking-plugins"
_SEARCHED = os.pathsep.join(("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"))


def check_privileges() -> None:
    if os.geteuid():
        raise ClusterError(
            "a local cluster makes namespaces and interfaces and needs root: run it with sudo, "
            "or name a cluster of your own in ROUNDHOUSE_CONTEXT"
        )


def missing_packages(mode: Mode) -> list[str]:
    """The Debian packages whose commands a cluster of this mode needs and this machine lacks."""
    commands = CONTROL_PLANE_COMMANDS | (NODE_COMMANDS if mode == "full" else {})
    missing = {package for command, package in commands.items() if not shutil.which(command, path=_SEARCHED)}
    if mode == "full" and _found_cni_folder() is None:
        missing.add(CNI_PACKAGE)
    return sorted(missing)


def cni_folder() -> str:
    """Where the plugins that join pods to the network are."""
    found = _found_cni_folder()
    if found is None:
        raise ClusterError(f"no CNI plugins in {' or '.join(map(str, CNI_FOLDERS))}: install {CNI_PACKAGE}")
    return str(found)


def _found_cni_folder() -> Path | None:
    return next((folder for folder in CNI_FOLDERS if (folder / "ptp").exists()), None)


def check_free(addresses: Addresses) -> None:
    """Raises ClusterError that names the holder of a port, interface name or address range of this cluster."""
    ports = {addresses.api_port_on_host: "the API server", addresses.gateway_port_on_host: "the gateway"}
    for port, use in ports.items():
        check_port(port, use, addresses.number)
    interface = addresses.host_interface
    if Path(f"/sys/class/net/{interface}").exists():
        raise ClusterError(
            f"a network interface named {interface!r} exists and is not this project's. "
            f"Remove it (`ip link del {interface}`) if you know it, or take another number (--number, 0 to 15)."
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
    """Routes go with it. The kernel would do so itself, but only when the last half-closed connection has timed out."""
    if link_exists(addresses):
        subprocess.run(["ip", "link", "delete", addresses.host_interface], capture_output=True, check=False)


def check_port(port: int, use: str, number: int) -> None:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as error:
        holder = port_holder(port) or "a process that cannot be seen from here"
        raise ClusterError(
            f"port {port} on 127.0.0.1, which cluster {number} needs for {use}, is held by {holder} ({error.strerror}). "
            f"End that, or take another number (--number, 0 to 15)."
        ) from error


def port_holder(port: int) -> str | None:
    """Who listens on the port on this machine, as "name (pid 12)"."""
    inodes = {inode for inode, local in _listening() if local == port}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and inodes & set(_socket_inodes(entry)):
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
            target = os.readlink(descriptor)
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


def _ip(*arguments: str) -> list[dict[str, list[dict[str, str]]]]:
    output = subprocess.run(["ip", "-json", *arguments], capture_output=True, text=True, check=True).stdout  # noqa: S603, S607
    parsed: list[dict[str, list[dict[str, str]]]] = json.loads(output or "[]")
    return parsed

"""What a cluster could leave behind on a machine, seen before and after: for tests that compare the two."""

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from tests.cluster.local.addresses import API_PORT, COUNT, addresses
from tests.cluster.local.mounts import KUBELET_WANTS

EXPOSED_PORTS = {addresses(number).gateway_port_on_host for number in range(COUNT)}
API_PORTS = {addresses(number).api_port_on_host for number in range(COUNT)}
# Those of etcd, the API server, kubelet and the controllers follow.
CLUSTER_PORTS = {*EXPOSED_PORTS, *API_PORTS, 2379, 2380, API_PORT, *range(10248, 10260)}
SETTINGS = ("net/ipv4/ip_forward", "net/netfilter/nf_conntrack_max", *KUBELET_WANTS)


@dataclass(frozen=True, slots=True)
class Footprint:
    """Sets of lines. What belongs to clusters of other numbers is left out: they may come and go."""

    processes: frozenset[str]
    mounts: frozenset[str]
    network_namespaces: frozenset[str]
    interfaces: frozenset[str]
    routes: frozenset[str]
    packet_filter: frozenset[str]
    listeners: frozenset[str]
    cgroups: frozenset[str]
    folders: frozenset[str]
    settings: frozenset[str]

    def changed_to(self, after: "Footprint") -> dict[str, list[str]]:
        """Kind → lines that came (+) or went (-); empty if nothing did."""
        changes: dict[str, list[str]] = {}
        for field in fields(self):
            old, new = getattr(self, field.name), getattr(after, field.name)
            lines = [f"+{line}" for line in sorted(new - old)] + [f"-{line}" for line in sorted(old - new)]
            if lines:
                changes[field.name] = lines
        return changes


def footprint(*numbers: int) -> Footprint:
    """Of this machine, as far as clusters of these numbers could have changed it."""
    others = [number for number in range(COUNT) if number not in numbers]
    foreign = re.compile("|".join(_marks(others)))
    own = re.compile("|".join(_marks(list(numbers))))

    def lines(text: str) -> frozenset[str]:
        return frozenset(line.strip() for line in text.splitlines() if not foreign.search(line))

    return Footprint(
        processes=frozenset(line for line in _command_lines() if own.search(line)),
        mounts=lines(Path("/proc/self/mounts").read_text()),
        network_namespaces=frozenset(_named_namespaces()),
        interfaces=lines(_output("ip", "-brief", "address")),
        routes=lines(_output("ip", "route", "show", "table", "all")),
        packet_filter=lines(_output("nft", "list", "ruleset")),
        listeners=frozenset(line for line in _listeners() if not foreign.search(line)),
        cgroups=frozenset(line for line in _cgroups() if not foreign.search(line)),
        folders=frozenset(
            str(path) for path in _folders() if path.exists() and not foreign.search(str(path))
        ),
        settings=frozenset(f"{name} = {Path('/proc/sys', name).read_text().strip()}" for name in SETTINGS),
    )


def _marks(numbers: list[int]) -> Iterator[str]:
    for own in map(addresses, numbers):
        yield rf"roundhouse-local[-/]{own.number}\b"
        yield rf"\b{own.host_interface}\b"
        yield rf":({own.api_port_on_host}|{own.gateway_port_on_host})\b"
        # An address of its ranges, as `ip` prints routes to it.
        yield from (re.escape(str(network).rpartition(".")[0]) + r"\." for network in (own.link, *own.routed))


def _command_lines() -> Iterator[str]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            yield f"{entry.name} {' '.join(words)}"


def _named_namespaces() -> list[str]:
    folder = Path("/run/netns")
    return [path.name for path in folder.iterdir()] if folder.exists() else []


def _listeners() -> Iterator[str]:
    """Ports that a component of a cluster would listen on, or `expose`; any other program may come and go."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        local, state = line.split()[1], line.split()[3]
        address, _, port = local.partition(":")
        if state == "0A" and int(port, 16) in CLUSTER_PORTS:
            yield f"{address}:{int(port, 16)}"


def _cgroups() -> list[str]:
    return [str(path) for path in Path("/sys/fs/cgroup").glob("*/*") if path.is_dir()] + [
        str(path) for path in Path("/sys/fs/cgroup").glob("*") if path.is_dir()
    ]


def _folders() -> list[Path]:
    left = [Path("/var/lib/roundhouse-local") / str(number) for number in range(COUNT)]
    names = (
        "/run/containerd",
        "/run/netns",
        "/run/flannel",
        "/var/lib/cni",
        "/var/lib/kubelet",
        "/etc/cni/net.d",
    )
    logs = ("/var/log/containers", "/var/log/pods", "/usr/libexec/kubernetes", "/opt/containerd", "/.kube")
    return left + [Path(name) for name in (*names, *logs)]


def _output(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout

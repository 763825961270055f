"""What a gateway holds: memory, descriptors and threads as the kernel tells, the rest as its metrics do.

Of several workers it is all of them together.
"""

import json
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.request import urlopen

from typing_extensions import override

from tests.conformance.gateway.process import GatewayProcess

GAUGES: Final = ("tasks", "connections", "in_flight_requests", "held_requests", "spool_bytes")


@dataclass(frozen=True, slots=True)
class Reading:
    """`load`: what of `/internal/load` is not zero."""

    mib: float
    fds: int
    threads: int
    gauges: dict[str, float]
    load: dict[str, tuple[int, ...]]
    peers: Counter[int]
    """With whom there are connections, by the port of the other side; 0 is one's own listening."""

    @property
    def idle(self) -> bool:
        """Nothing is in hand."""
        return not self.load and not any(self.gauges[name] for name in GAUGES[2:])

    @override
    def __str__(self) -> str:
        gauges = " ".join(f"{name} {value:g}" for name, value in self.gauges.items())
        return f"{self.mib:.1f} MiB, {self.fds} fds, {self.threads} threads, {gauges}, {dict(self.peers)}"


def memory_of(gateway: GatewayProcess) -> float:
    """Resident, in MiB."""
    return sum(int(_status(each)["VmRSS"].split()[0]) for each in _processes(gateway)) / 1024


def read(gateway: GatewayProcess) -> Reading:
    samples = _samples(gateway)
    gauges = {name: sum(samples.get(f"roundhouse_gateway_{name}", ())) for name in GAUGES}
    folders = _processes(gateway)
    fds = sum(len(list((each / "fd").iterdir())) for each in folders)
    threads = sum(int(_status(each)["Threads"]) for each in folders)
    peers = sum(map(_peers, folders), Counter[int]())
    return Reading(memory_of(gateway), fds, threads, gauges, _load(gateway), peers)


def _processes(gateway: GatewayProcess) -> list[Path]:
    """What the kernel has of it and of its workers."""
    own = Path(f"/proc/{gateway.process.pid}")
    workers = (own / f"task/{gateway.process.pid}/children").read_text().split()
    return [own, *(Path(f"/proc/{each}") for each in workers)]


def series(gateway: GatewayProcess) -> Counter[str]:
    """How many there are, by name."""
    return Counter({name: len(values) for name, values in _samples(gateway).items()})


def _samples(gateway: GatewayProcess) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    with urlopen(f"http://127.0.0.1:{gateway.metrics_port}/metrics", timeout=30) as answer:
        for line in answer.read().decode().splitlines():
            if not line.startswith("#"):
                name, _, rest = line.partition("{") if "{" in line else line.partition(" ")
                found.setdefault(name, []).append(float(rest.rsplit(" ", 1)[-1]))
    return found


def _peers(folder: Path) -> Counter[int]:
    """As the kernel lists connections: the sockets that are open, by their inodes."""
    inodes = set()
    for each in (folder / "fd").iterdir():
        with suppress(FileNotFoundError):  # it was closed just now
            inodes.add(str(each.readlink()).removeprefix("socket:[").rstrip("]"))
    rows = [line.split() for line in (folder / "net/tcp").read_text().splitlines()[1:]]
    return Counter(int(row[2].rpartition(":")[2], 16) for row in rows if row[9] in inodes)


def _status(folder: Path) -> dict[str, str]:
    lines = (folder / "status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _load(gateway: GatewayProcess) -> dict[str, tuple[int, ...]]:
    """The account that each new reader is given, up to the first beat."""
    found: dict[str, tuple[int, ...]] = {}
    with urlopen(f"http://127.0.0.1:{gateway.metrics_port}/internal/load", timeout=30) as answer:
        for line in answer:
            told = json.loads(line)
            if told["t"] == "beat":
                return {name: counts for name, counts in found.items() if any(counts)}
            found[told["variant"]] = (told["inFlight"], told["held"], told["streams"])
    raise AssertionError("the report ended without a beat")

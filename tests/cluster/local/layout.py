"""The folders and files of one cluster's state. Pure names; whoever needs one makes it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .addresses import Addresses

Mode = Literal["full", "control-plane"]


@dataclass(frozen=True, slots=True)
class Layout:
    """A cluster on disk: its addresses, its state folder and the folder of its binaries."""

    addresses: Addresses
    mode: Mode
    state: Path
    binaries: Path

    @property
    def pki(self) -> Path:
        return self.state / "pki"

    @property
    def logs(self) -> Path:
        return self.state / "log"

    @property
    def events(self) -> Path:
        """JSON lines: what the bring-up did, and in the end `ready` or `failed`."""
        return self.state / "events.jsonl"

    @property
    def control(self) -> Path:
        """The supervisor's socket."""
        return self.state / "control.sock"

    @property
    def identity(self) -> Path:
        """JSON: which process and network namespace are the cluster's."""
        return self.state / "cluster.json"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's, through the machine's loopback."""
        return self.state / "kubeconfig"

    def inner_kubeconfig(self, user: str) -> Path:
        """A component's, by the address inside the cluster's network namespace."""
        return self.state / f"{user}.kubeconfig"

    def binary(self, name: str) -> str:
        return str(self.binaries / name)

"""A worker as its supervisor has it: a process, and the ends of what leads there."""

import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from roundhouse_gateway.workers.handed import hand, pair
from roundhouse_gateway.workers.member import Ends

FAULT = 1


@dataclass(slots=True)
class Worker:
    """`takes_…`: connections of clients, of the cluster. `handed` are those of clients that it was given."""

    number: int
    pid: int
    ends: Ends
    started: float = field(default_factory=time.monotonic)
    takes_clients: bool = False
    takes_cluster: bool = False
    handed: int = 0

    @classmethod
    def start(cls, number: int, run: Callable[[Ends], int], leave: Callable[[], None]) -> "Worker":
        """Forks. In the new process `leave` closes what is the supervisor's, and `run` gives the status.

        OSError where the machine has no room for it.
        """
        (clients, clients_there), (cluster, cluster_there) = pair(), pair()
        messages, messages_there = pair()
        ours = Ends(clients, cluster, messages)
        theirs = Ends(clients_there, cluster_there, messages_there)
        try:
            pid = os.fork()
        except OSError:
            ours.close()
            theirs.close()
            raise
        if pid:
            theirs.close()
            return cls(number, pid, ours)
        status = FAULT
        try:
            ours.close()
            leave()
            os.setpgid(0, 0)  # what a terminal sends to all is passed on by the supervisor
            status = run(theirs)
        finally:
            os._exit(status)

    def hand(self, connection: socket.socket, *, of_client: bool) -> bool:
        """Whether it was taken into the queue; what is not stays the caller's."""
        if not hand(self.ends.clients if of_client else self.ends.cluster, connection):
            return False
        self.handed += of_client
        return True

    def takes(self, *, of_clients: bool) -> bool:
        return self.takes_clients if of_clients else self.takes_cluster

    def no_more(self, *, of_clients: bool) -> None:
        """The end of connections of that kind, after those that are on the way."""
        if of_clients:
            self.takes_clients = False
            self.ends.clients.close()
        else:
            self.takes_cluster = False
            self.ends.cluster.close()

    def signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def tell(self, message: bytes) -> bool:
        """Whether it may learn of it: who does not read has a clock of its own."""
        try:
            self.ends.messages.send(message)
        except OSError:
            return False
        return True

"""A listening socket of the supervisor's: when it takes connections, and who gets each of them.

Nothing is taken while no worker is there for it or none has room: connections wait in the kernel then. Which
worker is asked first is left to the supervisor.
"""

import logging
import selectors
import socket
import time
from collections.abc import Callable, Sequence
from typing import Final

from roundhouse_gateway.workers.worker import Worker

log = logging.getLogger("roundhouse.gateway.workers")

LOOK_SECONDS: Final = 1.0
FULL_SECONDS: Final = 0.02
"""How long nothing is taken where all queues of workers are full."""
AT_ONCE: Final = 64


class Doorway:
    """Of clients, or of the cluster. `takers` are the workers that take connections here, the best first.

    They are given a number that grows with each connection, by which equals take turns.
    """

    def __init__(
        self,
        door: socket.socket,
        selector: selectors.BaseSelector,
        takers: Callable[[int], Sequence[Worker]],
        *,
        of_clients: bool,
    ) -> None:
        door.setblocking(False)
        self._door = door
        self._selector = selector
        self._takers = takers
        self._of_clients = of_clients
        self._accepting = False
        self._turn = 0
        self._rests_until = 0.0
        self._left: socket.socket | None = None
        """A connection that no worker had room for yet."""

    def look(self, *, stopping: bool) -> None:
        """Opens or shuts; for good where `stopping` and nobody is there any more."""
        if self._door.fileno() < 0:
            return
        if self._left is not None and self._handed(self._left):
            self._left = None
        someone = bool(self._takers(self._turn))
        can = someone and self._left is None and time.monotonic() >= self._rests_until
        if can and not self._accepting:
            self._selector.register(self._door, selectors.EVENT_READ, self._accept)
        elif self._accepting and not can:
            self._selector.unregister(self._door)
        self._accepting = can
        if stopping and not someone:
            self.close()

    def seconds_until_look(self) -> float:
        """What else is worth a look comes by the selector."""
        if self._left is not None:
            return FULL_SECONDS
        return min(LOOK_SECONDS, max(self._rests_until - time.monotonic(), 0.0) or LOOK_SECONDS)

    def close(self) -> None:
        self._door.close()
        if self._left is not None:
            self._left.close()
            self._left = None

    def _accept(self) -> None:
        for _ in range(AT_ONCE):
            if self._left is not None:
                return
            try:
                connection, _ = self._door.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                log.warning("connections cannot be taken: %s", error)
                self._rests_until = time.monotonic() + LOOK_SECONDS
                return
            if not self._handed(connection):
                self._left = connection

    def _handed(self, connection: socket.socket) -> bool:
        """Whether a worker has room for it; then it is no longer open here."""
        takers = self._takers(self._turn)
        done = any(worker.hand(connection, of_client=self._of_clients) for worker in takers)
        if done:
            self._turn += 1
            connection.close()
        return done

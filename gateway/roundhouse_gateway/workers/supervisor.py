"""The process that starts workers, hands them connections, and starts those anew that end.

Each connection goes to the worker with the fewest, of those that have read the cluster: kept connections then
are spread evenly however few there are, which the kernel does only by chance. It does nothing else that takes
time, and waits for no worker. One that ends has its places given back and is replaced; one that was never up
ends the gateway; one that is not heard of for long is ended.
"""

import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

import msgspec

from roundhouse_gateway.workers.doorway import LOOK_SECONDS, Doorway
from roundhouse_gateway.workers.member import LONGEST_MESSAGE, Ends
from roundhouse_gateway.workers.messages import Answer, Ask, Leaving, Put, Said, Up
from roundhouse_gateway.workers.shared import Shared, State
from roundhouse_gateway.workers.tokens import Kept
from roundhouse_gateway.workers.worker import FAULT, Worker

log = logging.getLogger("roundhouse.gateway.workers")

HUNG_SECONDS: Final = 30.0
FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 10.0
LATE_SECONDS: Final = 5.0
"""A supervisor that did not run itself for so long says of nobody that he hangs."""

Run = Callable[[int, Ends], int]
"""What a worker does, by its number: its exit status."""


@dataclass(frozen=True, slots=True)
class End:
    """Of a worker, after so many seconds."""

    status: int
    lived: float

    @property
    def words(self) -> str:
        if self.status < 0:
            return f"was killed by signal {-self.status}"
        return f"ended with status {self.status}" if self.status else "has drained by itself, and ended"


class Supervisor:
    """`doors` are the listening sockets of clients and of the cluster."""

    def __init__(self, shared: Shared, doors: tuple[socket.socket, socket.socket], run: Run) -> None:
        self._shared = shared
        self._run = run
        self._workers: dict[int, Worker] = {}
        self._due: dict[int, float] = dict.fromkeys(range(shared.workers), 0.0)
        """When workers that are not there are to be started."""
        self._pauses = [FIRST_PAUSE_SECONDS] * shared.workers
        self._been_up: set[int] = set()
        self._ended: dict[int, End] = {}
        """Those whose places are still to be given back."""
        self._tokens = Kept(time.monotonic)
        self._stopping = False
        self._status = 0
        self._looked_at = 0.0
        self._selector = selectors.DefaultSelector()
        self._signals, self._signalled = socket.socketpair()
        clients, cluster = doors
        self._doorways = (
            Doorway(clients, self._selector, partial(self._in_order, of_clients=True), of_clients=True),
            Doorway(cluster, self._selector, partial(self._in_order, of_clients=False), of_clients=False),
        )

    def serve(self) -> int:
        """Until all workers have ended after a signal, or one cannot start. The exit status."""
        for each in (self._signals, self._signalled):
            each.setblocking(False)
        signal.set_wakeup_fd(self._signalled.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)  # what comes is read from the descriptor
        self._selector.register(self._signals, selectors.EVENT_READ, self._on_signals)
        self._looked_at = time.monotonic()
        while self._workers or self._ended or not self._stopping:
            self._start_due()
            for key, _ in self._selector.select(self._timeout()):
                key.data()
            self._reap()
            self._forget_ended()
            for doorway in self._doorways:
                doorway.look(stopping=self._stopping)
            if time.monotonic() - self._looked_at > LOOK_SECONDS:
                self._end_hung()
        return self._status

    def _timeout(self) -> float:
        now = time.monotonic()
        due = [at - now for at in self._due.values()] if not self._stopping else []
        return max(0.0, min(*(each.seconds_until_look() for each in self._doorways), *due))

    def _start_due(self) -> None:
        now = time.monotonic()
        for number in [number for number, due in self._due.items() if due <= now and not self._stopping]:
            del self._due[number]
            try:
                started = Worker.start(number, partial(self._run, number), self._leave)
            except OSError as error:
                why = f"could not be started ({error}): the pod has too little memory or too few processes"
                self._lost(number, why)
                continue
            self._workers[number] = started
            self._shared.posts[number].pid = started.pid
            self._selector.register(started.ends.messages, selectors.EVENT_READ, partial(self._hear, started))

    def _leave(self) -> None:
        """In a new worker: what it has no business with."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        self._selector.close()
        for each in (self._signals, self._signalled, *self._doorways):
            each.close()
        for other in self._workers.values():
            other.ends.close()

    def _on_signals(self) -> None:
        with suppress(BlockingIOError):
            for number in self._signals.recv(4096):
                if number in (signal.SIGTERM, signal.SIGINT):
                    self._drain()

    def _drain(self) -> None:
        """All workers at once. Each goes on to take connections for a while, and then says so.

        A second signal hurries those that do, and is nothing to one that has drained.
        """
        self._stopping = True
        for number in self._workers:
            post = self._shared.posts[number]
            if post.state is not State.DRAINED:
                post.state = State.DRAINING
        for worker in self._workers.values():  # after all are told of, as the first may wait for the others
            worker.signal(signal.SIGTERM)

    def _hear(self, worker: Worker) -> None:
        with suppress(BlockingIOError):
            while True:
                try:
                    heard = worker.ends.messages.recv(LONGEST_MESSAGE)
                except ConnectionError:
                    heard = b""
                if not heard:
                    self._selector.unregister(worker.ends.messages)
                    return
                self._take(worker, msgspec.msgpack.decode(heard, type=Said))

    def _take(self, worker: Worker, said: Said) -> None:
        match said:
            case Up():
                worker.takes_clients = worker.takes_cluster = True
                self._been_up.add(worker.number)
            case Leaving(of_clients):
                worker.no_more(of_clients=of_clients)
            case Put(name, content, seconds):
                self._tokens.put(name, content, seconds)
            case Ask(number, name, take):
                answer = Answer(number, self._tokens.get(name, take=False))
                if worker.tell(msgspec.msgpack.encode(answer)) and take:
                    self._tokens.get(name, take=True)

    def _reap(self) -> None:
        for worker in list(self._workers.values()):
            pid, status, usage = os.wait4(worker.pid, os.WNOHANG)
            if pid:
                self._shared.posts[worker.number].ended(usage.ru_utime + usage.ru_stime)
                self._bury(worker, os.waitstatus_to_exitcode(status))

    def _bury(self, worker: Worker, status: int) -> None:
        number = worker.number
        del self._workers[number]
        with suppress(KeyError, ValueError):
            self._selector.unregister(worker.ends.messages)
        worker.ends.close()
        self._ended[number] = End(status, time.monotonic() - worker.started)

    def _forget_ended(self) -> None:
        """Gives their places back, and has others take them; tried again where a lock is not to be had."""
        for number, end in list(self._ended.items()):
            if not self._shared.forget(number):
                continue
            del self._ended[number]
            if self._stopping:
                self._status = self._status or max(end.status, 0)
            else:
                self._lost(number, end.words, status=end.status, lived=end.lived)

    def _lost(self, number: int, what: str, *, status: int = FAULT, lived: float = 0.0) -> None:
        """It is to be started again after a pause; the gateway ends where it was never up."""
        if number not in self._been_up:
            log.critical("worker %d %s before it was up; ending", number, what)
            self._status = status if status > 0 else FAULT
            self._drain()
            return
        pause = FIRST_PAUSE_SECONDS if lived > LONGEST_PAUSE_SECONDS else self._pauses[number]
        self._pauses[number] = min(LONGEST_PAUSE_SECONDS, 2 * pause)
        self._due[number] = time.monotonic() + pause
        log.error("worker %d %s; another takes its place in %g s", number, what, pause)

    def _end_hung(self) -> None:
        """One at a time: the others may only wait for a lock that it holds."""
        now, looked_at = time.monotonic(), self._looked_at
        self._looked_at = now
        if now - looked_at > LATE_SECONDS:
            return
        beats = {number: self._shared.posts[number].beat for number in self._workers}
        silent = min((number for number, beat in beats.items() if beat), key=beats.__getitem__, default=None)
        if silent is not None and now - beats[silent] > HUNG_SECONDS:
            log.error("worker %d was not heard of for %g s; ending it", silent, now - beats[silent])
            self._workers[silent].signal(signal.SIGKILL)

    def _in_order(self, turn: int, *, of_clients: bool) -> Sequence[Worker]:
        """Who is to have the next connection, the first first; among equals they take turns.

        One that is not heard of has them last: it answers nothing, and loses all it has when it is ended.
        """
        takers = [worker for worker in self._workers.values() if worker.takes(of_clients=of_clients)]
        count = self._shared.workers

        def rank(worker: Worker) -> tuple[bool, bool, int, int]:
            post = self._shared.posts[worker.number]
            open_now = worker.handed - post.taken + self._shared.connections(worker.number)
            hangs = not self._shared.hears(worker.number)
            return hangs, post.state is not State.READY, open_now, (worker.number - turn) % count

        return sorted(takers, key=rank)

"""The process that starts workers, hands them connections, and starts those anew that end.

It accepts on both ports and gives each connection to the worker with the fewest, of those that have read the
cluster: kept connections then are spread evenly however few there are, which the kernel does only by chance.
It does nothing else that takes time. A worker that ends has its places given back and is replaced; one that
was never up ends the gateway; one that is not heard of for long is ended.
"""

import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Final

import msgspec

from roundhouse_gateway.workers.member import LONGEST_MESSAGE, Ends
from roundhouse_gateway.workers.messages import Answer, Ask, Leaving, Put, Said, Up
from roundhouse_gateway.workers.shared import Shared, State
from roundhouse_gateway.workers.tokens import Kept
from roundhouse_gateway.workers.worker import FAULT, Worker

log = logging.getLogger("roundhouse.gateway.workers")

HUNG_SECONDS: Final = 30.0
FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 10.0
LOOK_SECONDS: Final = 1.0
FULL_SECONDS: Final = 0.02
"""How long nothing is accepted where no worker takes connections, or all their queues are full."""
AT_ONCE: Final = 64

Run = Callable[[int, Ends], int]
"""What a worker does, by its number: its exit status."""


class Supervisor:
    """`doors` are the listening sockets of clients and of the cluster."""

    def __init__(self, shared: Shared, doors: tuple[socket.socket, socket.socket], run: Run) -> None:
        self._shared = shared
        self._clients, self._cluster = doors
        self._run = run
        self._workers: dict[int, Worker] = {}
        self._due: dict[int, float] = dict.fromkeys(range(shared.workers), 0.0)
        """When workers that are not there are to be started."""
        self._pauses = [FIRST_PAUSE_SECONDS] * shared.workers
        self._been_up: set[int] = set()
        self._tokens = Kept(time.monotonic)
        self._stopping = False
        self._status = 0
        self._turn = 0
        self._selector = selectors.DefaultSelector()
        self._signals, self._signalled = socket.socketpair()
        self._accepting = False
        self._rests_until = 0.0
        self._left: list[tuple[socket.socket, bool]] = []
        """Connections that no worker had room for yet, and whether they are of clients."""

    def serve(self) -> int:
        """Until all workers have ended after a signal, or one cannot start. The exit status."""
        for each in (self._signals, self._signalled, self._clients, self._cluster):
            each.setblocking(False)
        signal.set_wakeup_fd(self._signalled.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)  # what comes is read from the descriptor
        self._selector.register(self._signals, selectors.EVENT_READ, self._on_signals)
        looked_at = 0.0
        while self._workers or not self._stopping:
            self._start_due()
            for key, _ in self._selector.select(self._timeout()):
                key.data()
            self._reap()
            self._accept_or_not()
            if time.monotonic() - looked_at > LOOK_SECONDS:
                looked_at = time.monotonic()
                self._end_hung()
        return self._status

    def _timeout(self) -> float:
        now = time.monotonic()
        waits = [due - now for due in self._due.values()] if not self._stopping else []
        idle = LOOK_SECONDS if self._accepting else FULL_SECONDS
        return max(0.0, min([idle, *waits]))

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
        for each in (self._signals, self._signalled, self._clients, self._cluster):
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
                worker.up = True
                self._been_up.add(worker.number)
            case Leaving():
                worker.no_more()
            case Put(name, content, seconds):
                self._tokens.put(name, content, seconds)
            case Ask(number, name, take):
                answer = Answer(number, self._tokens.get(name, take=take))
                worker.tell(msgspec.msgpack.encode(answer))

    def _reap(self) -> None:
        for worker in list(self._workers.values()):
            pid, status, usage = os.wait4(worker.pid, os.WNOHANG)
            if pid:
                self._ended(worker, os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime)

    def _ended(self, worker: Worker, status: int, cpu_seconds: float) -> None:
        number = worker.number
        del self._workers[number]
        with suppress(KeyError, ValueError):
            self._selector.unregister(worker.ends.messages)
        worker.ends.close()
        self._shared.forget(number, cpu_seconds)
        what = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        if self._stopping:
            self._status = self._status or max(status, 0)
        else:
            self._lost(number, what, status=status, lived=time.monotonic() - worker.started)

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
        now = time.monotonic()
        for number, worker in self._workers.items():
            beat = self._shared.posts[number].beat
            if beat and now - beat > HUNG_SECONDS:
                log.error("worker %d was not heard of for %g s; ending it", number, now - beat)
                worker.signal(signal.SIGKILL)

    def _accept_or_not(self) -> None:
        """Connections wait in the kernel while nobody can take them."""
        self._left = [each for each in self._left if not self._handed(*each)]
        up = any(worker.up for worker in self._workers.values())
        can = up and not self._left and time.monotonic() >= self._rests_until
        if can != self._accepting:
            for door in (self._clients, self._cluster):
                if can:
                    self._selector.register(door, selectors.EVENT_READ, partial(self._accept, door))
                else:
                    self._selector.unregister(door)
        self._accepting = can
        if self._stopping and not up and self._clients.fileno() >= 0:
            self._clients.close()
            self._cluster.close()

    def _accept(self, door: socket.socket) -> None:
        for _ in range(AT_ONCE):
            if self._left:
                return
            try:
                connection, _ = door.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                log.warning("connections cannot be taken: %s", error)
                self._rests_until = time.monotonic() + LOOK_SECONDS
                return
            if not self._handed(connection, door is self._clients):
                self._left.append((connection, door is self._clients))

    def _handed(self, connection: socket.socket, of_client: bool) -> bool:
        """Whether a worker has room for it; then it is no longer open here."""
        done = any(worker.hand(connection, of_client=of_client) for worker in self._in_order())
        if done:
            connection.close()
        return done

    def _in_order(self) -> Iterator[Worker]:
        """Who is to have the next connection, the first first; among equals they take turns."""
        self._turn += 1
        up = [worker for worker in self._workers.values() if worker.up]
        count = self._shared.workers

        def rank(worker: Worker) -> tuple[bool, int, int]:
            post = self._shared.posts[worker.number]
            open_now = worker.handed - post.taken + self._shared.connections(worker.number)
            return post.state is not State.READY, open_now, (worker.number - self._turn) % count

        return iter(sorted(up, key=rank))

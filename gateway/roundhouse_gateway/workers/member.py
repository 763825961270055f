"""One worker of a gateway: what it takes from the supervisor and its siblings, and what it tells them.

It has the cluster, its clients and its engines to itself; limits, load, metrics and readiness are those of
all.
"""

import asyncio
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import count
from typing import Final

import msgspec

from roundhouse_gateway.errors import NotReadyError
from roundhouse_gateway.realtime.tokens import Token
from roundhouse_gateway.workers.book import SharedBook
from roundhouse_gateway.workers.handed import Handed
from roundhouse_gateway.workers.key_table import KeyTable
from roundhouse_gateway.workers.messages import Answer, Ask, Leaving, Put, Up
from roundhouse_gateway.workers.series import SummedNumbers
from roundhouse_gateway.workers.shared import Shared, State

log = logging.getLogger("roundhouse.gateway.workers")

BEAT_SECONDS: Final = 0.1
"""How often it is told what nobody is told of at once."""
MISSED_BEATS: Final = 10
"""After so many those who wait look for a place, though nobody has woken them."""
LEAVING: Final = (State.DRAINING, State.DRAINED)
ANSWER_SECONDS: Final = 2.0
LEAVE_SECONDS: Final = 5.0
LONGEST_MESSAGE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Ends:
    """A worker's ends of what leads to the supervisor: both doors, and messages."""

    clients: socket.socket
    cluster: socket.socket
    messages: socket.socket

    def close(self) -> None:
        for each in (self.clients, self.cluster, self.messages):
            each.close()


class Member:
    """Worker `own`. Made within the running loop."""

    def __init__(self, shared: Shared, own: int, ends: Ends) -> None:
        self._shared = shared
        self._own = own
        self._post = shared.posts[own]
        self._messages = ends.messages
        self._answers: dict[int, asyncio.Future[bytes | None]] = {}
        self._asked = 0
        self.clients = Handed(ends.clients, "the clients' port", self._post.took)
        self.cluster = Handed(ends.cluster, "the cluster's port", lambda: None)
        self.numbers = SummedNumbers(shared.arenas, own, shared.processes(own))
        self.book = SharedBook(shared.arenas, own, shared.lock, self._wake)
        self.book.hears = shared.hears

    def limits(self) -> KeyTable:
        return self._shared.limits(self._own)

    @property
    def workers(self) -> int:
        return self._shared.workers

    @property
    def restarts(self) -> int:
        """How often any of them was replaced."""
        return sum(post.restarts for post in self._shared.posts)

    def reason_against(self, own: str | None) -> str | None:
        """Why requests should not come to this gateway; `own` is what this worker has against it."""
        if own is not None:
            return own
        if self._post.state in LEAVING:
            return "draining"
        waited_for = sum(post.state in (State.ABSENT, State.STARTING) for post in self._shared.posts)
        if waited_for:
            return f"{waited_for} of {self.workers} workers have not read the cluster yet"
        return None

    @asynccontextmanager
    async def working(
        self, reason_against: Callable[[], str | None], stop: Callable[[], None]
    ) -> AsyncIterator[None]:
        """Tells of itself during the block; `stop` is called when the supervisor is gone."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._messages, self._hear, stop)
        loop.add_reader(self._shared.wakes[self._own], self._on_wake)
        self._post.pid = os.getpid()
        beating = asyncio.create_task(self._beat(reason_against))
        try:
            yield
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)
            loop.remove_reader(self._shared.wakes[self._own])
            loop.remove_reader(self._messages)

    def up(self) -> None:
        """It takes connections from now on."""
        self._say(Up())

    async def leave(self) -> None:
        """Takes the last of clients that were on the way. The supervisor hands out no more of them then."""
        await self._leave(self.clients, of_clients=True)

    async def part(self) -> None:
        """The same for the cluster, which looks after those that drain until they have."""
        await self._leave(self.cluster, of_clients=False)

    async def _leave(self, door: Handed, *, of_clients: bool) -> None:
        self._say(Leaving(of_clients))
        with suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_SECONDS):
                await door.ended.wait()

    def drain(self) -> None:
        self._post.state = State.DRAINING

    async def others_drained(self) -> None:
        """Waits for those that end as this one does, so that what is told of the load is told to the last."""
        self._post.state = State.DRAINED
        others = [post for post in self._shared.posts if post is not self._post]
        while any(post.state is State.DRAINING for post in others):  # noqa: ASYNC110 - other processes'
            await asyncio.sleep(BEAT_SECONDS)

    async def put(self, name: str, token: Token, seconds: int) -> None:
        """As `Tokens` has it: the supervisor keeps them, so each is known to all workers."""
        if not self._say(Put(name, msgspec.msgpack.encode(token), seconds)):
            raise NotReadyError("The gateway cannot keep a token just now; ask for it again.")

    async def get(self, name: str) -> Token | None:
        found = await self._ask(name, take=False)
        return None if found is None else msgspec.msgpack.decode(found, type=Token)

    async def take(self, name: str) -> bool:
        return await self._ask(name, take=True) is not None

    async def close(self) -> None:
        """As `Tokens` has it."""

    async def _ask(self, name: str, *, take: bool) -> bytes | None:
        self._asked += 1
        number, answer = self._asked, asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        try:
            asked = self._say(Ask(number, name, take))
            async with asyncio.timeout(ANSWER_SECONDS if asked else 0):
                found: bytes | None = await answer
                return found
        except TimeoutError:
            raise NotReadyError("The gateway does not find its tokens just now; try again.") from None
        finally:
            del self._answers[number]

    async def _beat(self, reason_against: Callable[[], str | None]) -> None:
        for beats in count():
            self._post.beat = time.monotonic()
            state = self._post.state
            if state not in LEAVING:
                if reason_against() is None:
                    self._post.state = State.READY
                elif state is State.ABSENT:
                    self._post.state = State.STARTING
            self.numbers.publish()
            self.book.look()
            if beats % MISSED_BEATS == 0:
                self.book.called()
            await asyncio.sleep(BEAT_SECONDS)

    def _wake(self, worker: int) -> None:
        with suppress(BlockingIOError):
            os.eventfd_write(self._shared.wakes[worker], 1)

    def _on_wake(self) -> None:
        with suppress(BlockingIOError):
            os.eventfd_read(self._shared.wakes[self._own])
        self.book.called()

    def _say(self, message: Up | Leaving | Put | Ask) -> bool:
        try:
            self._messages.send(msgspec.msgpack.encode(message))
        except OSError as error:
            log.warning("the supervisor does not hear: %s", error)
            return False
        return True

    def _hear(self, stop: Callable[[], None]) -> None:
        with suppress(BlockingIOError):
            while True:
                try:
                    heard = self._messages.recv(LONGEST_MESSAGE)
                except ConnectionError:
                    heard = b""
                if not heard:
                    log.critical("the supervisor is gone; ending")
                    asyncio.get_running_loop().remove_reader(self._messages)
                    stop()
                    return
                answer = msgspec.msgpack.decode(heard, type=Answer)
                waiting = self._answers.get(answer.number)
                if waiting is not None and not waiting.done():
                    waiting.set_result(answer.found)

"""The supervisor with real processes under it, which do nothing but come up and end."""

import asyncio
import errno
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Protocol
from unittest.mock import patch

import msgspec
import pytest

from roundhouse_gateway.workers.handed import pair
from roundhouse_gateway.workers.member import Ends, Member
from roundhouse_gateway.workers.messages import Answer, Ask, Put
from roundhouse_gateway.workers.shared import Shared, State
from roundhouse_gateway.workers.supervisor import Run, Supervisor
from roundhouse_gateway.workers.worker import Worker
from tests.support.waiting import wait_until


@pytest.fixture
def shared() -> Shared:
    return Shared.make(2, arena_bytes=1 << 20, slots=256)


class Start(Protocol):
    def __call__(self, run: Run, fork: Callable[[], int] = os.fork) -> BaseProcess:
        """A supervisor's process: of two that do what is given."""


@pytest.fixture
def start(shared: Shared) -> Iterator[Start]:
    started: list[BaseProcess] = []

    def supervise(run: Run, fork: Callable[[], int]) -> None:
        doors = socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0))
        with patch("os.fork", fork):
            os._exit(Supervisor(shared, doors, run).serve())

    def begin(run: Run, fork: Callable[[], int] = os.fork) -> BaseProcess:
        process = get_context("fork").Process(target=supervise, args=(run, fork))
        process.start()
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.join(60)
    for pid in filter(None, (post.pid for post in shared.posts)):  # where they have not ended with it
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def wait_for(shared: Shared, *states: State) -> None:
    wait_until(
        lambda: [post.state for post in shared.posts] == list(states),
        seconds=60,
        what=f"the workers are {states}",
        every=0.02,
    )


async def work(shared: Shared, own: int, ends: Ends, signals: int) -> None:
    """Until so many signals have come, or the supervisor has gone; then it waits for the other one."""
    member, stop, come = Member(shared, own, ends), asyncio.Event(), 0

    def on_signal() -> None:
        nonlocal come
        come += 1
        if come == 1:
            member.drain()
        shared.posts[own].took()  # so that the test knows: two signals at once are one
        if come == signals:
            stop.set()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, on_signal)
    async with member.working(lambda: None, stop.set):
        member.up()
        await stop.wait()
        await member.others_drained()


def test_a_second_signal_does_not_wake_one_that_has_drained(shared: Shared, start: Start) -> None:
    def run(own: int, ends: Ends) -> int:
        asyncio.run(work(shared, own, ends, signals=1 + own))
        return 0

    supervisor = start(run)
    wait_for(shared, State.READY, State.READY)
    for after in (State.DRAINED, None):
        assert supervisor.pid
        os.kill(supervisor.pid, signal.SIGTERM)
        if after:
            wait_for(shared, after, State.DRAINING)
            wait_until(lambda: shared.posts[1].taken, seconds=60, what="it has heard", every=0.02)
    supervisor.join(60)
    assert supervisor.exitcode == 0


def test_a_fork_that_fails_is_tried_again_and_leaves_nothing_open(shared: Shared, start: Start) -> None:
    fork, forks = os.fork, 0

    def seldom() -> int:
        nonlocal forks
        forks += 1
        if forks == 3:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return fork()

    def run(own: int, ends: Ends) -> int:
        asyncio.run(work(shared, own, ends, signals=1))
        return 0

    supervisor = start(run, seldom)
    wait_for(shared, State.READY, State.READY)
    opened, victim = Path(f"/proc/{supervisor.pid}/fd"), shared.posts[0].pid
    before = len(list(opened.iterdir()))
    os.kill(victim, signal.SIGKILL)
    wait_until(
        lambda: ((post := shared.posts[0]).restarts and post.state is State.READY) or supervisor.exitcode,
        seconds=60,
        what="another has taken its place",
        every=0.02,
    )
    # It may have been counted before it had closed what only the second of its workers uses.
    wait_until(lambda: len(list(opened.iterdir())) <= before, seconds=60, what="no more are open than before")
    assert supervisor.pid
    os.kill(supervisor.pid, signal.SIGTERM)
    supervisor.join(60)
    assert supervisor.exitcode == 0


def test_a_worker_that_hangs_with_the_lock_does_not_hang_the_supervisor(shared: Shared, start: Start) -> None:
    def run(own: int, ends: Ends) -> int:
        def hang() -> None:
            with shared.lock:
                os.kill(os.getpid(), signal.SIGSTOP)

        async def life() -> None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, hang)
            await work(shared, own, ends, signals=1)

        asyncio.run(life())
        return 0

    with patch("roundhouse_gateway.workers.supervisor.HUNG_SECONDS", 2.0):
        start(run)
    wait_for(shared, State.READY, State.READY)
    os.kill(shared.posts[0].pid, signal.SIGUSR1)
    wait_until(lambda: not _free(shared), seconds=60, what="it hangs with the lock", every=0.02)
    os.kill(shared.posts[1].pid, signal.SIGKILL)
    wait_until(
        lambda: all(post.restarts and post.state is State.READY for post in shared.posts),
        seconds=60,
        what="both have been replaced",
    )


def _free(shared: Shared) -> bool:
    with shared.lock.within(0) as free:
        return free


def test_a_token_is_not_used_up_where_the_answer_is_lost(shared: Shared) -> None:
    """A worker whose queue of messages is full hears nothing, and tells its client to try again."""
    doors = socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0))
    with supervising(shared, doors) as supervisor:
        _loses_an_answer(supervisor, doors)


@contextmanager
def supervising(shared: Shared, doors: tuple[socket.socket, socket.socket]) -> Iterator[Supervisor]:
    """One that has started nobody."""
    supervisor = Supervisor(shared, doors, lambda *_: 0)
    yield supervisor
    for each in (*doors, supervisor._signals, supervisor._signalled, supervisor._selector):
        each.close()


def _loses_an_answer(supervisor: Supervisor, doors: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair()
    worker = Worker(0, os.getpid(), Ends(*doors, ours))  # of which only the last is used
    supervisor._take(worker, Put("token", b"x", 60))
    while worker.tell(b"x" * 1000):
        pass
    supervisor._take(worker, Ask(1, "token", take=True))
    with suppress(BlockingIOError):
        while theirs.recv(2000):
            pass
    found = []
    for number in (2, 3):
        supervisor._take(worker, Ask(number, "token", take=True))
        found.append(msgspec.msgpack.decode(theirs.recv(2000), type=Answer).found)
    assert found == [b"x", None]
    for each in (ours, theirs):
        each.close()


@pytest.mark.parametrize("of_clients", [True, False], ids=["of clients", "of the cluster"])
def test_a_worker_that_is_not_heard_of_has_connections_last(shared: Shared, of_clients: bool) -> None:
    doors = socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0))
    long_ago = time.monotonic() - 20
    with supervising(shared, doors) as supervisor:
        supervisor._workers = {
            number: Worker(
                number, os.getpid(), Ends(*doors, doors[0]), takes_clients=True, takes_cluster=True
            )
            for number in range(2)
        }

        def order(*beats: float) -> list[int]:
            for post, beat in zip(shared.posts, beats, strict=True):
                post.state, post.beat = State.READY, beat
            return [worker.number for worker in supervisor._in_order(0, of_clients=of_clients)]

        soon = time.monotonic() + 3600  # however long the test takes
        shared.arenas[1].cells[shared.open[1]] = 500
        assert order(soon, soon) == [0, 1]
        assert order(long_ago, soon) == [1, 0]
        assert order(long_ago, long_ago) == [0, 1]

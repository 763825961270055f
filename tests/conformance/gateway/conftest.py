"""Gateways for tests, in worlds of their own. Those that tests share start once a session."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conformance.gateway.keys import KEYS, hand_to_owner
from tests.conformance.gateway.loop_thread import LoopThread
from tests.conformance.gateway.world import World, a_world

__all__ = ["World", "a_world"]


@pytest.fixture(scope="session")
def loop_thread() -> Iterator[LoopThread]:
    thread = LoopThread()
    yield thread
    thread.close()


@pytest.fixture(scope="session")
def shared_world(loop_thread: LoopThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with a_world(loop_thread, tmp_path_factory.mktemp("gateway"), {}) as made:
        yield made


@pytest.fixture
def world(shared_world: World) -> Iterator[World]:
    """The gateway that most tests share, empty before and after."""
    yield shared_world
    shared_world.clear()


@pytest.fixture(scope="session")
def shared_keyed_world(loop_thread: LoopThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with a_world(loop_thread, tmp_path_factory.mktemp("keyed-gateway"), {"KEYS_NAMESPACE": KEYS}) as made:
        hand_to_owner(made)
        yield made


@pytest.fixture
def keyed(shared_keyed_world: World) -> Iterator[World]:
    """A gateway that asks for keys, with an owner's, that tests share; empty before and after."""
    yield shared_keyed_world
    shared_keyed_world.clear()


@pytest.fixture(scope="session")
def slow_world(loop_thread: LoopThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with a_world(loop_thread, tmp_path_factory.mktemp("slow-gateway"), {"FAST_LANE": "false"}) as made:
        yield made


@pytest.fixture(params=["fast lane", "ordinary routes"])
def either_world(request: pytest.FixtureRequest) -> Iterator[World]:
    """A gateway with the fast lane, and one without: nobody is to see a difference."""
    fast = request.param == "fast lane"
    made: World = request.getfixturevalue("shared_world" if fast else "slow_world")
    made.fast = fast
    yield made
    made.clear()


@pytest.fixture
def own_world(loop_thread: LoopThread, tmp_path: Path) -> Iterator[Callable[[Mapping[str, str]], World]]:
    """Starts a gateway with settings of the test's own."""
    with ExitStack() as stack:
        yield lambda settings: stack.enter_context(a_world(loop_thread, tmp_path, settings))

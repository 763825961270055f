"""Gateways for tests, in worlds of their own. Those that tests share start once a session."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest

from tests.conformance.gateway.keys import KEYS, hand_to_owner
from tests.conformance.gateway.loop_thread import LoopThread
from tests.conformance.gateway.process import IMPATIENT
from tests.conformance.gateway.world import World, a_world

__all__ = ["World", "a_world"]


@pytest.fixture(scope="session")
def loop_thread() -> Iterator[LoopThread]:
    thread = LoopThread()
    yield thread
    thread.close()


@pytest.fixture(scope="session")
def shared_worlds(
    loop_thread: LoopThread, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[bool, bool], World]]:
    """The gateway with the fast lane or without, patient or not: each starts when it is first asked for."""
    with ExitStack() as stack:

        @cache
        def shared(fast: bool, patient: bool) -> World:
            settings = ({} if fast else {"FAST_LANE": "false"}) | ({} if patient else IMPATIENT)
            made = stack.enter_context(a_world(loop_thread, tmp_path_factory.mktemp("gateway"), settings))
            made.fast = fast
            return made

        yield shared


def _shared(request: pytest.FixtureRequest, *, fast: bool) -> World:
    worlds: Callable[[bool, bool], World] = request.getfixturevalue("shared_worlds")
    return worlds(fast, request.node.get_closest_marker("impatient") is None)


@pytest.fixture
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """The gateway that most tests share, empty before and after."""
    made = _shared(request, fast=True)
    yield made
    made.clear()


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


@pytest.fixture(params=["fast lane", "ordinary routes"])
def either_world(request: pytest.FixtureRequest) -> Iterator[World]:
    """A gateway with the fast lane, and one without: nobody is to see a difference."""
    made = _shared(request, fast=request.param == "fast lane")
    yield made
    made.clear()


@pytest.fixture
def own_world(loop_thread: LoopThread, tmp_path: Path) -> Iterator[Callable[[Mapping[str, str]], World]]:
    """Starts a gateway with settings of the test's own."""
    with ExitStack() as stack:
        yield lambda settings: stack.enter_context(a_world(loop_thread, tmp_path, settings))

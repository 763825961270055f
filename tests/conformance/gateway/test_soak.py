"""Clients of every kind for a long time, engines, models and keys that come and go: nothing is left behind.

`SOAK_SECONDS` says how long (default 120), `SOAK_WORKERS` how many workers the gateway has (default 1).

The last third of the time is compared with the middle one:
after a warm-up, a process that keeps a little of each request that is over grows with the time.
"""

import json
import os
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Final

import pytest

from tests.conformance.engine.streaming import go_forward_samples
from tests.conformance.gateway.conftest import World, a_world
from tests.conformance.gateway.keys import KEYS
from tests.conformance.gateway.live import live
from tests.conformance.gateway.loop_thread import LoopThread
from tests.conformance.gateway.soak.churn import LIMITED, Churn
from tests.conformance.gateway.soak.crowd import Crowd
from tests.conformance.gateway.soak.reading import Reading, memory_of, read, series
from tests.conformance.gateway.soak.tally import Tally
from tests.support.store import a_store
from tests.support.waiting import wait_until

SECONDS: Final = float(os.environ.get("SOAK_SECONDS", "120"))
LOOKS: Final = 60
STEP_SECONDS: Final = 0.4
LISTENER_SECONDS: Final = 45.0
"""How long an engine of sessions and the store live: both are slow to come."""
GROWTH_MIB: Final = 8.0
"""By which the median of the last third may be above that of the middle third: less than noise."""
MOST_WITH_STORE: Final = 50
"""Each key asks it one thing at a time."""
BROKEN_WITH_STORE: Final = 4
LEAST_RIGHT: Final = {
    "upload": 0.8,
    "file first": 0.8,
    "chat": 0.8,
    "stream": 0.8,
    "embed": 0.8,
    "rerank": 0.8,
}
"""Which share of a kind is answered as it wished, although engines die all the time."""
SETTINGS: Final = {
    "WORKERS": os.environ.get("SOAK_WORKERS", "1"),
    "KEYS_NAMESPACE": KEYS,
    "HEADER_SECONDS": "10",
    "JSON_LIMIT_BYTES": str(1 << 20),
    "JSON_ROOM_BYTES": str(64 << 20),
    "ENGINE_IDLE_SECONDS": "20",
    "CLIENT_IDLE_SECONDS": "10",
    "HOLD_LIMIT_PER_VARIANT": "8",
}


@pytest.fixture
def churn(loop_thread: LoopThread, tmp_path: Path) -> Iterator[Churn]:
    """A gateway with keys, limits, metrics and log on, before engines that are processes of their own."""
    chance = random.Random(7)  # noqa: S311  # the same churn each time
    with ExitStack() as stack:
        store = stack.enter_context(a_store())
        engines = stack.enter_context(live(tmp_path))
        settings = {**SETTINGS, "LIMITS_STORE_URL": store.url}
        made = Churn(stack.enter_context(a_world(loop_thread, tmp_path, settings)), engines, store, chance)
        stack.callback(made.end)
        made.begin()
        yield made


@pytest.mark.soak
@pytest.mark.timeout(SECONDS + 600)
def test_mixed_load_leaves_nothing_behind(churn: Churn) -> None:
    world = churn.world
    crowd = Crowd(world, churn.keys, churn.guests, go_forward_samples())
    try:
        crowd.each_once()
        before = _settled(churn)
        crowd.begin()
        memory = list(_live(churn))
        crowd.end()
        after = _settled(churn, before)
    finally:
        crowd.close()
    said = f"\nbefore: {before}\nafter: {after}\n{_curve(memory)}\n{crowd.tally}"
    print(said)
    _check_answers(crowd.tally, said)
    _check_flat(memory, said)
    _check_series(world, churn, said)
    _check_places(churn)
    assert world.gateway.stop() == 0
    assert "Traceback" not in world.gateway.log_path.read_text()


def _live(churn: Churn) -> Iterator[float]:
    """Sixty looks at the memory, evenly over the time, while everything changes."""
    over = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        changing = pool.submit(_change, churn, over)
        try:
            for _ in range(LOOKS):
                time.sleep(SECONDS / LOOKS)
                yield memory_of(churn.world.gateway)
        finally:
            over.set()
        changing.result()


def _change(churn: Churn, over: threading.Event) -> None:
    replaced = time.monotonic()
    while not over.wait(STEP_SECONDS):
        churn.step()
        if time.monotonic() - replaced > LISTENER_SECONDS:
            churn.replace_listener()
            churn.restart_store()
            replaced = time.monotonic()


def _settled(churn: Churn, before: Reading | None = None) -> Reading:
    """What is held when nobody asks for anything and connections that are kept for a while are gone."""
    churn.settle()
    last: list[Reading] = []

    def quiet() -> bool:
        last.append(read(churn.world.gateway))
        assert last[-1].idle, last[-1]
        assert set(last[-1].peers) <= {0, churn.world.api.port, churn.store.port}, last[-1]
        if before is not None:
            _check_nothing_left(churn, before, last[-1])
        return True

    wait_until(quiet, seconds=120, what="nothing is in hand, and nothing is left", every=1)
    return last[-1]


def _check_answers(tally: Tally, said: str) -> None:
    assert tally.wrong == [], said
    shares = {kind: tally.share(kind) for kind in LEAST_RIGHT}
    assert all(shares[kind] >= least for kind, least in LEAST_RIGHT.items()), f"{shares}{said}"


def _check_flat(memory: list[float], said: str) -> None:
    third = len(memory) // 3
    grown = median(memory[2 * third :]) - median(memory[third : 2 * third])
    assert grown < GROWTH_MIB, f"grown by {grown:.1f} MiB{said}"


def _check_nothing_left(churn: Churn, before: Reading, after: Reading) -> None:
    """Of connections with the store as many stay as were wanted at once.

    Those that broke while nobody used them are noticed when they are wanted next; no list has them till then.
    """
    said = f"\nbefore: {before}\nafter: {after}"
    assert after.gauges == before.gauges, said
    with_store = after.peers[churn.store.port] - before.peers[churn.store.port]
    assert after.fds - with_store <= before.fds + BROKEN_WITH_STORE, said
    assert after.peers[churn.store.port] <= MOST_WITH_STORE, said
    assert after.threads <= before.threads + _pool_threads(), said


def _pool_threads() -> int:
    """Those of the executor that writes forms to disk: it makes them as they are wanted, up to so many."""
    return min(32, (os.cpu_count() or 1) + 4)


def _check_series(world: World, churn: Churn, said: str) -> None:
    """Of models that are gone none is left for long, however many there have been."""
    counted = series(world.gateway)
    print(f"{churn.made} guests; series: {counted.total()}, most: {counted.most_common(5)}")
    assert counted.total() < 20_000, said


def _check_places(churn: Churn) -> None:
    """The key with so many places has all of them again."""
    churn.world.gateway.key = churn.keys.limited
    places = LIMITED.max_concurrent or 0
    asked = json.dumps({"model": "qwen", "messages": [{"role": "user", "content": "x"}], "order": "wait 1"})

    def ask(_: int) -> int:
        headers = {"Content-Type": "application/json"}
        return churn.world.gateway.request("POST", "/v1/chat/completions", asked.encode(), headers).status

    with ThreadPoolExecutor(places) as pool:
        wait_until(
            lambda: list(pool.map(ask, range(places))) == [200] * places,
            seconds=60,
            what=f"all {places} places of the key are free",
        )


def _curve(memory: list[float]) -> str:
    return "MiB: " + " ".join(f"{each:.1f}" for each in memory)

"""How long an engine's server keeps others waiting while it works: by its own doing, and no other's.

On a machine that has much to do threads wait for a processor, and the clock on the wall cannot tell that
from a library that holds Python's lock. The kernel can: it counts how long a thread was ready and did not
run, what the host of a virtual machine gave to others, and how long a process computed. A server whose lock
is held for a tenth of a second computes for a tenth of a second before it answers, and it is no processor
that its event loop waits for.
"""

import contextlib
import http.client
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from tests.conformance.engine.running import Engine
from tests.support.processors import queued_seconds, queued_since, stolen_seconds

STALL_SECONDS = 0.05
"""What is promised."""
_TRIES = 3
"""What is seen in each of them is the engine's."""
_SEARCHES = 20
_FEWEST = 5
_PAUSE_SECONDS = 0.002


def assert_others_are_answered(engine: Engine, work: Callable[[], object]) -> None:
    """While it works, each time that somebody asks whether it lives. `work` takes half a second at least."""
    found = []
    for _ in range(_TRIES):
        seen = stalls(engine, work)
        assert len(seen) >= _FEWEST, f"the work was done before anybody asked {_FEWEST} times: {seen}"
        if max(seen) < STALL_SECONDS:
            return
        found.append([round(each, 4) for each in sorted(seen)[-3:]])
    raise AssertionError(f"the longest stalls of {_TRIES} tries, in seconds: {found}")


def assert_others_are_kept_waiting(engine: Engine, work: Callable[[], object]) -> None:
    """Twice as long as is promised, at least: what shows that the other would find it."""
    found = []
    for _ in range(_SEARCHES):
        found.append(max(stalls(engine, work)))
        if found[-1] > 2 * STALL_SECONDS:
            return
    raise AssertionError(f"the longest stalls of {_SEARCHES} tries, in seconds: {found}")


def stalls(engine: Engine, work: Callable[[], object]) -> list[float]:
    """The seconds for which the server kept each of many questions waiting, until the work is done.

    Less than it was on a machine that is busy: what others took is taken off, and may be taken off twice.
    """
    with contextlib.closing(engine.connect()) as probe:
        ask(probe)
        return meanwhile(work, lambda: _stall(engine, probe))


def meanwhile(work: Callable[[], object], look: Callable[[], float]) -> list[float]:
    """What was seen each time until the work was done. Raises what it does."""
    seen = []
    with ThreadPoolExecutor(1) as worker:
        working = worker.submit(work)
        while not working.done():
            seen.append(look())
            time.sleep(_PAUSE_SECONDS)
        working.result()
    return seen


def _stall(engine: Engine, probe: http.client.HTTPConnection) -> float:
    own, queued = queued_seconds("self"), queued_seconds(engine.process.pid)
    begun, computed, stolen = time.monotonic(), engine.processor_seconds, stolen_seconds()
    ask(probe)
    wall, computed = time.monotonic() - begun, engine.processor_seconds - computed
    waited = _waited(engine, own, queued)
    return max(min(wall - waited, computed) - (stolen_seconds() - stolen), 0.0)


def _waited(engine: Engine, own: dict[str, float], queued: dict[str, float]) -> float:
    """For a processor, since then: by this process, by the event loop, and by whom it may have waited for.

    Whoever holds Python's lock and has no processor keeps the event loop waiting; it is one thread at a time.
    """
    waits = queued_since(queued, queued_seconds(engine.process.pid))
    loop = waits.pop(str(engine.process.pid), 0.0)
    return sum(queued_since(own, queued_seconds("self")).values()) + loop + max(waits.values(), default=0.0)


def ask(probe: http.client.HTTPConnection) -> None:
    """Whether it lives."""
    probe.request("GET", "/health/live")
    response = probe.getresponse()
    response.read()
    assert response.status == 200

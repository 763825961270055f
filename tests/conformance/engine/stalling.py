"""How long an engine's server keeps others waiting while it works: by its own doing, and no other's.

On a machine that has much to do threads wait for a processor, and the clock on the wall cannot tell that
from a library that holds Python's lock. The kernel can: it counts how long a thread was ready and did not
run, and how long a process computed. A server whose lock is held for a tenth of a second computes for a tenth
of a second before it answers, and it is no processor that its event loop waits for.
"""

import contextlib
import http.client
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.conformance.engine.running import Engine

STALL_SECONDS = 0.05
"""What is promised."""
_TRIES = 3
"""What is seen in each of them is the engine's."""
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


def stalls(engine: Engine, work: Callable[[], object]) -> list[float]:
    """The seconds for which the server kept each of many questions waiting, until the work is done."""
    failed: list[BaseException] = []

    def worked() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised below
            failed.append(error)

    working = threading.Thread(target=worked, daemon=True)
    seen = []
    with contextlib.closing(engine.connect()) as probe:
        _ask(probe)
        working.start()
        while working.is_alive():
            seen.append(_stall(engine, probe))
            time.sleep(_PAUSE_SECONDS)
    if failed:
        raise failed[0]
    return seen


def _stall(engine: Engine, probe: http.client.HTTPConnection) -> float:
    begun, computed, waited = time.monotonic(), engine.processor_seconds, _waited_seconds(engine)
    _ask(probe)
    wall = time.monotonic() - begun - (_waited_seconds(engine) - waited)
    return max(min(wall, engine.processor_seconds - computed), 0.0)


def _ask(probe: http.client.HTTPConnection) -> None:
    probe.request("GET", "/health/live")
    response = probe.getresponse()
    response.read()
    assert response.status == 200


def _waited_seconds(engine: Engine) -> float:
    """For a processor, by the server's event loop and by this thread, ever."""
    loop = f"/proc/{engine.process.pid}/task/{engine.process.pid}/schedstat"
    return sum(int(Path(path).read_text().split()[1]) for path in (loop, "/proc/thread-self/schedstat")) / 1e9

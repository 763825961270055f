"""What streams and sessions lose in time on their way through the gateway, against the way past it.

The gateway has the first core to itself; clients and engine, each in a process of its own, share the last.
Both ways are measured in turns. A turn counts when the load came in time, both ways, and nobody else had the
gateway's core; a figure of which no turn counts is not given.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from statistics import median
from typing import Final

from tests.bench.backends import backend
from tests.bench.figure import Figure, Result
from tests.bench.gateway import CHAT, SPEECH, a_gateway, load_from_last_core
from tests.bench.live_clients import Found, found
from tests.bench.machine import pin

ROUNDS: Final = 3
MOST_ROUNDS: Final = 4
LATE_MS: Final = 5.0
"""So late may the load be itself, at the 99th percentile: when it is sent, and when it is heard directly."""
WAITED: Final = 0.05
"""For so much of the time may others have had the gateway's core."""
_TALKS: Final = replace(SPEECH, interfaces=("Batch", "Realtime"), streaming="Chunked")

LATER: Final = Figure(
    "gateway", "frames of 200 streams, later than direct, median", "ms", "lower", budget=1, noise=0.25
)
LATER_99: Final = Figure("gateway", "the same, 99th percentile", "ms", "lower", budget=5, noise=0.25)
FIRST: Final = Figure(
    "gateway", "first frame, later than direct, median", "ms", "lower", budget=1, noise=0.25
)
EVENT: Final = Figure("gateway", "processor time of a frame of a stream", "µs", "lower")
AUDIO: Final = Figure("gateway", "audio of 1,000 sessions, later than direct, median", "ms", "lower")
AUDIO_99: Final = Figure(
    "gateway", "audio of 1,000 sessions, 99th percentile", "ms", "lower", budget=100, noise=0.1
)
BACK_99: Final = Figure(
    "gateway", "events of 1,000 sessions, 99th percentile", "ms", "lower", budget=100, noise=0.1
)
SHARE: Final = Figure("gateway", "processor of 1,000 sessions", "% of core", "lower", budget=100, noise=0.1)
FRAME: Final = Figure("gateway", "processor time of a frame of a session", "µs", "lower")
FIGURES: Final = (LATER, LATER_99, FIRST, EVENT, AUDIO, AUDIO_99, BACK_99, SHARE, FRAME)

Pairs = Sequence[tuple[Found, Found]]
"""What was found through the gateway, and what past it."""


def measure() -> Iterator[Result]:
    with backend("live") as (engine_pid, engine_port), load_from_last_core() as first:
        past = partial(found, port=engine_port, engine_port=engine_port, pid=engine_pid)
        with a_gateway(engine_port, variants=1, like=CHAT, keyed=True) as (gateway, _):
            pid, key = gateway.process.pid, gateway.key
            pin(pid, first)
            through = partial(found, port=gateway.port, engine_port=engine_port, pid=pid)
            through("streams", key=key)  # the gateway's connections to the engine are there then
            yield from _of_streams(
                _pairs("streams", lambda: (through("streams", key=key), past("streams", key=key)))
            )
        with a_gateway(engine_port, variants=1, like=_TALKS, keyed=True) as (gateway, _):
            pid, key = gateway.process.pid, gateway.key
            pin(pid, first)
            through = partial(found, port=gateway.port, engine_port=engine_port, pid=pid)
            yield from _of_sessions(
                _pairs("sessions", lambda: (through("sessions", key=key), past("sessions", key=key)))
            )


def _pairs(what: str, pair: Callable[[], tuple[Found, Found]]) -> Pairs:
    """Those that count."""
    counted: list[tuple[Found, Found]] = []
    for _ in range(MOST_ROUNDS):
        ours, direct = pair()
        if trouble := _trouble(ours, direct):
            print(f"gateway   a turn of {what} does not count: {trouble}", flush=True)
        else:
            counted.append((ours, direct))
        if len(counted) == ROUNDS:
            break
    if not counted:
        print(f"gateway   no figure of {what}: none of {MOST_ROUNDS} turns counts", flush=True)
    return counted


def _trouble(ours: Found, direct: Found) -> str:
    """Why the two say little about the gateway; empty where they do not."""
    late = max(ours.own_99, direct.own_99)
    if late > LATE_MS:
        return f"the load itself was {late:.1f} ms late"
    if direct.late_99 > LATE_MS:
        return f"what came past the gateway was {direct.late_99:.1f} ms late"
    if ours.waited > WAITED * ours.seconds:
        return f"others had the gateway's core for {100 * ours.waited / ours.seconds:.0f} % of the time"
    return ""


def _of_streams(pairs: Pairs) -> Iterator[Result]:
    if pairs:
        yield Result(LATER, median(ours.median - direct.median for ours, direct in pairs))
        yield Result(LATER_99, median(ours.late_99 - direct.late_99 for ours, direct in pairs))
        yield Result(FIRST, median(ours.first - direct.first for ours, direct in pairs))
        yield Result(EVENT, median(1e6 * ours.used / ours.frames for ours, _ in pairs))


def _of_sessions(pairs: Pairs) -> Iterator[Result]:
    if pairs:
        yield Result(AUDIO, median(ours.median - direct.median for ours, direct in pairs))
        yield Result(AUDIO_99, median(ours.late_99 for ours, _ in pairs))
        yield Result(BACK_99, median(ours.back_99 for ours, _ in pairs))
        yield Result(SHARE, median(100 * ours.used / ours.seconds for ours, _ in pairs))
        yield Result(FRAME, median(1e6 * ours.used / (2 * ours.frames) for ours, _ in pairs))

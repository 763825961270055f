"""How many replicas a variant under `mode: Demand` should have, from what the gateways have in hand of it.

Up at once where requests wait, and soon where more are in flight than the replicas are meant for. Down only
when the peak of a whole window would have fitted fewer, and to none only after `idleSeconds` without a
request and once a start has succeeded. What is not known (a gateway is silent, the operator has just begun)
delays going down and nothing else: memory that is lost costs time and never capacity.

Pure: the clock is an argument. Who reads the load and who writes `replicas` is the shell's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, exp
from typing import Final

from roundhouse_api.conditions import Reason
from roundhouse_api.v1alpha1 import Scaling, ScalingMode
from roundhouse_operator.core.diagnose import Trouble
from roundhouse_operator.core.replicas import Writer

DEFAULT_TARGET: Final = 10
"""Of an engine that does not say how many requests it works on at once."""
DEFAULT_IDLE_SECONDS: Final = 300
DEFAULT_HOLD_SECONDS: Final = 300
LONGEST_WINDOW_SECONDS: Final = 300.0
"""A variant that may idle for a day need not keep its busiest hour's replicas as long."""
MEAN_SECONDS: Final = 5.0
"""What is in flight is smoothed over: a moment's crowd is no reason for another GPU."""
TOLERANCE: Final = 1.1
"""Above its target by less than that a replica goes on as it is, or load at the edge would flap."""
CLIMB_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Policy:
    """What the author wants, with defaults filled in."""

    floor: int
    ceiling: int
    target: int
    idle_seconds: float

    @property
    def window_seconds(self) -> float:
        return min(self.idle_seconds, LONGEST_WINDOW_SECONDS)

    def need(self, demand: float) -> int:
        """Replicas that the demand wants; none for none."""
        return min(ceil(demand / self.target), self.ceiling)


@dataclass(frozen=True, slots=True)
class Load:
    """Of one variant, over all gateways."""

    in_flight: int = 0
    held: int = 0
    streams: int = 0

    @property
    def demand(self) -> int:
        return self.in_flight + self.held + self.streams


NO_LOAD: Final = Load()


@dataclass(frozen=True, slots=True)
class Seen:
    """One look. `known_since`: from when on every gateway was heard; None while one is silent."""

    load: Load
    replicas: int
    ready: bool
    """Whether a pod is: until one was, no start has succeeded."""
    known_since: float | None


@dataclass(frozen=True, slots=True)
class Track:
    """What is remembered from look to look.

    `peaks` has, from the highest need to the latest, when so many replicas were last needed; there are
    never more of them than replicas.
    """

    target: int
    at: float
    demand: int
    mean: float
    peaks: tuple[tuple[int, float], ...]
    began_at: float
    busy_at: float
    ready_at: float | None


@dataclass(frozen=True, slots=True)
class Advice:
    """`again_at`: when another look may come out differently though nothing was told."""

    replicas: int
    again_at: float | None = None


def is_demand(scaling: Scaling | None) -> bool:
    return scaling is not None and scaling.mode is ScalingMode.DEMAND


def hold_seconds(scaling: Scaling) -> int:
    return DEFAULT_HOLD_SECONDS if scaling.max_hold_seconds is None else scaling.max_hold_seconds


def contradiction(scaling: Scaling | None) -> str | None:
    """Between what engine and variant say; within one resource the API server refuses it."""
    if scaling is None or scaling.min_replicas is None or scaling.max_replicas is None:
        return None
    if scaling.min_replicas <= scaling.max_replicas:
        return None
    return (
        f"spec.scaling: minReplicas {scaling.min_replicas} is above maxReplicas {scaling.max_replicas}, of "
        "which one is the engine's: set both on the variant"
    )


def conflict(writer: Writer, autoscaler: str) -> Trouble | None:
    """Why our own scaler has stopped. `autoscaler` is a HorizontalPodAutoscaler, which KEDA makes too."""
    if autoscaler:
        return Trouble(
            Reason.SCALER_CONFLICT,
            f"HorizontalPodAutoscaler {autoscaler!r} scales it too, so the operator's own scaler has "
            "stopped: delete that one (where KEDA made it, its ScaledObject), or set `scaling.mode: Manual`",
        )
    if writer.rival:
        return Trouble(
            Reason.SCALER_CONFLICT,
            f"{writer.rival!r} wrote spec.replicas after the operator's own scaler, which has stopped: "
            "remove that one and hand `replicas` back with `kubectl scale`, or set `scaling.mode: Manual`",
        )
    return None


def in_vain(autoscaler: str, engine: str) -> Trouble:
    """An autoscaler wants to see the load of pods that are the variant's, and here there are none."""
    return Trouble(
        Reason.NOT_AUTOSCALABLE,
        f"HorizontalPodAutoscaler {autoscaler!r} cannot scale it: it has no pods of its own, only those of "
        f"Engine {engine!r}. Delete that one (where KEDA made it, its ScaledObject)",
    )


def read_policy(scaling: Scaling, max_in_flight: int | None) -> Policy:
    floor = scaling.min_replicas or 0
    target = scaling.target_in_flight or max_in_flight or DEFAULT_TARGET
    return Policy(
        floor=floor,
        ceiling=max(scaling.max_replicas or 1, floor),
        target=min(target, max_in_flight or target),
        idle_seconds=scaling.idle_seconds or DEFAULT_IDLE_SECONDS,
    )


def look(track: Track | None, seen: Seen, policy: Policy, now: float) -> tuple[Track, Advice]:
    """What to remember, and what to do."""
    track = _remember(track, seen, policy, now)
    up = _up(track, seen, policy)
    if up > seen.replicas:
        return track, Advice(min(up, policy.ceiling))
    if seen.replicas > policy.ceiling:
        return track, Advice(policy.ceiling)
    down, again_at = _down(track, seen, policy, now)
    climbing = policy.need(seen.load.demand / TOLERANCE) > seen.replicas > 0
    return track, Advice(down, now + CLIMB_SECONDS if climbing else again_at)


def _remember(track: Track | None, seen: Seen, policy: Policy, now: float) -> Track:
    demand = seen.load.demand
    if track is None or track.target != policy.target:
        track = Track(policy.target, now, demand, 0.0, (), now, now, None)
    else:
        # Between two looks it was as it was at the first of them.
        mean = track.demand + (track.mean - track.demand) * exp((track.at - now) / MEAN_SECONDS)
        track = replace(
            track,
            at=now,
            mean=mean,
            peaks=_higher(track.peaks, policy.need(track.demand), now),
            busy_at=now if track.demand else track.busy_at,
            demand=demand,
        )
    return replace(
        track,
        peaks=_higher(track.peaks, policy.need(demand), now),
        busy_at=now if demand else track.busy_at,
        ready_at=(track.ready_at or now) if seen.ready else None,
    )


def _higher(peaks: tuple[tuple[int, float], ...], need: int, now: float) -> tuple[tuple[int, float], ...]:
    """A need hides all that were lower and earlier."""
    return (*(one for one in peaks if one[0] > need), (need, now))


def _up(track: Track, seen: Seen, policy: Policy) -> int:
    wanted = policy.floor
    if seen.load.held:
        wanted = max(wanted, policy.need(seen.load.demand))
    if 0 < seen.replicas < policy.need(track.mean / TOLERANCE):
        # From none only who waits wakes it: what is in flight then is on pods that end.
        wanted = max(wanted, policy.need(track.mean))
    return wanted


def _down(track: Track, seen: Seen, policy: Policy, now: float) -> tuple[int, float | None]:
    """How few replicas will do, and when it may be fewer."""
    here, least = seen.replicas, max(policy.floor, 1)
    if here == 0 or here <= policy.floor or seen.known_since is None:
        # When all gateways are heard again, a whole window has to pass from then.
        return here, now + policy.window_seconds if here > policy.floor else None
    since = max(track.began_at, seen.known_since)
    if here > least:
        return _fewer(track, policy, here, since, now)
    if track.demand or track.ready_at is None:
        return here, None
    sleep_at = max(track.busy_at, track.ready_at, since) + policy.idle_seconds
    return (0, None) if now >= sleep_at else (here, sleep_at)


def _fewer(track: Track, policy: Policy, here: int, since: float, now: float) -> tuple[int, float | None]:
    window = policy.window_seconds
    if now < since + window:
        return here, since + window
    needed = max(need for need, last in track.peaks if last > now - window)
    fewer = min(here, max(needed, policy.floor, 1))
    if fewer < here:
        return fewer, now + CLIMB_SECONDS
    blocking = [last for need, last in track.peaks if need >= here]
    if policy.need(track.demand) >= here:
        return here, None
    return here, max(blocking) + window

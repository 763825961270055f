"""How many replicas a load wants: at once up, slowly down, and never to and fro."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roundhouse_api.v1alpha1 import Scaling
from roundhouse_operator.core.scaling import (
    CLIMB_SECONDS,
    NO_LOAD,
    Load,
    Policy,
    Seen,
    Track,
    contradiction,
    hold_seconds,
    look,
    read_policy,
)

POLICY = Policy(floor=0, ceiling=8, target=2, idle_seconds=60)
STEP = 0.5


@dataclass
class Life:
    """A variant and a scaler that looks every half second. Pods are ready at once unless told otherwise."""

    policy: Policy = POLICY
    replicas: int = 1
    ready: bool = True
    now: float = 1000.0
    known_since: float | None = 0.0
    track: Track | None = None
    writes: list[tuple[float, int]] = field(default_factory=list)

    def step(self, load: Load) -> None:
        self.now += STEP
        seen = Seen(load, self.replicas, self.ready and self.replicas > 0, self.known_since)
        self.track, advice = look(self.track, seen, self.policy, self.now)
        if advice.replicas != self.replicas:
            self.replicas = advice.replicas
            self.writes.append((self.now, advice.replicas))
        if advice.again_at is not None:
            assert advice.again_at > self.now

    def live(self, seconds: float, load: Load | Callable[[float], Load] = NO_LOAD) -> Life:
        began = self.now
        while self.now < began + seconds:
            self.step(load(self.now) if callable(load) else load)
        return self


def test_who_waits_wakes_it_at_once() -> None:
    life = Life(replicas=0)
    life.step(Load(held=1))
    assert life.replicas == 1
    life.step(Load(held=5))
    assert life.replicas == 3


def test_what_is_in_flight_on_ending_pods_wakes_nothing() -> None:
    assert Life(replicas=0).live(300, Load(in_flight=3, streams=1)).replicas == 0


def test_it_sleeps_after_idling_and_not_before() -> None:
    life = Life().live(100, Load(in_flight=1))
    life.live(59)
    assert life.replicas == 1
    life.live(2)
    assert life.replicas == 0


@pytest.mark.parametrize("load", [Load(in_flight=1), Load(held=1), Load(streams=1)])
def test_it_never_sleeps_on_anything_in_hand(load: Load) -> None:
    assert Life().live(1000, load).replicas == 1


def test_it_never_sleeps_before_a_start_succeeded_and_then_idles_first() -> None:
    life = Life(ready=False).live(1000)
    assert life.replicas == 1, "the proof start goes on, however long a model loads"
    life.ready = True
    life.live(59)
    assert life.replicas == 1
    life.live(2)
    assert life.replicas == 0


def test_more_in_flight_than_meant_scales_up_soon_and_a_moment_s_crowd_does_not() -> None:
    crowd = Life().live(60, lambda second: Load(in_flight=6 if second % 20 < 1 else 1))
    assert crowd.replicas == 1
    busy = Life().live(15, Load(in_flight=6))
    assert busy.replicas == 3


def test_it_goes_down_to_what_the_peak_of_the_window_wants() -> None:
    life = Life(replicas=4)
    life.live(30, Load(in_flight=8))
    life.live(1, Load(in_flight=5)).live(57, Load(in_flight=1))
    assert life.replicas == 4
    life.live(2.5, Load(in_flight=1))
    assert life.replicas == 3, "five at once were there within the minute"
    life.live(5, Load(in_flight=1))
    assert life.replicas == 1


def test_the_window_is_bounded_for_one_that_may_idle_for_a_day() -> None:
    life = Life(policy=replace(POLICY, idle_seconds=86_400), replicas=4).live(301, Load(in_flight=1))
    assert life.replicas == 1
    assert life.live(3600).replicas == 1


def test_floor_and_ceiling_hold() -> None:
    floored = Life(policy=replace(POLICY, floor=2), replicas=0)
    floored.step(Load())
    assert floored.replicas == 2
    assert floored.live(1000).replicas == 2
    assert Life().live(100, Load(held=500)).replicas == 8
    capped = Life(replicas=50)
    capped.step(Load())
    assert capped.replicas == 8


def test_silence_takes_nothing_away_and_a_whole_window_is_waited_for_after_it() -> None:
    life = Life(replicas=4, known_since=None).live(1000)
    assert life.replicas == 4
    life.step(Load(held=12))
    assert life.replicas == 6, "up goes by what is known"
    life.known_since = life.now
    life.live(58)
    assert life.replicas == 6
    life.live(70)
    assert life.replicas == 0


def test_a_restart_forgets_and_takes_nothing_away() -> None:
    life = Life(replicas=4).live(59, Load(in_flight=1))
    life.track = None
    life.live(59, Load(in_flight=1))
    assert life.replicas == 4
    assert life.live(3, Load(in_flight=1)).replicas == 1


loads = st.builds(Load, st.integers(0, 40), st.integers(0, 5), st.integers(0, 5))
policies = st.builds(
    Policy,
    floor=st.integers(0, 3),
    ceiling=st.integers(3, 12),
    target=st.integers(1, 10),
    idle_seconds=st.integers(10, 100),
)


@settings(deadline=None, max_examples=25)
@given(load=loads, policy=policies, replicas=st.integers(0, 12))
def test_a_steady_load_settles_and_stays(load: Load, policy: Policy, replicas: int) -> None:
    life = Life(policy=policy, replicas=replicas).live(2.5 * policy.idle_seconds + 40, load)
    settled, written = life.replicas, len(life.writes)
    life.live(5 * policy.idle_seconds, load)
    assert (life.replicas, len(life.writes)) == (settled, written)
    assert policy.floor <= settled <= policy.ceiling
    directions = [after > before for before, after in itertools.pairwise(_levels(replicas, life))]
    assert len(list(itertools.groupby(directions))) <= 2, "up and then perhaps down, and no more"
    assert written <= policy.ceiling + 3


@settings(deadline=None, max_examples=25)
@given(
    low=st.integers(1, 10),
    spread=st.integers(0, 10),
    policy=policies,
    noise=st.lists(st.integers(0, 10), min_size=5, max_size=40),
)
def test_a_noisy_load_does_not_flap(low: int, spread: int, policy: Policy, noise: list[int]) -> None:
    """Whose noise comes round within the window: once high enough, it stays."""
    policy = replace(policy, idle_seconds=100)

    def load(second: float) -> Load:
        return Load(in_flight=low + noise[int(second) % len(noise)] % (spread + 1))

    life = Life(policy=policy).live(400, load)
    settled, written = life.replicas, len(life.writes)
    life.live(400, load)
    assert (life.replicas, len(life.writes)) == (settled, written)


@settings(deadline=None, max_examples=25)
@given(
    policy=policies,
    replicas=st.integers(0, 12),
    steps=st.lists(st.tuples(loads, st.booleans()), min_size=1, max_size=60),
    lost_at=st.integers(0, 60),
)
def test_lost_memory_never_costs_capacity(
    policy: Policy, replicas: int, steps: list[tuple[Load, bool]], lost_at: int
) -> None:
    """One scaler is restarted, its twin is not: until a window has passed it has at least as many."""
    kept, restarted = Life(policy=policy, replicas=replicas), Life(policy=policy, replicas=replicas)
    for number, (load, known) in enumerate(steps):
        for life in (kept, restarted):
            life.known_since = 0.0 if known else None
        if number == lost_at:
            restarted.track, restarted.replicas = None, max(kept.replicas, restarted.replicas)
        before = restarted.replicas
        kept.step(load)
        restarted.step(load)
        if number >= lost_at and (number - lost_at) * STEP < policy.window_seconds:
            assert restarted.replicas >= min(before, policy.ceiling)


@settings(deadline=None, max_examples=25)
@given(policy=policies, replicas=st.integers(1, 12), steps=st.lists(loads, max_size=200))
def test_what_is_remembered_is_bounded(policy: Policy, replicas: int, steps: list[Load]) -> None:
    life = Life(policy=policy, replicas=replicas)
    for load in steps:
        life.step(load)
        assert life.track
        assert len(life.track.peaks) <= policy.ceiling + 1


def test_an_event_and_the_times_it_asks_for_are_enough() -> None:
    """Nobody looks every half second: a change, and the time that the last look named, lead to the end."""
    replicas, track, at, looks = 4, None, 0.0, 0
    again_at: float | None = 0.0
    while again_at is not None:
        at, looks = again_at, looks + 1
        seen = Seen(Load(in_flight=1), replicas, ready=True, known_since=0.0)
        track, advice = look(track, seen, POLICY, at)
        replicas, again_at = advice.replicas, advice.again_at
        assert looks < 5
    assert replicas == 1
    assert at <= POLICY.window_seconds + 2 * CLIMB_SECONDS


def test_defaults_and_what_the_engine_bears() -> None:
    assert read_policy(Scaling(), None) == Policy(0, 1, 10, 300)
    assert read_policy(Scaling(), 4).target == 4
    assert read_policy(Scaling(target_in_flight=9), 4).target == 4, "more would wait for ever"
    assert read_policy(Scaling(target_in_flight=2), 4).target == 2
    assert read_policy(Scaling(min_replicas=3), None).ceiling == 3
    assert (hold_seconds(Scaling()), hold_seconds(Scaling(max_hold_seconds=0))) == (300, 0)


def test_a_contradiction_of_engine_and_variant() -> None:
    merged = Scaling().model_copy(update={"min_replicas": 3, "max_replicas": 2})
    assert "minReplicas 3 is above maxReplicas 2" in (contradiction(merged) or "")
    assert contradiction(Scaling(min_replicas=2, max_replicas=2)) is None
    assert contradiction(None) is None


def _levels(first: int, life: Life) -> Iterator[int]:
    return itertools.chain([first], (replicas for _, replicas in life.writes))

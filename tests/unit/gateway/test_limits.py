"""Limits of keys: never more than allowed in a window, places given back, nothing kept of idle keys."""

from contextlib import nullcontext

from hypothesis import given
from hypothesis import strategies as st

from roundhouse_gateway.limits import WINDOW_SECONDS, KeyLimits, LocalLimits
from roundhouse_gateway.workers.key_table import KeyTable, size_of


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


async def test_a_window_has_its_allowance_and_the_next_one_has_it_again() -> None:
    clock = Clock()
    clock.now = 60 * 1000 + 15.0
    limits = LocalLimits(clock)
    assert [(await limits.take("a", 2))[0] for _ in range(3)] == [True, True, False]
    standing = (await limits.take("a", 2))[1]
    assert (standing.limit, standing.remaining, standing.reset_seconds) == (2, 0, 45)
    assert dict(standing.headers())[b"x-ratelimit-reset-requests"] == b"45s"
    assert (await limits.take("b", 2))[0], "one key's use is not another's"
    clock.now += 45
    assert await limits.take("a", 2) == (True, (await limits.take("c", 2))[1])


@given(st.lists(st.floats(min_value=0, max_value=20), max_size=200), st.integers(1, 5))
async def test_no_window_lets_more_through_than_the_limit(pauses: list[float], limit: int) -> None:
    clock = Clock()
    limits = LocalLimits(clock)
    passed: dict[int, int] = {}
    for pause in pauses:
        clock.now += pause
        allowed, standing = await limits.take("a", limit)
        window = int(clock.now // WINDOW_SECONDS)
        passed[window] = passed.get(window, 0) + allowed
        assert standing.remaining == limit - passed[window]
        assert 1 <= standing.reset_seconds <= WINDOW_SECONDS
    assert all(count <= limit for count in passed.values())


async def test_a_place_is_taken_until_it_is_given_back() -> None:
    limits = LocalLimits(Clock())
    assert [await limits.begin("a", 2) for _ in range(3)] == [True, True, False]
    limits.end("a")
    assert await limits.begin("a", 2)
    assert not await limits.begin("a", 2)


async def test_a_key_that_is_idle_for_a_window_is_forgotten_and_a_running_one_is_not() -> None:
    clock = Clock()
    limits = LocalLimits(clock)
    for number in range(1000):
        await limits.take(f"key{number}", 5)
    await limits.begin("running", 1)
    clock.now += 2 * WINDOW_SECONDS
    await limits.take("other", 5)
    assert len(limits) == 2
    assert not await limits.begin("running", 1)


_LIMIT = st.none() | st.integers(0, 3)


@given(st.lists(st.tuples(_LIMIT, _LIMIT, st.integers(0, 30), st.booleans()), max_size=40))
def test_one_step_admits_whom_two_steps_do(asked: list[tuple[int | None, int | None, int, bool]]) -> None:
    clock = Clock()
    table = KeyTable(memoryview(bytearray(size_of(1, 64))), 1, 0, nullcontext(), clock)  # type: ignore[arg-type]
    ways: list[KeyLimits] = [LocalLimits(clock), table, LocalLimits(clock)]
    for at_once, per_minute, seconds, ends in asked:
        first, second, by_steps = ways
        found = [each.admit_now("a", at_once, per_minute) for each in (first, second)]
        assert found == [KeyLimits.admit_now(by_steps, "a", at_once, per_minute)] * 2
        if ends:
            for each in ways:
                each.end("a")
        clock.now += seconds

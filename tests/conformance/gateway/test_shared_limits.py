"""Limits of several gateways in one real store: never over, and going on while the store is away."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from roundhouse_gateway import shared_limits
from roundhouse_gateway.shared_limits import SharedLimits, open_store
from tests.support.store import Store, a_store
from tests.support.waiting import eventually, wait_for_an_early_minute


@pytest.fixture
def store() -> Iterator[Store]:
    with a_store() as made:
        yield made


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that runs is not taken for one that is away, however busy the machine."""
    monkeypatch.setattr(shared_limits, "STORE_SECONDS", 60)


@asynccontextmanager
async def gateways(store: Store, count: int) -> AsyncIterator[list[SharedLimits]]:
    async with AsyncExitStack() as stack:
        made = [SharedLimits(open_store(store.url)) for _ in range(count)]
        for each in made:
            renewing = asyncio.create_task(each.run())
            stack.push_async_callback(each.close)
            stack.callback(renewing.cancel)
        yield made


async def test_all_together_let_through_exactly_the_limit(store: Store) -> None:
    async with gateways(store, 3) as three:
        for key in map(str, range(20)):
            minute = time.time() // 60
            taken = await asyncio.gather(*(three[n % 3].take(key, 90) for n in range(300)))
            if time.time() // 60 == minute:  # else there were two, each with its own limit
                break
    assert sum(allowed for allowed, _ in taken) == 90
    assert {standing.limit for _, standing in taken} == {90}
    assert [standing.remaining for allowed, standing in taken if not allowed] == [0] * 210


async def test_what_was_leased_in_one_minute_is_not_spent_in_the_next(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds, limit = 2, 90
    monkeypatch.setattr(shared_limits, "WINDOW_SECONDS", seconds)

    async def about_to_turn() -> bool:
        return 0.02 < seconds - time.time() % seconds < 0.2

    async with gateways(store, 3) as three:
        for key in map(str, range(20)):
            await eventually(about_to_turn, seconds=10, what="the end of a window", every=0.01)
            window = time.time() // seconds + 1
            leased = [await each.take(key, limit) for each in three]

            async def turned(window: float = window) -> bool:
                return time.time() >= window * seconds

            await eventually(turned, seconds=10, what="a new window", every=0.001)
            taken = [await three[n % 3].take(key, limit) for n in range(200)]
            if time.time() // seconds == window:  # else there were two, each with its own limit
                break
    assert [allowed for allowed, _ in leased] == [True] * 3
    assert sum(allowed for allowed, _ in taken) == limit


async def test_a_round_trip_is_made_for_many_requests_and_none_for_a_refusal(store: Store) -> None:
    wait_for_an_early_minute()
    async with gateways(store, 1) as [only]:
        before = int(_calls(store))
        for _ in range(1000):
            await only.take("key", 500)
        assert int(_calls(store)) - before <= 2 * shared_limits.PARTS


async def test_one_keys_use_is_not_anothers(store: Store) -> None:
    wait_for_an_early_minute()
    async with gateways(store, 2) as [first, second]:
        assert (await first.take("a", 1))[0]
        assert not (await second.take("a", 1))[0]
        assert (await second.take("b", 1))[0]


async def test_places_are_exact_over_all_and_come_back(store: Store) -> None:
    async with gateways(store, 3) as three:
        begun = [await three[n % 3].begin("key", 5) for n in range(9)]
        assert sum(begun) == 5
        holder = three[begun.index(True) % 3]
        holder.end("key")
        assert await holder.begin("key", 5), "its own place, without asking"
        for number, allowed in enumerate(begun):
            if allowed:
                three[number % 3].end("key")
        assert await three[0].begin("key", 5)

        async def another() -> bool:
            return await three[0].begin("key", 5)

        await eventually(another, seconds=30, what="places that the others do not use are free")


async def test_a_place_that_is_taken_while_places_are_renewed_is_not_given_out_twice(store: Store) -> None:
    async with gateways(store, 2) as [first, second]:
        assert [await first.begin("key", 2) for _ in range(2)] == [True, True]
        first.end("key")
        renewing = asyncio.create_task(first._renew("key", first._places["key"]))
        begun, _ = await asyncio.gather(first.begin("key", 2), renewing)
        assert (begun, await second.begin("key", 2)) == (True, False)


async def test_a_place_that_is_being_asked_for_is_not_forgotten_as_idle(store: Store) -> None:
    async with gateways(store, 1) as [only]:
        asking = asyncio.create_task(only.begin("key", 1))
        await asyncio.sleep(0)
        only._forget_idle()
        assert (await asking, await only.begin("key", 1)) == (True, False)


async def test_places_of_a_gateway_that_ends_are_free_at_once(store: Store) -> None:
    async with gateways(store, 1) as [staying]:
        async with gateways(store, 1) as [ending]:
            assert await ending.begin("key", 1)
            assert not await staying.begin("key", 1)
        assert await staying.begin("key", 1)


async def test_places_of_a_gateway_that_vanishes_are_free_after_a_while(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_limits, "PLACE_SECONDS", 1)
    vanished = SharedLimits(open_store(store.url))  # never renews
    assert await vanished.begin("key", 1)
    async with gateways(store, 1) as [staying]:

        async def free() -> bool:
            return await staying.begin("key", 1)

        await eventually(free, seconds=30, what="the place is free")
    await vanished.close()


async def test_without_the_store_each_counts_for_itself_and_says_so(
    store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_limits, "ABSENT_SECONDS", 0.2)
    caplog.set_level(logging.INFO, "roundhouse.gateway.limits")
    wait_for_an_early_minute()
    async with gateways(store, 2) as [first, second]:
        assert await first.begin("key", 2)
        store.stop()
        for each in (first, second):
            assert sum([(await each.take("rate", 3))[0] for _ in range(5)]) == 3
        assert [await first.begin("key", 2) for _ in range(2)] == [True, False], "what runs counts on"
        first.end("key")
        assert await first.begin("key", 2)
        assert caplog.text.count("counting without it") == 2
        store.start()

        async def back() -> bool:
            await first.take("another", 100)
            return "answers again" in caplog.text

        await eventually(back, seconds=30, what="the store is used again")


async def test_places_given_out_while_the_store_was_away_are_told_to_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_limits, "ABSENT_SECONDS", 0.2)
    monkeypatch.setattr(shared_limits, "RENEW_SECONDS", 0.1)
    async with gateways(store, 2) as [first, second]:
        store.stop()
        assert [await first.begin("key", 2) for _ in range(3)] == [True, True, False]
        store.start()

        async def told() -> bool:
            return store.ask("HLEN", f"{shared_limits.PREFIX}places:key") == "1"

        await eventually(told, seconds=30, what="the store knows of the places")
        assert not await second.begin("key", 2)
        first.end("key")

        async def free() -> bool:
            return await second.begin("key", 2)

        await eventually(free, seconds=30, what="the place that came back is free")
        assert not await first.begin("key", 2)


async def test_what_was_leased_is_given_without_waiting(store: Store) -> None:
    wait_for_an_early_minute()
    async with gateways(store, 1) as [only]:
        assert (only.take_now("key", 100), only.begin_now("key", 100)) == (None, None)
        before = (await only.take("key", 100))[1]
        taken = only.take_now("key", 100)
        assert taken is not None
        assert (taken[0], taken[1].remaining) == (True, before.remaining - 1)
        assert await only.begin("key", 100)
        assert only.begin_now("key", 100)


async def test_where_a_key_stands_is_told_without_counting(store: Store) -> None:
    wait_for_an_early_minute()
    async with gateways(store, 2) as [first, second]:
        assert (await first.standing("key", 20)).remaining == 20
        await first.take("key", 20)
        assert [(await each.standing("key", 20)).remaining for each in (first, first)] == [19, 19]
        assert (await second.standing("key", 20)).remaining in {18, 19}, "what the other has leased is gone"
        assert (await second.take("key", 20))[0]


def _calls(store: Store) -> str:
    stats = store.ask("INFO", "commandstats").splitlines()
    found = [line for line in stats if line.startswith("cmdstat_evalsha:")]
    return found[0].split("calls=")[1].split(",")[0] if found else "0"

"""Between keys that wait, and between a model and those that stand in for it."""

import asyncio
from dataclasses import replace

import pytest
from typing_extensions import override

from roundhouse_api.enums import BackendType, FallbackTrigger
from roundhouse_api.keys import Grant
from roundhouse_api.v1alpha1 import Fallback
from roundhouse_gateway.errors import (
    EngineFailedError,
    EngineUnreachableError,
    GatewayError,
    InvalidRequestError,
    NotRunningError,
)
from roundhouse_gateway.hold_errors import BusyTooLongError, HoldFullError
from roundhouse_gateway.load import Counts
from roundhouse_gateway.records import Backing, Endpoint, VariantRecord
from tests.unit.gateway.house import IDLE, MANUAL, PLACE, House
from tests.unit.gateway.resources import READY, VARIANT, joined, slice_with
from tests.unit.gateway.waiting import turns


async def test_keys_take_turns() -> None:
    house, order = House(IDLE), list[str]()

    async def one(key: str) -> None:
        with await house.ask(grant=Grant(name=key)):
            order.append(key)

    asked = [asyncio.ensure_future(one(key)) for key in "aaaab"]
    await turns()
    house.see(READY)
    await asyncio.gather(*asked)
    assert order == ["a", "b", "a", "a", "a"]


async def test_a_key_that_fills_the_line_makes_room_for_another() -> None:
    house = House(IDLE, per_variant=3)
    greedy = [house.ask(grant=Grant(name="greedy")) for _ in range(3)]
    await turns()
    with pytest.raises(HoldFullError):
        await house.ask(grant=Grant(name="greedy"))
    modest = house.ask(grant=Grant(name="modest"))
    await turns()
    assert [one.done() for one in (*greedy, modest)] == [False, False, True, False]
    with pytest.raises(HoldFullError):
        await greedy[2]
    for one in (*greedy[:2], modest):
        one.cancel()


async def test_a_refusal_tells_when_the_line_will_have_moved() -> None:
    house = House(IDLE, per_variant=1)
    loop = asyncio.get_running_loop()
    house.hold._paces.of(PLACE).asleep(loop.time() - 40)
    house.hold._paces.of(PLACE).awake(loop.time())
    waiting = house.ask()
    await turns()
    with pytest.raises(HoldFullError) as caught:
        await house.ask()
    assert 35 <= (caught.value.retry_after or 0) <= 40, "as long as the last start took"
    waiting.cancel()


async def test_a_refusal_tells_when_the_weights_will_have_come() -> None:
    house = House(replace(MANUAL, remaining_seconds=90))
    with pytest.raises(NotRunningError) as caught:
        await house.ask()
    assert caught.value.retry_after == 90


QUICK = replace(IDLE, effective=IDLE.effective.model_copy(update={"max_hold_seconds": 0.05}))


@pytest.mark.parametrize("name", ["whisper-base", "auto"])
async def test_who_waits_in_vain_for_a_place_hears_that_all_are_taken(name: str) -> None:
    house = House(QUICK)
    house.see(READY)
    with await house.ask(), pytest.raises(BusyTooLongError, match="is running and busy") as caught:
        await house.ask(name)
    assert (caught.value.status, caught.value.retry_after) == (503, 5)
    assert house.counts == Counts()


async def test_who_waits_for_a_start_and_then_for_a_place_hears_of_the_place() -> None:
    house = House(QUICK)
    first, second = house.ask(), house.ask()
    await turns()
    house.see(READY)
    with await first, pytest.raises(BusyTooLongError):
        await second
    assert house.counts == Counts()


async def test_who_waits_for_a_place_hears_that_the_model_stopped() -> None:
    house = House(IDLE)
    house.see(READY)
    with await house.ask():
        second = house.ask()
        await turns()
        house.variants = (replace(IDLE, suspended=True),)
        house.see()
        with pytest.raises(NotRunningError):
            await second


def standing_in(name: str = "other") -> VariantRecord:
    backends = (Backing(name, BackendType.SERVICE, name),)
    return replace(
        VARIANT,
        name=name,
        served_name=name,
        published_names=frozenset({name}),
        backends=backends,
        wanted=False,
    )


class Pair(House):
    """`whisper-base` with its fallback `other`, which runs; what is seen are the first one's endpoints."""

    @override
    def see(self, *endpoints: Endpoint) -> None:
        slices = [slice_with(READY, service="other")]
        slices += [slice_with(*endpoints)] if endpoints else []
        self.registry.snapshot = joined(self.variants, slices)
        for told in self.registry.on_rebuild:
            told()


WITH_FALLBACK = replace(IDLE, fallbacks=(Fallback(model="other"),))
OTHER = ("models", "other")
TOO_MANY = FallbackTrigger.RATE_LIMITED


async def test_a_fallback_answers_for_one_that_sleeps_which_is_woken_all_the_same() -> None:
    house = Pair(WITH_FALLBACK, standing_in())
    with await house.ask() as admitted:
        assert [entry.model.id for entry in admitted.entries] == ["other"]
        assert house.book.of(OTHER) == Counts(in_flight=1)
        assert house.counts == Counts(held=1), "for long enough to be read"


async def test_a_fallback_answers_for_one_that_is_full() -> None:
    house = Pair(WITH_FALLBACK, standing_in())
    house.see(READY)
    with await house.ask() as first, await house.ask() as second:
        assert [entry.model.id for entry in first.entries] == ["whisper-base", "other"]
        assert [entry.model.id for entry in second.entries] == ["other"]
        assert (house.counts, house.book.of(OTHER)) == (Counts(in_flight=1, held=1), Counts(in_flight=1))


async def test_a_fallback_that_is_full_too_leaves_the_wait() -> None:
    busy = VARIANT.effective.model_copy(update={"max_in_flight_per_replica": 1})
    house = Pair(WITH_FALLBACK, replace(standing_in(), effective=busy))
    house.see(READY)
    with await house.ask():
        with await house.ask():
            waiting = house.ask()
            await turns()
            assert not waiting.done()
        await turns()
        assert not waiting.done(), "it waits for the model that it asked for"
    await turns()
    with await waiting as admitted:
        assert admitted.entries[0].model.id == "whisper-base"


async def test_who_waits_goes_to_a_fallback_that_comes_to_life() -> None:
    house = House(WITH_FALLBACK, standing_in())
    asked = house.ask()
    await turns()
    assert house.counts == Counts(held=1)
    slices = [slice_with(READY, service="other")]
    house.registry.snapshot = joined(house.variants, slices)
    for told in house.registry.on_rebuild:
        told()
    with await asked as admitted:
        assert [entry.model.id for entry in admitted.entries] == ["other"]
        assert house.book.of(OTHER) == Counts(in_flight=1)
    assert house.book.of(OTHER) == Counts()


@pytest.mark.parametrize(
    ("trouble", "follows"),
    [
        (EngineUnreachableError("gone"), True),
        (EngineFailedError("broken"), False),
        (InvalidRequestError("wrong"), False),
        (FallbackTrigger.RATE_LIMITED, True),
    ],
)
async def test_whom_to_ask_after_a_trouble(trouble: GatewayError | FallbackTrigger, follows: bool) -> None:
    when = (FallbackTrigger.UNAVAILABLE, FallbackTrigger.RATE_LIMITED)
    house = Pair(replace(IDLE, fallbacks=(Fallback(model="other", when=when),)), standing_in())
    house.see(READY)
    for name in ("whisper-base", "auto"):
        with await house.ask(name) as admitted:
            first, second = admitted.entries
            assert admitted.after(first, trouble) is (second if follows else None)
            assert admitted.after(second, trouble) is None
            assert [attempt.last for attempt in admitted.attempts() if attempt.goes_on(TOO_MANY)] == [False]


async def test_auto_takes_the_next_best_where_the_best_is_full() -> None:
    house = Pair(replace(IDLE, priority=5), standing_in())
    house.see(READY)
    with await house.ask("auto") as first, await house.ask("auto") as second:
        assert first.entries[0].model.id == "whisper-base"
        assert [entry.model.id for entry in second.entries] == ["other", "whisper-base"]


async def test_auto_waits_in_line_where_all_are_full() -> None:
    house = House(IDLE)
    house.see(READY)
    first = await house.ask()
    named = house.ask(grant=Grant(name="named"))
    await turns()
    auto = house.ask("auto", grant=Grant(name="auto"))
    await turns()
    assert house.counts == Counts(in_flight=1, held=2), "neither goes to the full engine"
    first.leave()
    await turns()
    assert (named.done(), auto.done()) == (True, False), "first come, first served"
    with await named:
        pass
    with await auto as admitted:
        assert admitted.may_wait, "in place of the engine's own 429"
        assert house.counts == Counts(in_flight=1)


async def test_auto_passes_no_line_of_another_model() -> None:
    house = Pair(replace(IDLE, priority=5), replace(standing_in(), effective=IDLE.effective))
    house.see(READY)
    with await house.ask(), await house.ask("other") as other:
        named = house.ask("other")
        await turns()
        auto = house.ask("auto")
        await turns()
        assert (house.counts, house.book.of(OTHER)) == (
            Counts(in_flight=1, held=1),
            Counts(in_flight=1, held=1),
        )
        other.leave()
        with await named:
            assert not auto.done()
    with await auto as admitted:
        assert admitted.entries[0].model.id == "whisper-base"

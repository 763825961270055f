"""Who may wait for a model, who is called first, and that nobody is counted twice or forgotten."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from typing_extensions import override

from roundhouse_api.enums import BackendType, ConditionStatus
from roundhouse_api.keys import Grant
from roundhouse_gateway.choice import Search, choose
from roundhouse_gateway.errors import (
    ClientGoneError,
    GatewayError,
    NoEngineError,
    NotRunningError,
    UnsupportedValueError,
)
from roundhouse_gateway.hold_errors import HeldTooLongError, HoldFullError
from roundhouse_gateway.load import Counts
from roundhouse_gateway.records import Backing, Summary, VariantRecord
from roundhouse_gateway.sleepers import Wish
from roundhouse_gateway.snapshot import Entry
from tests.unit.gateway.house import EVERYTHING, HASTY, IDLE, MANUAL, SECOND, TRANSCRIBE, Client, House
from tests.unit.gateway.resources import READY, VARIANT, joined, slice_with
from tests.unit.gateway.waiting import turns


async def test_what_runs_is_not_waited_for() -> None:
    house = House(IDLE)
    house.see(READY)
    admitted = await house.ask()
    assert [entry.model.id for entry in admitted.entries] == ["whisper-base"]
    assert house.counts == Counts(in_flight=1)
    with admitted:
        admitted.streams()
        assert house.counts == Counts(streams=1)
    assert house.counts == Counts()


async def test_who_waits_is_called_in_order_and_as_many_as_there_is_room_for() -> None:
    house = House(IDLE)
    asked = [house.ask("base") for _ in range(4)]
    await turns()
    assert house.counts == Counts(held=4)
    house.see(READY, SECOND)
    await turns()
    assert [one.done() for one in asked] == [True, True, False, False]
    assert house.counts == Counts(in_flight=2, held=2)
    late = house.ask()
    with await asked[0]:
        pass
    await turns()
    assert [one.done() for one in (*asked, late)] == [True, True, True, False, False], (
        "in line, not around it"
    )
    for one in (asked[1], asked[2], asked[3], late):
        with await one:
            pass
    assert house.counts == Counts()


async def test_an_image_that_tells_no_limit_gets_all_at_once() -> None:
    unlimited = IDLE.effective.model_copy(update={"max_in_flight_per_replica": None})
    house = House(replace(IDLE, effective=unlimited))
    asked = [house.ask() for _ in range(5)]
    await turns()
    house.see(READY)
    await asyncio.gather(*asked)
    assert house.counts == Counts(in_flight=5)


async def test_a_client_that_leaves_frees_its_place() -> None:
    house, client = House(IDLE, per_variant=1), Client()
    asked = house.ask(client=client)
    await turns()
    with pytest.raises(HoldFullError):
        await house.ask()
    client.left.set()
    with pytest.raises(ClientGoneError):
        await asked
    assert house.counts.held <= 1, "at most the one that was turned away is told of still"
    other = house.ask()
    await turns()
    assert not other.done()
    other.cancel()


async def test_who_is_called_and_gone_gives_its_turn_to_the_next() -> None:
    house = House(IDLE)
    first, second = house.ask(), house.ask()
    await turns()
    house.see(READY)
    first.cancel()
    await turns()
    assert (await second).entries
    assert house.counts == Counts(in_flight=1)


@pytest.mark.parametrize("name", ["whisper-base", "auto"])
async def test_who_is_called_and_then_refused_gives_its_turn_to_the_next(name: str) -> None:
    house = House(IDLE)

    def refusing() -> Sequence[Entry]:
        choose(house.registry.snapshot, name, TRANSCRIBE, Search(house.metrics), EVERYTHING)
        raise UnsupportedValueError("The engine has no log probabilities.")

    wish = Wish(name, TRANSCRIBE, EVERYTHING.allows_model)
    refused = asyncio.ensure_future(house.hold.admit(wish, refusing, Client()))
    sound = house.ask()
    await turns()
    assert house.counts == Counts(held=2)
    house.see(READY)
    with pytest.raises(UnsupportedValueError):
        await refused
    with await sound:
        assert house.counts == Counts(in_flight=1)
    assert house.counts == Counts()


async def test_what_went_again_before_its_call_was_heard_holds_no_place() -> None:
    house = House(IDLE)
    asked = house.ask()
    await turns()
    house.see(READY)
    house.see()
    await turns()
    assert not asked.done()
    assert house.counts == Counts(held=1)
    house.see(READY)
    with await asked:
        assert house.counts == Counts(in_flight=1)


@pytest.mark.parametrize(("in_all", "per_variant"), [(1, 9), (9, 1)])
async def test_the_line_is_bounded(in_all: int, per_variant: int) -> None:
    house = House(IDLE, in_all=in_all, per_variant=per_variant)
    waiting = house.ask()
    await turns()
    with pytest.raises(HoldFullError) as caught:
        await house.ask()
    assert (caught.value.status, caught.value.retry_after) == (429, 5)
    waiting.cancel()


async def test_the_wait_is_bounded() -> None:
    quick = IDLE.effective.model_copy(update={"max_hold_seconds": 1})
    house = House(replace(IDLE, effective=quick))
    with pytest.raises(HeldTooLongError, match="not ready within 1 seconds") as caught:
        await house.ask()
    assert (caught.value.status, caught.value.retry_after) == (503, 5)
    assert house.counts == Counts()


@pytest.mark.req("S1-17")
async def test_who_is_called_as_its_wait_ends_gives_its_turn_to_the_next() -> None:
    """What it waits for is let go of in a turn of the loop of its own, and in that a place came free."""
    short = IDLE.effective.model_copy(update={"max_hold_seconds": 0.05})
    house = House(replace(IDLE, effective=short))

    class Watched(Client):
        @override
        async def until_gone(self) -> None:
            try:
                await super().until_gone()
            finally:
                house.see(READY)

    with pytest.raises(HeldTooLongError):
        await house.ask(client=Watched())
    assert house.counts == Counts()
    with await house.ask():
        assert house.counts == Counts(in_flight=1)


async def test_a_model_that_holds_nobody_answers_at_once_and_is_woken_all_the_same() -> None:
    house = House(HASTY)
    with pytest.raises(NotRunningError):
        await house.ask()
    assert house.counts == Counts(held=1), "for long enough to be read"


async def test_full_and_not_to_be_waited_for_goes_to_the_engine() -> None:
    house = House(HASTY)
    house.see(READY)
    with await house.ask(), await house.ask():
        assert house.counts == Counts(in_flight=2, held=1)


FAILING = Summary(ConditionStatus.FALSE, "CrashLoop", "")


@pytest.mark.req("S1-17")
@pytest.mark.parametrize(
    "variant",
    [
        pytest.param(MANUAL, id="nobody wakes it"),
        pytest.param(replace(IDLE, suspended=True), id="suspended"),
        pytest.param(replace(IDLE, backends=()), id="nothing was made yet"),
        pytest.param(replace(IDLE, ready=Summary(ConditionStatus.FALSE, "InvalidSpec", "")), id="refused"),
        pytest.param(replace(IDLE, ready=FAILING, wanted=True), id="crashing"),
    ],
)
async def test_what_is_not_worth_a_wait(variant: VariantRecord) -> None:
    house = House(variant)
    with pytest.raises(NotRunningError):
        await house.ask()
    assert house.counts == Counts()


@pytest.mark.parametrize("reason", ["Starting", "InsufficientGPU", "EndpointLost", "Downloading"])
async def test_what_may_pass_is_worth_a_wait(reason: str) -> None:
    house = House(replace(IDLE, ready=Summary(ConditionStatus.FALSE, reason, ""), wanted=True))
    asked = house.ask()
    await turns()
    assert house.counts == Counts(held=1)
    asked.cancel()


async def test_a_failed_start_is_tried_again_and_who_waits_already_goes_on() -> None:
    house = House(replace(IDLE, ready=FAILING))
    asked = house.ask()
    await turns()
    house.variants = (replace(IDLE, ready=FAILING, wanted=True),)
    house.see()
    await turns()
    assert not asked.done()
    with pytest.raises(NotRunningError):
        await house.ask()
    asked.cancel()


async def test_who_waits_is_let_go_when_waiting_has_no_end() -> None:
    house = House(IDLE)
    asked = house.ask()
    await turns()
    house.variants = (replace(IDLE, suspended=True),)
    house.see()
    with pytest.raises(NotRunningError):
        await asked
    assert house.metrics.resolution_errors("not_running").value == 1, "it is one request"
    assert house.counts == Counts()


@pytest.mark.req("S1-9")
async def test_auto_waits_for_the_best_that_sleeps_where_nothing_runs() -> None:
    slow = replace(IDLE, name="slow", served_name="slow", published_names=frozenset({"slow"}), priority=-1)
    elsewhere = replace(slow, backends=(Backing("slow", BackendType.SERVICE, "slow"),))
    house = House(IDLE, elsewhere)
    asked = house.ask("auto")
    await turns()
    assert house.counts == Counts(held=1)
    assert house.book.of(("models", "slow")) == Counts()
    house.see(READY)
    assert (await asked).entries[0].model.id == "whisper-base"


async def test_auto_goes_elsewhere_as_soon_as_something_runs() -> None:
    awake = replace(VARIANT, name="other", served_name="other", published_names=frozenset({"other"}))
    house = House(IDLE)
    asked = house.ask("auto")
    await turns()
    house.variants = (IDLE, awake)
    house.see(READY)
    with await asked as admitted:
        assert {entry.model.id for entry in admitted.entries} == {"whisper-base", "other"}


async def test_auto_without_anything_to_wait_for() -> None:
    house = House(MANUAL)
    with pytest.raises(NoEngineError):
        await house.ask("auto")


async def test_a_request_counts_to_the_model_that_answers_it() -> None:
    other = replace(VARIANT, name="other", served_name="other", published_names=frozenset({"other"}))
    house = House(IDLE, replace(other, backends=IDLE.backends))
    house.see(READY)
    with await house.ask("auto") as admitted:
        for entry in admitted.entries:
            admitted.goes_to(entry)
            assert house.book.of(entry.place) == Counts(in_flight=1)
        assert house.book.total("in_flight") == 1


@pytest.mark.parametrize("name", ["auto", "whisper-base"])
async def test_a_key_wakes_nothing_that_it_may_not_use(name: str) -> None:
    house = House(IDLE)
    with pytest.raises(GatewayError):
        await house.ask(name, grant=Grant(models=("other",)))
    assert house.counts == Counts()


async def test_auto_waits_for_what_its_key_may_use_though_something_else_runs() -> None:
    awake = replace(VARIANT, name="other", served_name="other", published_names=frozenset({"other"}))
    house = House(IDLE, replace(awake, backends=(Backing("other", BackendType.SERVICE, "other"),)))
    slices = [slice_with(READY, service="other")]
    house.registry.snapshot = joined(house.variants, slices)
    asked = house.ask("auto", grant=Grant(models=("whisper-*",)))
    await turns()
    assert house.counts == Counts(held=1)
    house.see(READY)
    assert [entry.model.id for entry in (await asked).entries] == ["whisper-base"]


async def test_who_waits_for_longer_than_the_series_of_its_model_are_kept_leaves_none_below_nothing() -> None:
    house = House(IDLE)
    asked = house.ask()
    await turns()
    (model,) = house.metrics.models()
    assert house.metrics.held(model).value == 1
    house.metrics.let_go([model])
    asked.cancel()
    await turns()
    assert house.metrics.held(model).value == 0

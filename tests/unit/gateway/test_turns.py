"""Whose handshake with an engine is next, and who need not wait any longer."""

import asyncio

import pytest

from roundhouse_gateway.realtime.turns import Turns

LONG = 100.0


async def shake(turns: Turns, base_url: str, answer: asyncio.Event) -> None:
    async with turns.take(base_url):
        await answer.wait()


async def settled() -> None:
    """Whoever can go on has gone on."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_silent_endpoint_holds_up_no_other() -> None:
    turns, never = Turns(seconds=LONG, at_once=1), asyncio.Event()
    silent = asyncio.create_task(shake(turns, "http://silent", never))
    await settled()
    async with asyncio.timeout(LONG), turns.take("http://other"):
        assert not silent.done()
    silent.cancel()


async def test_nobody_waits_for_a_silent_endpoint_longer_than_the_first() -> None:
    turns, never = Turns(seconds=0.05, at_once=2), asyncio.Event()
    ends = await asyncio.gather(
        *(shake(turns, "http://silent", never) for _ in range(200)), return_exceptions=True
    )
    assert {type(end) for end in ends} == {TimeoutError}
    never.set()
    await shake(turns, "http://silent", never)  # whoever comes later has a turn, and all of the time


async def test_a_line_that_moves_is_waited_in() -> None:
    turns, at_once, most = Turns(seconds=LONG, at_once=2), 0, 0

    async def quick() -> None:
        nonlocal at_once, most
        async with turns.take("http://busy"):
            at_once += 1
            most = max(most, at_once)
            await asyncio.sleep(0)
            at_once -= 1

    await asyncio.gather(*(quick() for _ in range(50)))
    assert (most, at_once) == (2, 0)


async def test_who_leaves_the_line_takes_no_turn() -> None:
    turns, answer = Turns(seconds=LONG, at_once=1), asyncio.Event()
    first, second, third = (asyncio.create_task(shake(turns, "http://busy", answer)) for _ in range(3))
    await settled()
    second.cancel()
    answer.set()
    await asyncio.gather(first, third)
    with pytest.raises(asyncio.CancelledError):
        await second

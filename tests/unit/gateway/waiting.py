"""Letting tasks come to where they wait."""

import asyncio


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)

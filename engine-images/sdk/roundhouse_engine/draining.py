"""How a model that leaves the list ends its work, while the engine goes on."""

import asyncio
import contextlib
import logging
from typing import Final

from roundhouse_engine.pool import Pool

logger = logging.getLogger(__name__)

LINGER_SECONDS: Final = 5.0
"""How long a model that left the list still takes work: routers learn of it within moments, not at once."""
FLUSH_SECONDS: Final = 2.0
"""For clients to be told that their time is over."""


async def drain(pool: Pool, model: str, seconds: float) -> None:
    """As at the end of the engine: a client that takes its time keeps no other model from its memory."""
    pool.draining = True
    try:
        async with asyncio.timeout(seconds):
            await pool.drained()
    except TimeoutError:
        told = {"model": model, "in_use": pool.in_use, "sessions": pool.sessions_in_use}
        logger.warning("drain deadline passed", extra=told)
        pool.evict()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_SECONDS):
                await pool.drained()

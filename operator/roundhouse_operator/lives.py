"""The lives of one process: whoever loses the Lease begins anew, with nothing of before."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from roundhouse_operator.cluster import Cluster
from roundhouse_operator.configuration import load_configuration
from roundhouse_operator.ending import end_others, leave_within, stop_on_signals
from roundhouse_operator.leader import LeadershipLostError
from roundhouse_operator.metrics import Metrics
from roundhouse_operator.runtime import Operator
from roundhouse_operator.settings import Settings

logger = logging.getLogger(__name__)

END_SECONDS: Final = 15.0
"""For the whole of an end: half of what a pod is given."""


async def operate(settings: Settings) -> None:
    """Runs until SIGTERM or SIGINT. Who loses the Lease begins anew, and contends for it as anybody.

    A process that ended instead would be started again by the kubelet ever later, and of a slow API server it
    would lose its Lease often. Raises LeadershipLostError where something of it does not end.
    """
    stop, call_off = asyncio.Event(), list[Callable[[], None]]()
    while not stop.is_set():
        stop_on_signals(stop)
        try:
            await _operate_once(settings, stop, lambda: call_off.append(leave_within(END_SECONDS)))
        except LeadershipLostError as error:
            logger.warning("Leadership lost, %s", error, extra={"reason": "LeadershipLost"})
            if not await end_others():
                raise
            while call_off:
                call_off.pop()()
        gc.collect()  # a cache holds itself in circles, and the next is as large


async def _operate_once(settings: Settings, stop: asyncio.Event, on_end: Callable[[], None]) -> None:
    configuration = await load_configuration()
    metrics = Metrics()
    cluster = Cluster(configuration, field_manager=settings.field_manager, on_write=metrics.wrote)
    try:
        operator = Operator(settings, cluster, metrics, urlsplit(configuration.host).hostname or "")
        await operator.run(stop, on_end)
    finally:
        await cluster.close()

"""Listening to the gateways: each of their pods tells of its load in a stream of its own.

They are found by the EndpointSlices of the Service by which this release's gateways are scraped. What is
told goes to `loads`; a stream that ends is taken up again until its pod is gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import msgspec

from roundhouse_api.model import Manifest
from roundhouse_operator.cluster import Change, Cluster
from roundhouse_operator.core.kinds import ENDPOINT_SLICE, VARIANT, Key, Kind
from roundhouse_operator.core.scaling import Load
from roundhouse_operator.intake import Intake
from roundhouse_operator.loads import SILENT_SECONDS, Loads
from roundhouse_operator.watch import Listed, Scope, Source, follow

logger = logging.getLogger(__name__)

PATH: Final = "/internal/load"
PORT_NAME: Final = "metrics"
FIRST_PAUSE_SECONDS: Final = 0.1
LAST_PAUSE_SECONDS: Final = 2.0
_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, sock_connect=2, sock_read=SILENT_SECONDS)


class Told(msgspec.Struct, rename="camel"):
    """One line. A kind of line that is not known is passed over."""

    t: str
    namespace: str = ""
    variant: str = ""
    in_flight: int = 0
    held: int = 0
    streams: int = 0


@dataclass(frozen=True, slots=True)
class GatewayPod:
    """`ending`: it takes nothing new, and finishes what it has."""

    uid: str
    url: str
    ready: bool
    ending: bool


def selector(release: str) -> str:
    """Labels that the chart gives the gateway's Services, and that their EndpointSlices inherit."""
    return f"app.kubernetes.io/component=gateway,app.kubernetes.io/instance={release}"


def read_pods(manifest: Manifest) -> Iterator[GatewayPod]:
    """Of one EndpointSlice; none of one that has no port for metrics."""
    port = next((one["port"] for one in manifest.get("ports") or () if one.get("name") == PORT_NAME), None)
    for endpoint in (manifest.get("endpoints") or ()) if port else ():
        host, conditions = endpoint["addresses"][0], endpoint.get("conditions") or {}
        ending = conditions.get("terminating") is True
        yield GatewayPod(
            uid=(endpoint.get("targetRef") or {}).get("uid") or f"{host}:{port}",
            url=f"http://{f'[{host}]' if ':' in host else host}:{port}{PATH}",
            ready=conditions.get("ready") is not False and not ending,
            ending=ending,
        )


class Gateways:
    """All streams of one operator, while it leads."""

    def __init__(self, cluster: Cluster, namespace: str, release: str, loads: Loads, intake: Intake) -> None:
        scope = Scope(ENDPOINT_SLICE, namespace, selector(release))
        self.source = Source(cluster, scope, self._on_change, self._on_listed, _nothing, intake=intake)
        self._loads = loads
        self._slices: dict[tuple[str, str], tuple[GatewayPod, ...]] = {}
        self._pods: dict[str, GatewayPod] = {}
        self._streams: dict[str, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled."""
        async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
            group.create_task(follow(self.source))
            while True:
                await self._changed.wait()
                self._changed.clear()
                self._take_up(session, group)

    def _on_change(self, _kind: Kind, change: Change) -> None:
        place = _place(change.manifest)
        if change.type == "DELETED":
            self._slices.pop(place, None)
        else:
            self._slices[place] = tuple(read_pods(change.manifest))
        self._changed.set()

    def _on_listed(self, _scope: Scope, listed: Listed) -> None:
        for place in [one for one in self._slices if one not in listed.names]:
            del self._slices[place]
        self._changed.set()

    def _take_up(self, session: aiohttp.ClientSession, group: asyncio.TaskGroup) -> None:
        """A pod with addresses of two families stands in two slices and is one gateway."""
        self._pods = {pod.uid: pod for pods in self._slices.values() for pod in pods}
        for uid in [one for one in self._streams if one not in self._pods]:
            self._streams.pop(uid).cancel()
            self._loads.forget(uid)
        for uid, pod in self._pods.items():
            if uid not in self._streams:
                self._streams[uid] = group.create_task(self._listen(session, uid))
            if not self._streams[uid].done():
                self._loads.expect(uid, ready=pod.ready)

    async def _listen(self, session: aiohttp.ClientSession, uid: str) -> None:
        pause, complaint = FIRST_PAUSE_SECONDS, ""
        while (pod := self._pods.get(uid)) is not None:
            try:
                async with session.get(pod.url, timeout=_TIMEOUT) as response:
                    response.raise_for_status()
                    self._loads.begin(uid)
                    async for line in response.content:
                        self._take(uid, line)
                        pause, complaint = FIRST_PAUSE_SECONDS, ""
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                if pod.ready and repr(error) != complaint:
                    complaint = repr(error)
                    logger.warning("Gateway %s does not tell its load: %s", pod.url, complaint)
            if self._is_ending(uid):
                self._loads.forget(uid)  # it has finished, and will not be back
                return
            await asyncio.sleep(pause)
            pause = min(pause * 2, LAST_PAUSE_SECONDS)

    def _is_ending(self, uid: str) -> bool:
        pod = self._pods.get(uid)
        return pod is None or pod.ending

    def _take(self, uid: str, line: bytes) -> None:
        """Raises ValueError for what is no line of a load report."""
        told, now = msgspec.json.decode(line, type=Told), asyncio.get_running_loop().time()
        if told.t == "beat":
            self._loads.beat(uid, now)
        elif told.t == "load":
            load = Load(told.in_flight, told.held, told.streams)
            self._loads.tell(uid, Key(VARIANT, told.namespace, told.variant), load, now)


def _place(manifest: dict[str, Any]) -> tuple[str, str]:
    metadata = manifest["metadata"]
    return metadata["namespace"], metadata["name"]


def _nothing() -> None:
    """An outage of the API server holds up no stream."""

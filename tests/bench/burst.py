"""A burst of Engine and ModelVariant pairs, and the bare client that the operator is held against.

The bare client makes the writes of the operator's first pass over each pair (Deployment, Service, both
statuses), with as many at once and nothing else: no watch, no cache, no decision, no second look.
Applying the pairs is part of both, and so is what the cluster's own controllers do meanwhile.
"""

import asyncio
import base64
import json
import ssl
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import aiohttp
import yaml

from roundhouse_api.model import Manifest
from roundhouse_operator.core.decide import decide
from roundhouse_operator.core.kinds import DEPLOYMENT, ENGINE, VARIANT, Kind
from roundhouse_operator.core.observed import World
from roundhouse_operator.core.outcome import DONE
from roundhouse_operator.core.placement import Fleet
from roundhouse_operator.core.status.conditions import status_patch
from roundhouse_operator.core.status.engine import Usage, engine_status
from roundhouse_operator.core.status.variant import variant_status
from roundhouse_operator.project import project_resource
from roundhouse_operator.project_fleet import project_node
from tests.bench.fleet import nodes, paired_engine, paired_variant

AT_ONCE: Final = 16
"""The operator's own default of `ROUNDHOUSE_OPERATOR_WORKERS`."""
_APPLY: Final = "application/apply-patch+yaml"
_MERGE: Final = "application/merge-patch+json"
_SEEN_SECONDS: Final = 120
BOUND_SECONDS: Final = 400
"""Within which a burst is to be over."""
_NAME, _ENGINE_UID, _VARIANT_UID = "name-of-pair", "uid-of-engine", "uid-of-variant"
"""What a template has in the places of a pair's own."""

Live = tuple[Manifest, Manifest]
"""An Engine and its ModelVariant as the API server answered them."""


@dataclass(frozen=True, slots=True)
class Write:
    """One PATCH, ready to be sent."""

    path: str
    content_type: str
    body: str

    def filled(self, pair: Live) -> "Write":
        """A template with the pair's name and uids."""
        engine_uid, variant_uid = (one["metadata"]["uid"] for one in pair)
        path = self.path.replace(_NAME, pair[1]["metadata"]["name"])
        body = self.body.replace(_NAME, pair[1]["metadata"]["name"])
        return Write(
            path, self.content_type, body.replace(_ENGINE_UID, engine_uid).replace(_VARIANT_UID, variant_uid)
        )


@dataclass(frozen=True, slots=True)
class Client:
    """A connection to the API server with the administrator's certificate, and not one layer more."""

    server: str
    session: aiohttp.ClientSession

    async def send(self, write: Write) -> Manifest:
        url, headers = self.server + write.path, {"Content-Type": write.content_type}
        async with self.session.patch(url, data=write.body, headers=headers) as answer:
            text = await answer.read()
            assert answer.status < 300, f"PATCH {write.path}: {answer.status} {text[:500]!r}"
            live: Manifest = json.loads(text)
            return live

    async def watch(self, kind: Kind, namespace: str) -> AsyncGenerator[Manifest | None, None]:
        """Yields None once the watch is open, then each object that comes to be or changes."""
        url = self.server + _path(kind, namespace) + "?watch=1"
        no_end = aiohttp.ClientTimeout(total=None, sock_read=_SEEN_SECONDS)
        async with self.session.get(url, timeout=no_end) as answer:
            assert answer.status == 200, await answer.text()
            yield None
            rest = b""
            async for chunk in answer.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    event = json.loads(line)
                    if event["type"] in {"ADDED", "MODIFIED"}:
                        yield event["object"]


@asynccontextmanager
async def connect(kubeconfig: str) -> AsyncIterator[Client]:
    """To the cluster of a kubeconfig that holds its certificates in itself; its text, not its path."""
    config = yaml.safe_load(kubeconfig)
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    context = ssl.create_default_context(cadata=authority)
    with tempfile.NamedTemporaryFile() as file:
        pair = (base64.b64decode(user[f"client-{part}-data"]) for part in ("certificate", "key"))
        file.write(b"\n".join(pair))
        file.flush()
        context.load_cert_chain(file.name)
    connector = aiohttp.TCPConnector(ssl=context, limit=2 * AT_ONCE + 1)
    timeout = aiohttp.ClientTimeout(total=_SEEN_SECONDS)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, read_bufsize=1 << 20) as session:
        yield Client(cluster["server"], session)


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds from the first apply."""

    to_last_child: float
    to_all_ready: float


async def burst(
    client: Client,
    namespace: str,
    count: int,
    then: Callable[[Live], Awaitable[object]],
    at_last_child: Callable[[], None] = lambda: None,
) -> Times:
    """Applies `count` pairs and follows their Deployments. `then` takes each pair."""
    seen = client.watch(DEPLOYMENT, namespace)
    await anext(seen)
    places = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with places:
            pair = await _apply_pair(client, namespace, f"pair-{number:04}")
        await then(pair)

    began, last_child = time.monotonic(), 0.0
    made, ready = set[str](), set[str]()
    async with asyncio.TaskGroup() as group, asyncio.timeout(BOUND_SECONDS):
        for number in range(count):
            group.create_task(one(number))
        while len(ready) < count:
            manifest = await anext(seen)
            assert manifest
            name = manifest["metadata"]["name"]
            made.add(name)
            if manifest["status"].get("readyReplicas"):
                ready.add(name)
            if len(made) == count and not last_child:
                last_child = time.monotonic() - began
                at_last_child()
    await seen.aclose()
    return Times(last_child, time.monotonic() - began)


def bare_writer(client: Client, namespace: str) -> Callable[[Live], Awaitable[object]]:
    """Makes the children of each pair that it is given, and writes the statuses."""
    places = asyncio.Semaphore(AT_ONCE)
    templates = templates_of_first_writes(namespace)

    async def in_order(writes: list[Write]) -> None:
        async with places:
            for each in writes:
                await client.send(each)

    async def write(pair: Live) -> None:
        await asyncio.gather(*(in_order([one.filled(pair) for one in each]) for each in templates))

    return write


def templates_of_first_writes(namespace: str) -> tuple[tuple[Write, ...], tuple[Write, ...]]:
    """What the operator writes at once for a new pair: for its variant, and for its engine."""
    made = project_resource(ENGINE, _new(paired_engine(_NAME), namespace, _ENGINE_UID)).read()
    wanted = project_resource(VARIANT, _new(paired_variant(_NAME), namespace, _VARIANT_UID)).read()
    there, now = _fleet(), datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    world = World(wanted, engines=(made,), fleet=there)
    decision = decide(world)
    children = tuple(apply_write(each.kind, namespace, each.manifest) for each in decision.plan.applies)
    status = variant_status(world, decision, DONE, now=now)
    used = engine_status(made, Usage(variants=1), there, now=now)
    return (*children, _status(VARIANT, wanted, status)), (_status(ENGINE, made, used),)


def _fleet() -> Fleet:
    fleet = Fleet()
    for node in nodes():
        fleet.put_node(node.name, project_node(node.manifest()))
    return fleet


def _new(manifest: Manifest, namespace: str, uid: str) -> Manifest:
    created = {
        "namespace": namespace,
        "uid": uid,
        "generation": 1,
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    return {**manifest, "metadata": {**manifest["metadata"], **created}}


async def _apply_pair(client: Client, namespace: str, name: str) -> Live:
    made = await client.send(apply_write(ENGINE, namespace, paired_engine(name)))
    return made, await client.send(apply_write(VARIANT, namespace, paired_variant(name)))


def patch_write(kind: Kind, namespace: str, name: str, patch: Manifest) -> Write:
    return Write(f"{_path(kind, namespace)}/{name}?fieldManager=bench", _MERGE, json.dumps(patch))


def apply_write(kind: Kind, namespace: str, manifest: Manifest) -> Write:
    path = f"{_path(kind, namespace)}/{manifest['metadata']['name']}?fieldManager=bench"
    return Write(path, _APPLY, json.dumps(manifest))


def _status(kind: Kind, resource: Any, status: Manifest) -> Write:
    body = {"metadata": {"uid": resource.uid}, "status": status_patch({}, status)}
    path = f"{_path(kind, resource.namespace)}/{resource.name}/status?fieldManager=bench"
    return Write(path, _MERGE, json.dumps(body))


def _path(kind: Kind, namespace: str) -> str:
    group = f"apis/{kind.api_version}" if kind.group else f"api/{kind.version}"
    return f"/{group}/namespaces/{namespace}/{kind.plural}"

"""Why pods cannot be created is asked of ReplicaSets: what a Deployment says of it may have been mended."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from roundhouse_api.model import Manifest
from roundhouse_operator.asking import Asker
from roundhouse_operator.cluster import Page
from roundhouse_operator.core.kinds import REPLICA_SET, VARIANT, Key, Kind
from roundhouse_operator.errors import RefusedError
from roundhouse_operator.reconcile import Reconciler
from roundhouse_operator.refusals import AGAIN_SECONDS
from roundhouse_operator.verifier import Verifier
from tests.unit.operator.samples import engine, variant
from tests.unit.operator.sharing import QUOTA, SHARED, SharedScene, gpu_node, shared_engine
from tests.unit.operator.test_diagnose import replica_set
from tests.unit.operator.test_sharing import model
from tests.unit.operator.worlds import NAMESPACE, NOW, Scene, conditions, message, node, sent

KWS_EN = Key(VARIANT, NAMESPACE, "kws-en")
FIRST = 'pods "kws-en-1" is forbidden: failed quota: q: must specify limits.memory for: engine'
SECOND = 'pods "kws-en-2" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1'
FAILING = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate"}
OWNER = "uid-kws-en"


class Server:
    """`replica_sets` None: they may not be listed."""

    def __init__(self, *replica_sets: Manifest, allowed: bool = True) -> None:
        self.replica_sets = replica_sets
        self.allowed = allowed
        self.asked: list[tuple[Kind, str]] = []
        self.status: Manifest = {}

    async def pages(self, kind: Kind, _namespace: str, selector: str = "") -> AsyncIterator[Page]:
        self.asked.append((kind, selector))
        if not self.allowed:
            raise RefusedError(403, "Forbidden", "replicasets.apps is forbidden")
        yield Page(self.replica_sets, "1")

    async def patch_status(self, _kind: Kind, _space: str, name: str, patch: Manifest) -> Manifest:
        self.status = patch["status"]
        return sent({**variant(name), "status": patch["status"]})


async def passed(server: Server, *, refused: bool = True) -> list[Key]:
    """A pass over a variant whose Deployment says the first cause; what is looked at again by itself."""
    scene, later = Scene(node("n1"), engine(), variant()), list[Key]()
    said = [{**FAILING, "message": FIRST}] if refused else []
    scene.settle("kws-en", updatedReplicas=0, conditions=said)
    scene.write("kws-en", {})
    await reconciler(server, scene, lambda key, _seconds: later.append(key))(KWS_EN)
    return later


def reconciler(server: Server, scene: Scene, later: Callable[[Key, float], None]) -> Reconciler:
    cluster = cast("Any", server)
    verifier = Verifier(cluster, scene.cache, lambda _key: None, Asker())
    recorder = cast("Any", SimpleNamespace(tell=lambda *_: None, note=lambda *_: None))
    return Reconciler(
        cluster, scene.cache, recorder, lambda: NOW, lambda _touched: None, verifier, later=later
    )


async def test_the_cause_is_that_of_the_newest_replica_set() -> None:
    server = Server(replica_set("1", OWNER, message=FIRST), replica_set("2", OWNER, message=SECOND))
    assert await passed(server) == []
    told = message(server.status, "Available")
    assert "exceeded quota: q, requested: pods=1" in told
    assert "must specify" not in told
    selector = "roundhouse.dev/managed=true,roundhouse.dev/variant=kws-en"
    assert server.asked == [(REPLICA_SET, selector)]


async def test_a_cause_that_was_mended_is_told_no_more() -> None:
    server = Server(replica_set("1", OWNER, message=FIRST), replica_set("2", OWNER))
    assert await passed(server) == [KWS_EN], "the newest may fail in a moment, and nobody would tell"
    assert conditions(server.status)["Available"] == ("False", "Starting")


async def test_the_deployments_words_stand_where_nobody_may_ask_further() -> None:
    server = Server(allowed=False)
    assert await passed(server) == []
    told = message(server.status, "Available")
    assert "failed quota: q: must specify limits.memory for: engine; state them in `hardware" in told


async def test_nobody_is_asked_while_nothing_is_refused() -> None:
    server = Server()
    assert await passed(server, refused=False) == []
    assert server.asked == []


@pytest.mark.parametrize("mended", [False, True])
async def test_so_is_the_cause_of_pods_that_variants_share(
    monkeypatch: pytest.MonkeyPatch, mended: bool
) -> None:
    async def write(*_: object) -> None: ...

    monkeypatch.setattr(Reconciler, "_write_status", write)
    shared = SharedScene(shared_engine(), gpu_node(gpus=2), *(model(name, 20_000) for name in "ab"))
    shared.over_quota.add("kws-1")
    shared.come_to_rest()
    newest = replica_set("2", "uid-kws-1", **({} if mended else {"message": SECOND}))
    server = Server(replica_set("1", "uid-kws-1", message=QUOTA), newest)
    later = list[tuple[Key, float]]()
    await reconciler(server, shared, lambda key, seconds: later.append((key, seconds)))(SHARED)
    seat = shared.cache.standing.seat(Key(VARIANT, NAMESPACE, "b"))
    assert seat
    if mended:
        assert (seat.trouble, later) == (None, [(SHARED, AGAIN_SECONDS)])
    else:
        assert seat.trouble
        assert "exceeded quota: q, requested: pods=1" in seat.trouble.message
        assert later == []
    assert server.asked == [(REPLICA_SET, "roundhouse.dev/managed=true,roundhouse.dev/engine=kws")]

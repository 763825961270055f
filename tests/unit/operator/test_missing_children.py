"""A child that is missing is made again, unless the variant went with it and the news is still on its way."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from roundhouse_api.model import Manifest
from roundhouse_operator.asking import Asker
from roundhouse_operator.cache import Touched
from roundhouse_operator.core.kinds import DEPLOYMENT, ENGINE, SERVICE, VARIANT, Key, Kind
from roundhouse_operator.errors import NotFoundError
from roundhouse_operator.reconcile import Reconciler
from roundhouse_operator.verifier import Verifier
from tests.unit.operator.samples import engine, variant
from tests.unit.operator.sharing import SHARED, SharedScene, gpu_node, shared_engine
from tests.unit.operator.test_sharing import model
from tests.unit.operator.worlds import NAMESPACE, NOW, Scene, applied, node, sent

KWS_EN = Key(VARIANT, NAMESPACE, "kws-en")
RUNNING: dict[str, Any] = {"replicas": 1, "readyReplicas": 1, "updatedReplicas": 1}


class Server:
    """`there`: what a GET of the owner finds; None: it is gone."""

    def __init__(self, there: Manifest | None) -> None:
        self.there = there
        self.made: list[str] = []
        self.asked = 0

    async def get(self, _kind: Kind, _namespace: str, _name: str) -> Manifest:
        self.asked += 1
        if self.there is None:
            raise NotFoundError(404, "NotFound", "not found")
        return self.there

    async def apply(self, kind: Kind, manifest: Manifest, *, force: bool) -> Manifest:  # noqa: ARG002
        self.made.append(kind.name)
        return sent(applied(manifest, rollout=RUNNING if kind == DEPLOYMENT else None))

    async def patch_status(self, _kind: Kind, _space: str, name: str, patch: Manifest) -> Manifest:
        return sent({**variant(name), "status": patch["status"]})


async def passed(scene: Scene, server: Server, key: Key = KWS_EN) -> Touched:
    cluster, due = cast("Any", server), Touched()
    verifier = Verifier(cluster, scene.cache, lambda _key: None, Asker())
    recorder = cast("Any", SimpleNamespace(tell=lambda *_: None, note=lambda *_: None))
    await Reconciler(cluster, scene.cache, recorder, lambda: NOW, due.merge, verifier)(key)
    return due


def settled(*missing: Kind) -> Scene:
    scene = Scene(node("n1"), engine(), variant())
    scene.settle("kws-en", **RUNNING)
    for kind in missing:
        scene.cache.forget(Key(kind, NAMESPACE, "kws-en"))
    return scene


async def test_nothing_is_made_for_a_variant_that_is_gone_behind_our_back() -> None:
    scene, server = settled(DEPLOYMENT, SERVICE), Server(None)
    due = await passed(scene, server)
    assert server.made == []
    assert not scene.cache.has(KWS_EN)
    assert KWS_EN in due.now, "what else is known of it goes with a pass"


@pytest.mark.parametrize(
    "metadata",
    [{"uid": "another"}, {"deletionTimestamp": NOW}],
    ids=["made anew", "being deleted"],
)
async def test_nothing_is_made_for_the_variant_that_it_was(metadata: Manifest) -> None:
    scene = settled(DEPLOYMENT)
    there = sent({**variant(), "metadata": {"name": "kws-en", **metadata}})
    server = Server(there)
    due = await passed(scene, server)
    assert server.made == []
    assert KWS_EN in due.now, "a pass is to look at what it is now"
    assert scene.world("kws-en").variant.uid == there["metadata"]["uid"]


async def test_a_child_that_somebody_deleted_is_made_again() -> None:
    scene = settled(DEPLOYMENT)
    server = Server(sent(variant()))
    await passed(scene, server)
    assert (server.made, server.asked) == (["Deployment"], 1)


async def test_nobody_is_asked_while_nothing_is_missing() -> None:
    new, server = Scene(node("n1"), engine(), variant()), Server(None)
    await passed(new, server)
    assert sorted(server.made) == ["Deployment", "Service"]
    assert server.asked == 0, "a new variant had no children before"
    server = Server(None)
    edited = variant(args=["--another"])
    scene = settled()
    status = scene.world("kws-en").variant.status
    scene.put({**edited, "metadata": {**edited["metadata"], "generation": 2}, "status": status})
    await passed(scene, server)
    assert "Deployment" in server.made
    assert server.asked == 0, "it was there, and is changed"


async def test_no_pod_is_made_for_a_shared_engine_that_is_gone() -> None:
    scene = SharedScene(gpu_node(), {**shared_engine(), "status": {"variants": 1}}, model("a"))
    server = Server(None)
    await passed(scene, server, SHARED)
    assert server.made == []
    assert not scene.cache.has(Key(ENGINE, NAMESPACE, "kws"))

"""A pass over an engine that is shared costs what its own variants cost, however many might choose it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from roundhouse_api.model import Manifest
from roundhouse_operator.asking import Asker
from roundhouse_operator.cache import Touched
from roundhouse_operator.core.kinds import ENGINE, SERVICE, VARIANT, Key, Kind
from roundhouse_operator.project import StoredResource
from roundhouse_operator.reconcile import Reconciler
from roundhouse_operator.verifier import Verifier
from tests.unit.operator.samples import engine
from tests.unit.operator.sharing import SHARED, SharedScene, gpu_node, shared_engine
from tests.unit.operator.test_sharing import model
from tests.unit.operator.worlds import NAMESPACE, NOW, applied, conditions, sent


def selecting(name: str, stage: str = "Transcribe", **spec: Any) -> Manifest:
    return model(name, engineRef=None, engineSelector={"stage": stage}, **spec)


def key(name: str) -> Key:
    return Key(VARIANT, NAMESPACE, name)


class Reads:
    """How many resources are unpacked and judged anew."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        read = StoredResource.read

        def counted(stored: StoredResource) -> Any:
            self.count += 1
            return read(stored)

        monkeypatch.setattr(StoredResource, "read", counted)

    def of(self, scene: SharedScene) -> int:
        self.count = 0
        scene.arrange()
        return self.count


@pytest.mark.parametrize("others", [100, 1000])
def test_variants_that_chose_another_engine_cost_it_nothing(
    others: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = SharedScene(shared_engine(), gpu_node(), model("a"), selecting("b"))
    assert scene.cache.choose(key("b"), SHARED).now == {SHARED}
    scene.come_to_rest()
    scene.put(engine("embedder", stage="Embed"))
    for number in range(others):
        scene.put(selecting(f"v{number}", "Embed"))
        assert scene.cache.choose(key(f"v{number}"), Key(ENGINE, NAMESPACE, "embedder")) == Touched()
    assert Reads(monkeypatch).of(scene) == 2
    world = scene.cache.engine_world(SHARED)
    assert world
    assert [one.variant.name for one in world.variants] == ["a", "b"]


@pytest.mark.parametrize("engines", [10, 100])
def test_an_engine_is_read_once_whoever_asks_for_it(engines: int, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = SharedScene(shared_engine(), gpu_node(), *(selecting(f"v{number}") for number in range(20)))
    scene.put(*(engine(f"e{number}") for number in range(engines)))
    reads = Reads(monkeypatch)
    for number in range(20):
        assert len(scene.world(f"v{number}").engines) == engines + 1
    assert reads.count <= 20 + engines + 1
    scene.put({**engine("e0", version="2.0.0"), "metadata": {"name": "e0", "generation": 2}})
    [found] = [one for one in scene.world("v0").engines if one.name == "e0"]
    assert found.generation == 2


def test_what_is_in_a_list_stays_a_member_until_its_own_pass_was() -> None:
    """After a restart, of a variant whose status does not say yet where it is to be."""
    scene = SharedScene(shared_engine(), gpu_node(), model("a"), selecting("b"))
    scene.cache.choose(key("b"), SHARED)
    scene.states["b"] = "loading"
    scene.come_to_rest()
    scene.cache._variants._choose(key("b"), None)
    assert "b" in scene.arrange().members
    assert scene.act() is False


def test_a_choice_goes_with_the_variant() -> None:
    scene = SharedScene(shared_engine(), gpu_node(), selecting("a"))
    scene.cache.choose(key("a"), SHARED)
    assert SHARED in scene.cache.forget(key("a")).now
    world = scene.cache.engine_world(SHARED)
    assert world
    assert world.variants == ()


class Server:
    """Takes what is written, and keeps it."""

    def __init__(self, scene: SharedScene) -> None:
        self.scene = scene

    async def get(self, _kind: Kind, _namespace: str, name: str) -> Manifest:
        return sent(selecting(name))

    async def apply(self, _kind: Kind, manifest: Manifest, *, force: bool) -> Manifest:  # noqa: ARG002
        return sent(applied(manifest))

    async def patch_status(self, _kind: Kind, _space: str, name: str, patch: Manifest) -> Manifest:
        self.scene.write(name, {**self.scene.world(name).variant.status, **patch["status"]})
        return sent({**selecting(name), "status": self.scene.world(name).variant.status})


async def test_a_variant_that_had_no_engine_gets_a_place_on_one_that_comes() -> None:
    """Its status names no engine before it has a place there, and no place is given to whom nobody knows."""
    scene = SharedScene(gpu_node(), selecting("a"))
    cluster, due = cast("Any", Server(scene)), Touched()
    verifier = Verifier(cluster, scene.cache, lambda _key: None, Asker())
    recorder = cast("Any", SimpleNamespace(tell=lambda *_: None, note=lambda *_: None))
    reconciler = Reconciler(cluster, scene.cache, recorder, lambda: NOW, due.merge, verifier)
    await reconciler(key("a"))
    assert conditions(scene.world("a").variant.status)["EngineSelected"][0] == "False"
    scene.put(shared_engine())
    await reconciler(key("a"))
    assert SHARED in due.now
    scene.come_to_rest()
    assert scene.listed() == {"kws-0": {"a"}}
    await reconciler(key("a"))
    told = conditions(scene.world("a").variant.status)
    assert (told["EngineSelected"][0], told["Ready"]) == ("True", ("True", "Serving"))
    assert scene.cache.has(Key(SERVICE, NAMESPACE, "a"))
    assert scene.act() is False

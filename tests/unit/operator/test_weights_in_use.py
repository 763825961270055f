"""Weights are kept as long as somebody reads them, and for a while after."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from roundhouse_api.model import Manifest
from roundhouse_operator.asking import Asker
from roundhouse_operator.core.kinds import (
    CONFIG_MAP,
    DEPLOYMENT,
    ENGINE,
    JOB,
    POD,
    STORE,
    VARIANT,
    VOLUME_CLAIM,
    Key,
)
from roundhouse_operator.core.observed import Variant
from roundhouse_operator.core.plan import Delete, Mark, Plan
from roundhouse_operator.core.shared import arrange
from roundhouse_operator.fetching import Fetching
from roundhouse_operator.queue import RetryError
from roundhouse_operator.reconcile import Reconciler
from roundhouse_operator.sweeping import Sweeping
from roundhouse_operator.verifier import Verifier
from tests.unit.operator.caches import COMPLETE, EPOCH, HUB, LOADER, PVC, SHARED_CLAIM, Caches
from tests.unit.operator.samples import engine, variant
from tests.unit.operator.worlds import NAMESPACE, NOW, conditions, node, pod

NEWER = {"type": "HuggingFace", "huggingFace": {"repo": "acme/kws-en", "revision": "v2"}}
KWS_EN = Key(VARIANT, NAMESPACE, "kws-en")
SERVING: dict[str, Any] = {"replicas": 1, "readyReplicas": 1, "updatedReplicas": 1}


def edit(scene: Caches, source: Manifest) -> None:
    generation = scene.world("kws-en").variant.generation + 1
    status = scene.world("kws-en").variant.status
    edited = variant(source=source)
    scene.put({**edited, "metadata": {**edited["metadata"], "generation": generation}, "status": status})


def reader(scene: Caches, name: str = "kws-en-1") -> None:
    """A pod of the template that stands."""
    one = pod(name)
    one["metadata"]["annotations"] = scene.all(DEPLOYMENT)[0]["spec"]["template"]["metadata"]["annotations"]
    scene.put(one)


def gone(scene: Caches, name: str = "kws-en-1") -> None:
    scene.cache.forget(Key(POD, NAMESPACE, name))


def expire(scene: Caches) -> None:
    """Jobs that have ended are taken away by Kubernetes an hour later."""
    uids = [(one["metadata"]["name"], one["metadata"]["uid"]) for one in scene.all(JOB)]
    scene.carry_out(Plan(deletes=tuple(Delete(JOB, NAMESPACE, name, uid) for name, uid in uids)))


def half_way(cache: Manifest) -> Caches:
    """One pod reads older weights; the template is of newer ones, whose pod does not start."""
    scene = Caches(engine(cache=cache), variant(source=HUB))
    scene.steps()
    scene.ends(COMPLETE)
    scene.steps(**SERVING)
    expire(scene)
    reader(scene)
    edit(scene, NEWER)
    scene.steps(**SERVING)
    scene.ends(COMPLETE)
    scene.steps(replicas=2, readyReplicas=1, updatedReplicas=1)
    return scene


@pytest.mark.parametrize("cache", [PVC, SHARED_CLAIM], ids=["own claim", "claim of others"])
def test_what_an_older_pod_reads_is_not_swept_under_it(cache: Manifest) -> None:
    scene = half_way(cache)
    before = [scene.all(kind) for kind in (JOB, VOLUME_CLAIM, CONFIG_MAP)]
    assert scene.sweep() == Plan()
    assert [scene.all(kind) for kind in (JOB, VOLUME_CLAIM, CONFIG_MAP)] == before
    assert len(scene.all(CONFIG_MAP)) == 2
    gone(scene)
    scene.steps(**SERVING)
    assert not scene.sweep().empty, "nobody reads the older ones any more"


def test_a_revert_finds_the_weights_that_an_older_pod_still_reads() -> None:
    scene = half_way(PVC)
    scene.sweep()
    edit(scene, HUB)
    status = scene.steps(replicas=2, readyReplicas=1, updatedReplicas=1)
    assert conditions(status)["WeightsReady"] == ("True", "Downloaded")
    [deployment] = scene.all(DEPLOYMENT)
    assert deployment["spec"]["template"]["metadata"]["annotations"] == reads(scene)


def reads(scene: Caches) -> Manifest:
    [store] = {one.store for one in scene.world("kws-en").pods}
    return {"roundhouse.dev/weights": store}


def test_a_variant_that_is_refused_keeps_what_its_pods_read() -> None:
    scene = half_way(PVC)
    [older] = {one.store for one in scene.world("kws-en").pods}
    scene.put(
        {**variant(source=HUB, engineRef={"name": "gone"}), "status": scene.world("kws-en").variant.status}
    )
    assert older in scene.decide("kws-en").stores


class Sharing(Caches):
    """A Shared engine whose one pod is told to read what was fetched."""

    ENGINE = Key(ENGINE, NAMESPACE, "kws")

    def __init__(self) -> None:
        shared = engine(serving={"type": "Shared"}, cache=SHARED_CLAIM)
        super().__init__(node("n1"), shared, variant(source=HUB))

    def arrange(self) -> None:
        """A pass over the engine."""
        world = self.cache.engine_world(self.ENGINE)
        assert world
        found = arrange(world)
        self.cache.want(self.ENGINE, found.weights)
        self.carry_out(found.plan)
        self.cache.standing.put_seats(self.ENGINE, found.seats, found.members)


def sharing() -> Sharing:
    scene = Sharing()
    scene.arrange()
    scene.steps()
    scene.ends(COMPLETE)
    scene.steps()
    expire(scene)
    scene.arrange()
    scene.arrange()
    return scene


def test_what_a_shared_pod_is_told_to_read_is_kept_until_its_list_names_the_next() -> None:
    scene = sharing()
    edit(scene, NEWER)
    scene.step()
    scene.arrange()
    assert scene.sweep() == Plan(), "not a byte of the newer ones is there"
    scene.steps()
    scene.ends(COMPLETE)
    scene.steps()
    scene.arrange()
    assert scene.sweep() == Plan(), "the pod unloads the older ones in its own time"
    scene.arrange()
    assert not scene.sweep().empty


def test_the_end_of_a_list_is_news_for_the_weights_that_it_named() -> None:
    scene = sharing()
    [name] = [one["metadata"]["name"] for one in scene.all(CONFIG_MAP) if "claim" in one["data"]]
    scene.cache.forget(KWS_EN)
    assert scene.sweep() == Plan()
    touched = scene.cache.want(Sharing.ENGINE, frozenset())
    assert Key(STORE, NAMESPACE, name) in touched.now


def by_hand(scene: Caches) -> None:
    """A person has put the weights onto the claim; a Job looks, and finds them whole."""
    scene.steps()
    scene.ends(COMPLETE)
    scene.steps()


def test_weights_that_a_person_put_onto_the_claim_are_not_swept() -> None:
    scene = Caches(engine(cache=SHARED_CLAIM), variant(source=HUB, downloadPolicy="Never"))
    by_hand(scene)
    assert scene.record()["complete"] == "true"
    scene.cache.forget(KWS_EN)
    plan = scene.sweep()
    assert plan.applies == (), "no Job removes a directory"
    assert {one.kind for one in plan.deletes} == {JOB, CONFIG_MAP}


def test_weights_that_were_fetched_and_then_looked_at_are_swept() -> None:
    scene = Caches(engine(cache=SHARED_CLAIM), variant(source=HUB))
    by_hand(scene)
    expire(scene)
    scene.put({**variant(source=HUB, downloadPolicy="Never"), "status": scene.world("kws-en").variant.status})
    scene.steps()
    scene.cache.forget(KWS_EN)
    assert [one.kind for one in scene.sweep().applies] == [CONFIG_MAP, JOB]


class Sweeps:
    """The shell's part of a sweep, with a clock of its own. Objects are what its marks leave of them."""

    def __init__(self, scene: Caches, grace: float = 600) -> None:
        self.scene, self.grace = scene, grace
        self.now = 0.0
        self.later: list[float] = []
        self.restart()

    def restart(self) -> None:
        cluster: Any = self
        self.sweeping = Sweeping(
            Fetching(cluster, self.scene.cache, lambda _touched: None),
            lambda _on, _transition: None,
            lambda _key, seconds: self.later.append(seconds),
            LOADER,
            self.grace,
            lambda: self.now,
        )

    async def mark(self, mark: Mark) -> Manifest:
        return self.scene.mark(mark)

    async def at(self, minutes: float) -> bool:
        """Whether a pass at that time takes the one cache away."""
        self.now = EPOCH + minutes * 60
        [store] = [one["metadata"]["name"] for one in self.scene.all(VOLUME_CLAIM)]
        try:
            await self.sweeping(Key(STORE, NAMESPACE, store))
        except AttributeError:  # there is no cluster that would delete anything
            return True
        return False


def fetched() -> Caches:
    scene = Caches(engine(cache=PVC), variant(source=HUB))
    scene.steps()
    scene.ends(COMPLETE)
    scene.steps(**SERVING)
    scene.cache.want(Key(ENGINE, NAMESPACE, "kws"), frozenset())
    return scene


async def test_what_nobody_wants_is_kept_for_a_while() -> None:
    scene = fetched()
    sweeps = Sweeps(scene)
    scene.cache.forget(KWS_EN)
    assert not await sweeps.at(minutes=0)
    assert sweeps.later == [600]
    assert not await sweeps.at(minutes=9)
    assert await sweeps.at(minutes=10)


async def test_who_wants_it_again_is_given_as_long_the_next_time() -> None:
    scene = fetched()
    sweeps = Sweeps(scene)
    scene.cache.forget(KWS_EN)
    assert not await sweeps.at(minutes=0)
    scene.put(variant(source=HUB))
    scene.steps(**SERVING)
    assert not await sweeps.at(minutes=9)
    scene.cache.forget(KWS_EN)
    assert not await sweeps.at(minutes=10)
    assert not await sweeps.at(minutes=19)
    assert await sweeps.at(minutes=20)


def test_who_wants_it_again_gives_the_cache_a_pass_that_says_so() -> None:
    scene = fetched()
    [store] = [one["metadata"]["name"] for one in scene.all(VOLUME_CLAIM)]
    scene.cache.want(KWS_EN, frozenset())
    assert Key(STORE, NAMESPACE, store) in scene.cache.want(KWS_EN, frozenset({store})).now


async def test_a_restart_gives_no_further_time() -> None:
    scene = fetched()
    sweeps = Sweeps(scene)
    scene.cache.forget(KWS_EN)
    assert not await sweeps.at(minutes=0)
    for minutes in (4, 8):
        sweeps.restart()
        assert not await sweeps.at(minutes)
    assert sweeps.later == [600, 360, 120]
    assert await sweeps.at(minutes=10)


@pytest.mark.parametrize("said", ["for ages", "2040-01-01T00:00:00Z", "0001-01-01T00:00:00Z"])
async def test_a_time_that_cannot_be_begins_anew(said: str) -> None:
    scene = fetched()
    sweeps = Sweeps(scene)
    [record] = scene.all(CONFIG_MAP)
    scene.cache.forget(KWS_EN)
    scene.mark(
        Mark(CONFIG_MAP, NAMESPACE, record["metadata"]["name"], {"roundhouse.dev/unwanted-since": said})
    )
    assert not await sweeps.at(minutes=0)
    assert not await sweeps.at(minutes=9)
    assert await sweeps.at(minutes=10)


def test_nothing_is_swept_before_every_variant_was_heard() -> None:
    scene = Caches(engine(cache=PVC), variant(source=HUB))
    scene.cache.want(Key(ENGINE, NAMESPACE, "kws"), frozenset())
    assert not scene.cache.wants.heard_all(NAMESPACE)
    scene.steps()
    assert scene.cache.wants.heard_all(NAMESPACE)


async def test_nothing_is_swept_before_every_engine_was_heard() -> None:
    scene = fetched()
    sweeps = Sweeps(scene, grace=0)
    scene.cache.forget(KWS_EN)
    scene.put(engine("another"))
    with pytest.raises(RetryError):
        await sweeps.at(minutes=0)
    scene.cache.forget(Key(ENGINE, NAMESPACE, "another"))
    assert await sweeps.at(minutes=0)


def test_what_a_variant_of_that_name_read_before_is_not_what_this_one_reads() -> None:
    scene = fetched()
    [older] = scene.decide("kws-en").stores
    scene.cache.forget(KWS_EN)
    anew = variant(source=NEWER)
    scene.put({**anew, "metadata": {**anew["metadata"], "uid": "another"}})
    assert [one.owner_uid for one in scene.world("kws-en").children if one.kind == DEPLOYMENT] == [
        "uid-kws-en"
    ]
    [wanted] = scene.decide("kws-en").stores
    assert wanted != older


def reconciler(scene: Caches) -> Reconciler:
    """Whose writes all are refused."""
    cluster = cast("Any", None)
    recorder = cast("Any", SimpleNamespace(tell=lambda *_: None, note=lambda *_: None))
    verifier = Verifier(cluster, scene.cache, lambda _key: None, Asker())
    return Reconciler(cluster, scene.cache, recorder, lambda: NOW, lambda _touched: None, verifier)


async def test_a_variant_that_a_finalizer_holds_keeps_its_weights_and_no_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written: list[Manifest] = []

    async def write(_self: Reconciler, _variant: Variant, status: Manifest) -> None:
        written.append(status)

    monkeypatch.setattr(Reconciler, "_write_status", write)
    scene = fetched()
    hung = variant("hung", source=HUB)
    hung["metadata"] |= {"deletionTimestamp": NOW, "finalizers": ["example.org/backup"]}
    scene.put({**hung, "status": {"weights": {"key": "theirs-0123456789ab"}}})
    assert not scene.cache.wants.heard_all(NAMESPACE)
    await reconciler(scene)(Key(VARIANT, NAMESPACE, "hung"))
    assert [conditions(one)["Ready"] for one in written] == [("False", "BeingDeleted")]
    assert scene.cache.wants.heard_all(NAMESPACE)
    assert scene.cache.wants.by(NAMESPACE, "theirs-0123456789ab") == {Key(VARIANT, NAMESPACE, "hung")}
    sweeps = Sweeps(scene, grace=0)
    scene.cache.forget(KWS_EN)
    assert await sweeps.at(minutes=0)


async def test_nor_does_one_whose_passes_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = fetched()
    scene.put({**variant("broken"), "status": {"weights": {"key": "theirs-0123456789ab"}}})
    one = reconciler(scene)

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    async def written(*_: object) -> None:
        """A status that is taken."""

    monkeypatch.setattr("roundhouse_operator.reconcile.decide", fail)
    monkeypatch.setattr(Reconciler, "_write_status", written)
    with pytest.raises(RetryError):
        await one(Key(VARIANT, NAMESPACE, "broken"))
    assert scene.cache.wants.heard_all(NAMESPACE)
    assert scene.cache.wants.by(NAMESPACE, "theirs-0123456789ab") == {Key(VARIANT, NAMESPACE, "broken")}

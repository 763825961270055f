"""The writes of a sweep of a claim of others: what it decides by, and what becomes of one that fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from roundhouse_api.model import Manifest
from roundhouse_operator.core.kinds import CONFIG_MAP, ENGINE, JOB, STORE, VARIANT, Key, Kind
from roundhouse_operator.core.plan import Delete, Mark, Plan
from roundhouse_operator.errors import RefusedError
from roundhouse_operator.fetching import Fetching
from roundhouse_operator.queue import RetryError
from roundhouse_operator.sweeping import Sweeping
from tests.unit.operator.caches import COMPLETE, EPOCH, HUB, LOADER, SHARED_CLAIM, Caches, failure
from tests.unit.operator.samples import engine, variant
from tests.unit.operator.worlds import NAMESPACE, applied, node

KWS_EN = Key(VARIANT, NAMESPACE, "kws-en")


class Shell:
    """A scene whose API server takes writes; `while_asked` comes to pass while it is asked for a claim."""

    def __init__(self, *, refused: bool = False, fetched: bool = True) -> None:
        """`refused`: the claim took no annotation when the Job ended."""
        self.scene = Caches(node("n1"), engine(cache=SHARED_CLAIM), variant(source=HUB))
        self.scene.refuses_marks = refused and fetched
        self.scene.steps()
        self.scene.refuses_marks = refused
        self.scene.ends({**COMPLETE, "fetched": fetched})
        self.scene.steps()
        [record] = self.scene.all(CONFIG_MAP)
        self.store = Key(STORE, NAMESPACE, record["metadata"]["name"])
        self.scene.cache.want(Key(ENGINE, NAMESPACE, "kws"), frozenset())
        self.wanted = frozenset(self.scene.decide("kws-en").stores)
        self.scene.cache.forget(KWS_EN)
        self.later: list[float] = []
        self.told: list[str] = []
        """Events."""
        self.while_asked: Callable[[], object] = lambda: None
        self.refuses = frozenset[str]()
        """Kinds that may not be annotated."""
        cluster: Any = self
        fetching = Fetching(cluster, self.scene.cache, lambda _touched: None, self._now)
        self.sweeping = Sweeping(
            fetching,
            lambda on, told: self.told.append(f"{on.kind.name} {on.name}: {told.message}"),
            lambda _key, seconds: self.later.append(seconds),
            LOADER,
            clock=self._now,
        )

    def _now(self) -> float:
        return self.scene.now

    async def mark(self, mark: Mark) -> Manifest:
        if mark.kind.name in self.refuses:
            raise RefusedError(403, "Forbidden", "no")
        return self.scene.mark(mark)

    async def apply(self, kind: Kind, manifest: Manifest, **_: bool) -> Manifest:
        found: Manifest = applied({**self.scene.find(kind, manifest["metadata"]["name"]), **manifest})
        self.scene.put(found)
        return self.scene.find(kind, manifest["metadata"]["name"])

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        self.scene.carry_out(Plan(deletes=(Delete(kind, namespace, name, uid),)))

    async def get_metadata(self, _kind: Kind, _namespace: str, name: str) -> Manifest:
        self.while_asked()
        return {"metadata": {"annotations": self.scene.claims[name], "uid": "of-the-claim"}}

    async def sweep(self) -> list[str]:
        """A pass; names of the Jobs that are there after it."""
        await self.sweeping(self.store)
        return [one["metadata"]["name"] for one in self.scene.all(JOB)]


async def test_who_comes_to_want_weights_while_a_sweep_asks_for_their_claim_keeps_them() -> None:
    shell = Shell()

    def come() -> None:
        shell.scene.put(variant(source=HUB))
        shell.scene.cache.want(KWS_EN, shell.wanted)

    shell.while_asked = come
    assert not any("-sweep-" in name for name in await shell.sweep())
    assert shell.scene.record()["complete"] == "true"


async def test_a_sweep_that_failed_is_told_on_the_claim_and_tried_again() -> None:
    shell = Shell()
    [first] = await shell.sweep()
    shell.scene.now = EPOCH + 60
    shell.scene.ends(failure("LoaderFailed", "the volume is read-only"))
    assert await shell.sweep() == [first]
    assert shell.later == [300]
    assert await shell.sweep() == [first]
    [told] = shell.told
    assert told.startswith("PersistentVolumeClaim models: Weights 'kws-en-")
    assert told.endswith(
        "are not removed: the Job that removes it failed, and is made again: the volume is read-only"
    )
    assert len(shell.sweeping.failing) == 1, "which the metric counts"
    shell.scene.now += 3600
    shell.later.clear()
    assert await shell.sweep() == []
    assert len(shell.told) == 2, "an event is not kept for longer"
    assert await shell.sweep() == [first]
    assert shell.scene.claims["models"], "it is ours as before"
    shell.scene.ends({"result": "Complete"})
    await shell.sweep()
    assert shell.scene.all(CONFIG_MAP) == []
    assert shell.scene.claims["models"] == {}
    shell.scene.forget_pods()
    await shell.sweeping(shell.store)
    assert shell.told[2:] == ["PersistentVolumeClaim models: Over: It is gone"]
    assert not shell.sweeping.failing


async def test_what_is_still_marked_keeps_its_record() -> None:
    shell = Shell()
    await shell.sweep()
    shell.scene.ends({"result": "Complete"})
    shell.refuses = frozenset({"PersistentVolumeClaim"})
    for _ in range(2):
        with pytest.raises(RetryError, match="'models' may not be annotated, allow `patch` of it: no"):
            await shell.sweep()
    assert len(shell.told) == 1
    shell.refuses = frozenset()
    await shell.sweep()
    assert shell.scene.all(CONFIG_MAP) == []


async def test_what_may_not_be_given_its_time_is_told() -> None:
    shell = Shell()
    shell.sweeping.grace_seconds = 600
    shell.refuses = frozenset({"ConfigMap"})
    with pytest.raises(RetryError, match="may not be annotated"):
        await shell.sweep()
    assert "are not removed: ConfigMap 'weights-" in shell.told[0]
    shell.refuses = frozenset()
    await shell.sweep()
    assert shell.later == [600]


async def test_what_was_never_marked_as_fetched_is_kept_until_a_person_says() -> None:
    shell = Shell(refused=True)
    await shell.sweep()
    await shell.sweep()
    assert shell.later == [300, 300]
    [told] = shell.told
    key = shell.scene.record()["key"]
    assert f"give it the annotation `fetched.roundhouse.dev/{key}: '{{}}'`" in told
    shell.scene.claims["models"][f"fetched.roundhouse.dev/{key}"] = "{}"
    [name] = await shell.sweep()
    assert "-sweep-" in name


async def test_what_is_wrongly_marked_is_not_removed() -> None:
    shell = Shell(refused=True, fetched=False)
    shell.refuses = frozenset({"PersistentVolumeClaim"})
    with pytest.raises(RetryError, match="may not be annotated"):
        await shell.sweep()
    shell.refuses = frozenset()
    assert not any("-sweep-" in name for name in await shell.sweep())
    assert shell.scene.claims["models"] == {}
    await shell.sweeping(shell.store)
    assert shell.scene.all(CONFIG_MAP) == shell.scene.all(JOB) == []


async def test_a_claim_that_may_not_be_read_is_told_on_the_record() -> None:
    shell = Shell()

    def forbid() -> None:
        raise RefusedError(403, "Forbidden", "claims are secret")

    shell.while_asked = forbid
    with pytest.raises(RetryError, match="'models' may not be read: claims are secret"):
        await shell.sweep()
    [told] = shell.told
    assert told.startswith(f"ConfigMap {shell.store.name}: ")


async def test_who_does_not_say_for_long_what_it_wants_is_named() -> None:
    shell = Shell()
    shell.scene.put(variant("silent"))
    for _ in range(2):
        with pytest.raises(RetryError, match="not known yet which weights ModelVariant speech/silent wants"):
            await shell.sweep()
        shell.scene.now += 599
    assert shell.told == []
    shell.scene.now += 1
    with pytest.raises(RetryError):
        await shell.sweep()
    [told] = shell.told
    assert "are not removed: it is not known yet which weights ModelVariant speech/silent wants" in told
    shell.scene.cache.forget(Key(VARIANT, NAMESPACE, "silent"))
    assert any("-sweep-" in name for name in await shell.sweep())
    assert not shell.sweeping.waiting

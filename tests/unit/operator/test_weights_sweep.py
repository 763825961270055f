"""The writes of a sweep of a claim of others: what it decides by, and what becomes of one that fails."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from roundhouse_api.model import Manifest
from roundhouse_operator.core.kinds import CONFIG_MAP, ENGINE, JOB, STORE, VARIANT, Key, Kind
from roundhouse_operator.core.plan import Delete, Mark, Plan
from roundhouse_operator.errors import RefusedError
from roundhouse_operator.fetching import Fetching
from roundhouse_operator.queue import RetryError
from tests.unit.operator.caches import COMPLETE, EPOCH, HUB, LOADER, SHARED_CLAIM, Caches, failure
from tests.unit.operator.samples import engine, variant
from tests.unit.operator.worlds import NAMESPACE, applied, node

KWS_EN = Key(VARIANT, NAMESPACE, "kws-en")


class Shell:
    """A scene whose API server takes writes; `while_asked` comes to pass while it is asked for a claim."""

    def __init__(self) -> None:
        self.scene = Caches(node("n1"), engine(cache=SHARED_CLAIM), variant(source=HUB))
        self.scene.steps()
        self.scene.ends(COMPLETE)
        self.scene.steps()
        self.scene.cache.want(Key(ENGINE, NAMESPACE, "kws"), frozenset())
        self.wanted = frozenset(self.scene.decide("kws-en").stores)
        self.scene.cache.forget(KWS_EN)
        self.later: list[float] = []
        self.while_asked: Callable[[], object] = lambda: None
        self.refuses_marks = False
        cluster: Any = self
        self.fetching = Fetching(
            cluster,
            self.scene.cache,
            lambda _touched: None,
            lambda _key, seconds: self.later.append(seconds),
            LOADER,
            clock=lambda: self.scene.now,
        )

    async def mark(self, mark: Mark) -> Manifest:
        if self.refuses_marks:
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
        return {"metadata": {"annotations": self.scene.claims[name]}}

    async def sweep(self) -> list[str]:
        """A pass; names of the Jobs that are there after it."""
        [record] = self.scene.all(CONFIG_MAP)
        await self.fetching.sweep(Key(STORE, NAMESPACE, record["metadata"]["name"]))
        return [one["metadata"]["name"] for one in self.scene.all(JOB)]


async def test_who_comes_to_want_weights_while_a_sweep_asks_for_their_claim_keeps_them() -> None:
    shell = Shell()

    def come() -> None:
        shell.scene.put(variant(source=HUB))
        shell.scene.cache.want(KWS_EN, shell.wanted)

    shell.while_asked = come
    assert not any("-sweep-" in name for name in await shell.sweep())
    assert shell.scene.record()["complete"] == "true"


async def test_a_sweep_that_failed_is_told_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    shell = Shell()
    [first] = await shell.sweep()
    shell.scene.now = EPOCH + 60
    shell.scene.ends(failure("LoaderFailed", "the volume is read-only"))
    with caplog.at_level(logging.WARNING):
        assert await shell.sweep() == [first]
    assert "the volume is read-only" in caplog.text
    assert shell.later == [300]
    shell.scene.now += 300
    assert await shell.sweep() == []
    assert await shell.sweep() == [first]
    assert shell.scene.claims["models"], "it is ours as before"
    shell.scene.ends({"result": "Complete"})
    await shell.sweep()
    assert shell.scene.all(CONFIG_MAP) == []
    assert shell.scene.claims["models"] == {}


async def test_what_is_still_marked_keeps_its_record() -> None:
    shell = Shell()
    await shell.sweep()
    shell.scene.ends({"result": "Complete"})
    shell.refuses_marks = True
    with pytest.raises(RetryError, match="'models' may not be changed"):
        await shell.sweep()
    shell.refuses_marks = False
    await shell.sweep()
    assert shell.scene.all(CONFIG_MAP) == []

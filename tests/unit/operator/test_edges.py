"""Moments that a real API server shows once in a thousand passes: edits in flight, slow answers, waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from roundhouse_api.conditions import Reason
from roundhouse_api.model import Manifest
from roundhouse_api.v1alpha1 import EngineSpec
from roundhouse_operator import leader, watch
from roundhouse_operator.asking import Asker
from roundhouse_operator.cache import Cache, Touched
from roundhouse_operator.cluster import Change, Cluster, Page
from roundhouse_operator.core.desired.overlay import overlay_problems
from roundhouse_operator.core.diagnose import newest
from roundhouse_operator.core.fields import differences
from roundhouse_operator.core.kinds import VARIANT, Key, Kind
from roundhouse_operator.core.support import refuse_engine
from roundhouse_operator.errors import UnreachableError
from roundhouse_operator.handlers import Backoffs
from roundhouse_operator.leader import Election
from roundhouse_operator.project_pods import project_pod
from roundhouse_operator.queue import WorkQueue
from roundhouse_operator.reconcile import Reconciler
from roundhouse_operator.verifier import Verifier
from roundhouse_operator.watch import Scope, Source, follow
from tests.unit.operator.samples import engine, variant
from tests.unit.operator.worlds import MANAGER, NAMESPACE, NOW, Scene, applied, node, pod, sent

KWS_EN = Key(VARIANT, NAMESPACE, "kws-en")


class ScriptedCluster:
    """Takes status patches; each answer shows what `edit` did to the object meanwhile."""

    def __init__(self, stored: Manifest, edit: Manifest) -> None:
        self.stored, self.edit = stored, edit

    async def patch_status(self, _kind: Kind, _namespace: str, _name: str, patch: Manifest) -> Manifest:
        metadata = {**self.stored["metadata"], "resourceVersion": "3", **self.edit}
        return {**self.stored, "metadata": metadata, "status": patch["status"]}


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param({"generation": 2}, id="spec"),
        pytest.param({"labels": {"team": "speech"}}, id="labels"),
        pytest.param({"deletionTimestamp": "2026-01-01T00:00:00Z"}, id="deletion"),
    ],
)
def test_an_edit_during_a_pass_gets_a_pass_of_its_own(edit: Manifest) -> None:
    assert KWS_EN in passed_with(edit)


def test_our_own_status_write_gets_none() -> None:
    assert KWS_EN not in passed_with({})


async def test_a_status_tells_of_the_spec_that_was_decided_about() -> None:
    """An edit that comes while children are written is not said to be carried out."""
    scene = Scene(node("n1"), engine(), variant())

    class Editing:
        """While the Deployment is written, the author asks for something else."""

        status: Manifest

        async def apply(self, _kind: Kind, manifest: Manifest, *, force: bool) -> Manifest:  # noqa: ARG002
            edited = variant(args=["--another"])
            scene.put({**edited, "metadata": {**edited["metadata"], "generation": 2}})
            answer = applied(manifest)
            return {**answer, "metadata": sent(answer)["metadata"]}

        async def patch_status(self, _kind: Kind, _space: str, _name: str, patch: Manifest) -> Manifest:
            self.status = patch["status"]
            edited = variant(args=["--another"])
            metadata = {**edited["metadata"], "generation": 2}
            return sent({**edited, "metadata": metadata, "status": self.status})

    server, due = Editing(), Touched()
    cluster = cast("Cluster", server)
    verifier = Verifier(cluster, scene.cache, lambda _key: None, Asker())
    recorder = cast("Any", SimpleNamespace(tell=lambda *_: None, note=lambda *_: None))
    await Reconciler(cluster, scene.cache, recorder, lambda: NOW, due.merge, verifier)(KWS_EN)
    assert server.status["observedGeneration"] == 1
    assert {one["observedGeneration"] for one in server.status["conditions"]} == {1}
    assert KWS_EN in due.now, "the edit gets a pass of its own"


def passed_with(edit: Manifest) -> set[Key]:
    """Keys that are due after a pass during which `edit` happened."""
    stored = sent(variant())
    stored["metadata"] |= {"resourceVersion": "1", "generation": 1}
    cache, due = Cache(MANAGER), Touched()
    cache.upsert(VARIANT, stored)
    cluster = cast("Cluster", ScriptedCluster(stored, edit))
    reconciler = Reconciler(
        cluster,
        cache,
        cast("Any", SimpleNamespace(tell=lambda *_: None, note=lambda *_: None)),
        lambda: "2026-01-01T00:00:00Z",
        due.merge,
        Verifier(cluster, cache, lambda _key: None, Asker()),
    )
    asyncio.run(reconciler(KWS_EN))
    return due.now


def test_empty_members_of_a_list_that_is_owned_as_a_whole_are_no_difference() -> None:
    wanted = {"tolerations": [{"key": "", "operator": "Exists"}]}
    assert differences(wanted, {"tolerations": [{"operator": "Exists"}]}, {"f:tolerations": {}}) == []
    assert differences(wanted, {"tolerations": [{"operator": "Equal"}]}, {"f:tolerations": {}}) == [
        ("tolerations",)
    ]


async def test_what_a_follower_gathered_is_not_late_when_it_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    queue: WorkQueue[str] = WorkQueue()
    now = asyncio.get_running_loop().time
    monkeypatch.setattr("roundhouse_operator.queue._now", lambda: now() - 7200)
    queue.add("waiting")
    monkeypatch.undo()
    blocked = asyncio.Event()

    async def handle(_key: str) -> None:
        await blocked.wait()

    task = asyncio.create_task(queue.run(handle, workers=1))
    await asyncio.sleep(0)
    assert queue.oldest_seconds() < 60
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_lease_counts_from_when_its_answer_came(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that was on its way for nine seconds says nothing of those nine seconds."""
    clock = 100.0
    monkeypatch.setattr(leader, "_now", lambda: clock)
    election = Election(cast("Cluster", None), NAMESPACE, "lease", "us", 10)
    lease = {
        "metadata": {"resourceVersion": "1"},
        "spec": {"holderIdentity": "them", "leaseDurationSeconds": 10},
    }
    assert election._holder(lease, now=91.0) == "them"
    assert election._holder(lease, now=105.0) == "them", "14 s after it was asked for, 5 s after it came"
    assert election._holder(lease, now=110.5) is None


class Away:
    """Does not answer until the clock shows `until`."""

    def __init__(self, until: float) -> None:
        self.until, self.clock, self.asked = until, 0.0, 0

    async def sleep(self, seconds: float) -> None:
        self.clock += seconds

    async def get(self, *_: object) -> Manifest:
        self.asked += 1
        self.clock += 1.5
        if self.clock < self.until:
            raise UnreachableError("away")
        return {"metadata": {"resourceVersion": "1"}, "spec": {"holderIdentity": "us"}}

    async def replace(self, _: Kind, lease: Manifest) -> Manifest:
        if self.clock > self.until + 10:
            raise asyncio.CancelledError
        return lease


@pytest.mark.parametrize(("seconds", "kept"), [(6.5, True), (60, False)])
async def test_a_leader_uses_the_time_it_has_to_renew(
    seconds: float, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Away(seconds)
    monkeypatch.setattr(leader, "_now", lambda: cluster.clock)
    monkeypatch.setattr(leader, "asyncio", SimpleNamespace(sleep=cluster.sleep, timeout=asyncio.timeout))
    election = Election(cast("Cluster", cluster), NAMESPACE, "lease", "us", 10)
    election._renewed_at = 0.0
    with pytest.raises(asyncio.CancelledError if kept else leader.LeadershipLostError):
        await election.hold()
    assert cluster.clock < 10 or kept


class Closing:
    """Behind a proxy that answers each watch well, and ends it at once."""

    def __init__(self) -> None:
        self.watches = 0

    async def pages(self, *_: object) -> AsyncIterator[Page]:
        yield Page((), "1")

    async def watch(self, *_: object) -> AsyncIterator[Change]:
        self.watches += 1
        changes: tuple[Change, ...] = ()
        for change in changes:
            yield change


async def test_a_watch_that_ends_at_once_is_not_taken_up_as_fast_as_the_network_allows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "LEAST_SECONDS", 60.0)
    cluster, ignore = Closing(), lambda *_: None
    source = Source(cast("Cluster", cluster), Scope(VARIANT, None), ignore, ignore, ignore)
    following = asyncio.create_task(follow(source))
    await source.listed.wait()
    await asyncio.sleep(0.2)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    assert cluster.watches == 1
    assert source.silent_seconds() < 60


def test_kopf_never_gives_up_on_the_api_server() -> None:
    attempts = zip(Backoffs(), range(1000), strict=False)
    assert max(seconds for seconds, _ in attempts) == 8


@pytest.mark.parametrize("url", ["http://[::1/v1", "https://x:99999/v1"])
def test_an_upstream_url_that_nobody_can_call_is_refused(url: str) -> None:
    spec = {"type": "Upstream", "stage": "Transcribe", "interfaces": ["Batch"], "version": "1"}
    trouble = refuse_engine(EngineSpec.model_validate({**spec, "upstream": {"baseURL": url}}))
    assert trouble is not None
    assert (trouble.reason, repr(url) in trouble.message) == (Reason.INVALID_SPEC, True)


def test_a_model_name_that_the_status_cannot_hold_is_refused() -> None:
    source = {"type": "HTTP", "http": {"url": f"http://x/{'m' * 201}", "sha256": "0" * 64}}
    refused = Scene(engine(), variant(source=source)).decide("kws-en").refused
    assert refused is not None
    assert "set spec.engineModelName" in refused.message


@pytest.mark.parametrize(
    "template",
    [
        pytest.param({"metadata": {"labels": [1]}}, id="labels"),
        pytest.param({"spec": {"containers": [{"name": {"a": 1}}]}}, id="containers"),
        pytest.param({"spec": {"volumes": [{"name": {"a": 1}}]}}, id="volumes"),
    ],
)
def test_a_pod_template_of_a_wrong_shape_is_refused(template: Manifest) -> None:
    assert overlay_problems(template, "engine")


def test_a_pod_that_failed_for_good_is_over_once_another_stands_in_its_place() -> None:
    evicted, successor = (project_pod(sent(one)) for one in (pod("old", phase="Failed"), pod("new")))
    assert [one.name for one in newest([evicted, successor])] == ["new"]
    assert [one.name for one in newest([evicted])] == ["old"]


def test_an_edit_that_was_refused_once_still_takes_the_new_engine() -> None:
    """Its status says that the edit was looked at; its children, that nothing came of it."""
    scene = Scene(engine(), variant())
    scene.settle("kws-en", replicas=1, readyReplicas=1, updatedReplicas=1)
    other = engine(workload={"image": "example.org/other:9"})
    scene.put({**other, "metadata": {**other["metadata"], "uid": "another"}})
    assert scene.decide("kws-en").held is not None
    edited = variant(args=["--looked-at"])
    status = scene.status("kws-en")
    metadata = {**edited["metadata"], "generation": 2}
    scene.put({**edited, "metadata": metadata, "status": {**status, "observedGeneration": 2}})
    decision = scene.decide("kws-en")
    assert decision.held is None
    assert [apply.kind.name for apply in decision.plan.applies] == ["Deployment", "Service"]

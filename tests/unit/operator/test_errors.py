"""What an answer of the API server means, and that a first pass which fails leaves a status."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from roundhouse_api.model import Manifest
from roundhouse_operator.asking import Asker
from roundhouse_operator.cluster import Cluster
from roundhouse_operator.core.kinds import DEPLOYMENT, VARIANT, Key, Kind
from roundhouse_operator.core.outcome import Cause
from roundhouse_operator.core.plan import Plan
from roundhouse_operator.errors import (
    ClusterError,
    ConflictError,
    RefusedError,
    ThrottledError,
    UnreachableError,
    error_of,
)
from roundhouse_operator.execution import Execution
from roundhouse_operator.queue import RetryError
from roundhouse_operator.reconcile import Reconciler
from roundhouse_operator.recorder import Recorder
from roundhouse_operator.verifier import Verifier
from tests.unit.operator.samples import engine, variant
from tests.unit.operator.worlds import NAMESPACE, NOW, Scene, applied, conditions, message, node, sent

UNDECLARED = (
    "failed to create typed patch object (speech/kws-en; apps/v1, Kind=Deployment): "
    ".spec.template.spec.contaners: field not declared in schema"
)
KWS_EN = Key(VARIANT, NAMESPACE, "kws-en")


class Refusing:
    """Stands in for an API server that takes a status and answers every apply with `error`."""

    def __init__(self, error: ClusterError) -> None:
        self.error = error
        self.status: Manifest = {}

    async def apply(self, _kind: Kind, _manifest: Manifest, *, force: bool) -> Manifest:  # noqa: ARG002
        raise self.error

    async def patch_status(self, _kind: Kind, _namespace: str, _name: str, patch: Manifest) -> Manifest:
        self.status = patch["status"]
        return sent({**variant(), "status": self.status})


async def first_status(error: ClusterError, **workload: Any) -> Manifest:
    """What a new variant says after a pass in which the API server answers so."""
    scene = Scene(node("n1"), engine(workload={"image": "example.org/kws:1", **workload}), variant())
    server = Refusing(error)
    cluster = cast("Cluster", server)
    verifier = Verifier(cluster, scene.cache, lambda _key: None, Asker())
    reconciler = Reconciler(
        cluster, scene.cache, Recorder(cluster, "o"), lambda: NOW, lambda _touched: None, verifier
    )
    with pytest.raises(RetryError):
        await reconciler(KWS_EN)
    return server.status


def test_a_manifest_of_no_kind_is_refused_and_not_out_of_reach() -> None:
    answer = json.dumps({"kind": "Status", "code": 500, "message": UNDECLARED})
    error = error_of(500, "Internal Server Error", answer)
    assert isinstance(error, RefusedError)
    assert error.message == UNDECLARED
    assert isinstance(error_of(500, "Internal Server Error", UNDECLARED), RefusedError)
    assert isinstance(error_of(500, "Internal Server Error", "etcd is away"), UnreachableError)


async def test_a_pod_template_with_an_unknown_field_is_told() -> None:
    error = error_of(500, "Internal Server Error", json.dumps({"code": 500, "message": UNDECLARED}))
    status = await first_status(error, podTemplate={"spec": {"contaners": [1]}})
    assert conditions(status)["Accepted"] == ("False", "InvalidPodTemplate")
    assert "contaners: field not declared in schema" in message(status, "Accepted")


async def test_a_first_pass_that_fails_leaves_a_status() -> None:
    status = await first_status(UnreachableError("503 Service Unavailable: a webhook is away"))
    assert conditions(status)["Ready"] == ("False", "Pending")
    assert conditions(status)["Available"] == ("Unknown", "Pending")
    assert "a webhook is away" in message(status, "Ready")
    assert "backends" not in status


async def test_an_object_of_somebody_else_is_told_in_a_word() -> None:
    causes = tuple(
        Cause("FieldManagerConflict", f".spec.template.{number}", 'conflict with "helm" using apps/v1')
        for number in range(13)
    )
    status = await first_status(ConflictError(409, "Conflict", "Apply failed with 13 conflicts: …", causes))
    told = "Service 'kws-en' exists and belongs to somebody else (manager 'helm'): rename the variant"
    assert conditions(status)["Ready"] == ("False", "NameConflict")
    assert message(status, "Ready") == message(status, "Accepted") == told
    assert conditions(status)["Available"] == ("False", "NameConflict")
    assert message(status, "Available") == "Nothing was started"
    assert "OwnershipConflict" not in conditions(status)
    assert "publishedNames" not in status


async def test_a_long_manager_is_cut() -> None:
    cause = Cause("FieldManagerConflict", ".spec.replicas", f'conflict with "{"m" * 128}"')
    status = await first_status(ConflictError(409, "Conflict", "Apply failed", (cause,)))
    assert len(message(status, "Accepted").encode()) <= 256


@pytest.mark.parametrize(
    ("status", "header", "seconds"), [(429, "7", 7), (503, "2", 2), (429, "86400", 60), (429, "soon", None)]
)
def test_when_to_come_back_is_what_the_api_server_says(
    status: int, header: str, seconds: float | None
) -> None:
    found = error_of(status, "Too Many Requests", "{}", header)
    assert (found.after_seconds if isinstance(found, ThrottledError) else None) == seconds
    assert isinstance(found, UnreachableError)


class Relabelled:
    """An API server that has the Deployment: a person has taken it out of sight, by a label."""

    def __init__(self, owner: str, manager: str = "kubectl-label") -> None:
        self.owner, self.manager = owner, manager
        self.forced: list[bool] = []

    async def apply(self, _kind: Kind, manifest: Manifest, *, force: bool) -> Manifest:
        self.forced.append(force)
        if force:
            return sent(manifest)
        cause = Cause("FieldManagerConflict", ".metadata.labels", f'conflict with "{self.manager}"')
        raise ConflictError(409, "Conflict", "Apply failed with 1 conflict", (cause,))

    async def get(self, _kind: Kind, _namespace: str, name: str) -> Manifest:
        return {"metadata": {"name": name, "ownerReferences": [{"uid": self.owner, "controller": True}]}}


@pytest.mark.parametrize(
    ("owner", "manager", "forced"),
    [
        ("uid-kws-en", "kubectl-label", [False, True]),
        ("uid-of-another", "kubectl-label", [False]),
        ("uid-kws-en", "helm", [False]),
    ],
)
async def test_a_child_of_ours_that_a_person_relabelled_is_taken_back(
    owner: str, manager: str, forced: list[bool]
) -> None:
    scene = Scene(node("n1"), engine(), variant())
    server = Relabelled(owner, manager)
    execution = Execution(cast("Cluster", server), scene.cache, lambda _touched: None)
    plan = scene.decide("kws-en").plan
    outcome = await execution.carry_out(Plan(applies=plan.applies[:1]), KWS_EN)
    assert server.forced == forced
    assert (outcome.refusal is None) == (len(forced) == 2)


def test_a_label_that_a_person_changed_takes_no_child_away_from_its_variant() -> None:
    scene = Scene(node("n1"), engine(), variant())
    scene.settle("kws-en", replicas=1)
    [live] = [one.live for one in scene.world("kws-en").children if one.kind == DEPLOYMENT]
    relabelled = applied(live, rollout={"replicas": 1})
    relabelled["metadata"]["labels"] = {**live["metadata"]["labels"], "roundhouse.dev/variant": "x"}
    by_hand: Manifest = {"f:metadata": {"f:labels": {"f:roundhouse.dev/variant": {}}}}
    entry = {"manager": "kubectl-label", "operation": "Update", "fieldsV1": by_hand}
    relabelled["metadata"]["managedFields"].append(entry)
    relabelled["metadata"].pop("resourceVersion", None)
    scene.put(relabelled)
    [apply] = scene.decide("kws-en").plan.applies
    assert (apply.kind, apply.new, apply.force) == (DEPLOYMENT, False, True)
    assert apply.manifest["metadata"]["labels"]["roundhouse.dev/variant"] == "kws-en"

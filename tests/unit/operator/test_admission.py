"""A webhook that makes something else of what we apply: told, and no change that anybody waits for."""

from __future__ import annotations

import copy
from typing import Any, cast

from typing_extensions import override

from roundhouse_api.model import Manifest
from roundhouse_operator.cache import Touched
from roundhouse_operator.cluster import Cluster
from roundhouse_operator.core.decide import decide
from roundhouse_operator.core.kinds import DEPLOYMENT, VARIANT, Key, Kind
from roundhouse_operator.core.outcome import Outcome
from roundhouse_operator.core.status.variant import variant_status
from roundhouse_operator.execution import Execution
from tests.unit.operator.fleet import IMAGE_1, IMAGE_2, Fleet
from tests.unit.operator.samples import engine, variant
from tests.unit.operator.worlds import NAMESPACE, NOW, Scene, applied, conditions, message, node, sent

KWS_EN = Key(VARIANT, NAMESPACE, "kws-en")


def mirrored(manifest: Manifest) -> Manifest:
    """Images come from a registry of the company's."""
    made = copy.deepcopy(manifest)
    for one in made["spec"].get("template", {}).get("spec", {}).get("containers", ()):
        one["image"] = one["image"].replace("example.org", "mirror.corp")
    return made


class Rewritten(Fleet):
    @override
    def admit(self, manifest: Manifest) -> Manifest:
        return mirrored(manifest)


def test_an_engines_change_reaches_all_variants_though_their_images_are_rewritten() -> None:
    fleet = Rewritten("kws-00", "kws-01", "kws-02")
    fleet.settle()
    assert {fleet.up_to_date(name) for name in ("kws-00", "kws-01", "kws-02")} == {("True", "RolledOut")}
    fleet.edit_engine(IMAGE_2)
    fleet.settle()
    assert fleet.images() == [IMAGE_2.replace("example.org", "mirror.corp")] * 3
    assert {fleet.up_to_date(name) for name in ("kws-00", "kws-01", "kws-02")} == {("True", "RolledOut")}


def test_it_is_told_whose_work_it_is() -> None:
    fleet = Rewritten("kws-00")
    fleet.settle()
    world = fleet.cache.world(Key(VARIANT, NAMESPACE, "kws-00"))
    assert world
    decision = decide(world)
    assert decision.plan.empty
    status = variant_status(world, decision, Outcome(decision.plan.conflicts), now=NOW)
    assert conditions(status)["OwnershipConflict"] == ("True", "FieldOwnedByOther")
    assert "'admission' holds .spec.template.spec.containers" in message(status, "OwnershipConflict")


def test_pods_are_still_scaled_and_not_replaced() -> None:
    fleet = Rewritten("kws-00")
    fleet.settle()
    fleet.changed.clear()
    fleet.edit("kws-00", replicas=3)
    fleet.settle()
    live = fleet.live[Key(DEPLOYMENT, NAMESPACE, "kws-00")]
    assert live["spec"]["replicas"] == 3
    assert live["spec"]["template"]["spec"]["containers"][0]["image"] == IMAGE_1.replace(
        "example.org", "mirror.corp"
    )
    assert fleet.up_to_date("kws-00") == ("True", "RolledOut")


class Webhook:
    """An API server in front of which images are rewritten; what changes nothing keeps its version."""

    def __init__(self) -> None:
        self.stored: dict[tuple[str, str], Manifest] = {}
        self.applies = 0

    async def apply(self, _kind: Kind, manifest: Manifest, *, force: bool) -> Manifest:  # noqa: ARG002
        self.applies += 1
        place = manifest["kind"], manifest["metadata"]["name"]
        made, before = applied(mirrored(manifest)), self.stored.get(place)
        if before is None or before["spec"] != made["spec"]:
            self.stored[place] = sent(made)
        return self.stored[place]


async def test_an_apply_that_changes_nothing_is_not_made_again() -> None:
    scene, server, due = Scene(node("n1"), engine(), variant()), Webhook(), Touched()
    execution = Execution(cast("Cluster", server), scene.cache, due.merge)
    await execution.carry_out(scene.decide("kws-en").plan, KWS_EN)
    again = scene.decide("kws-en").plan
    assert [one.kind for one in again.applies] == [DEPLOYMENT], "it is tried once"
    assert due.now == set()
    await execution.carry_out(again, KWS_EN)
    assert due.now == {KWS_EN}, "a pass is to tell of it"
    assert scene.decide("kws-en").plan.applies == ()
    scene.put(engine(workload={"image": "example.org/kws:2"}))
    [apply] = scene.decide("kws-en").plan.applies
    container: Any = apply.manifest["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "example.org/kws:2", "another wish is tried"

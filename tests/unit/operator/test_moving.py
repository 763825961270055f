"""A variant that goes from one engine to another is served by the old one until the new one answers."""

from __future__ import annotations

from typing import Any

import pytest

from roundhouse_api.model import Manifest
from roundhouse_operator.core.kinds import DEPLOYMENT, ENGINE, SERVICE, VARIANT, Key
from roundhouse_operator.core.moving import lodges_at
from roundhouse_operator.core.seat import Seat
from tests.unit.operator.samples import engine, upstream, variant
from tests.unit.operator.sharing import SHARED, SharedScene, gpu_node, shared_engine
from tests.unit.operator.worlds import NAMESPACE, applied, conditions, message

A = Key(VARIANT, NAMESPACE, "a")
STARTING = {"replicas": 1, "updatedReplicas": 1}
ANSWERING = {**STARTING, "readyReplicas": 1}


class MovingScene(SharedScene):
    """Variant `a`, an engine `kws` that is shared, and others that it may go to."""

    generation = 1

    def go_to(self, engine: str, **spec: Any) -> None:
        """Its author edits `engineRef`."""
        self.generation += 1
        edited = variant("a", on=engine, **spec)
        edited["metadata"]["generation"] = self.generation
        self.put({**edited, "status": self.world("a").variant.status})

    def step(self, **rollout: Any) -> Manifest:
        """The variant's own pass; `rollout` is what its Deployment then says."""
        plan = self.decide("a").plan
        for child in plan.applies:
            self.put(applied(child.manifest, rollout=rollout if child.kind == DEPLOYMENT else None))
        for gone in plan.deletes:
            self.cache.forget(Key(gone.kind, NAMESPACE, gone.name))
        live = next((one.live for one in self.world("a").children if one.kind == DEPLOYMENT), None)
        if live and rollout:
            entry = applied(live, rollout=rollout)
            entry["metadata"] = {
                key: live["metadata"][key] for key in live["metadata"] if key != "resourceVersion"
            }
            self.put(entry)
        status = self.status("a")
        self.write("a", status)
        return status

    def leads_to(self) -> str:
        """The engine whose pods get the requests, or none."""
        return lodges_at(self.world("a").children)

    def kinds(self) -> set[str]:
        return {str(one.kind) for one in self.world("a").children}


def scene() -> MovingScene:
    own = engine("own", hardware={"gpu": {"mode": "None"}})
    return MovingScene(shared_engine(), own, upstream(), gpu_node(), variant("a"), variant("b"))


def served(moving: MovingScene) -> bool:
    return bool(moving.serving("a"))


def test_from_shared_pods_to_its_own() -> None:
    moving = scene()
    moving.come_to_rest()
    moving.step()
    assert (moving.leads_to(), served(moving)) == ("kws", True)

    moving.go_to("own")
    moving.come_to_rest()
    for _ in range(2):
        status = moving.step(**STARTING)
        moving.come_to_rest()
    assert moving.kinds() == {"Deployment", "Service"}
    assert (moving.leads_to(), served(moving)) == ("kws", True)
    assert conditions(status)["Available"] == ("True", "Serving")
    assert conditions(status)["UpToDate"] == ("False", "RollingOut")
    assert message(status, "UpToDate") == "Engine 'kws' serves until pods of Engine 'own' answer"
    assert (status["engine"]["name"], status["readyReplicas"]) == ("kws", 1)

    moving.step(**ANSWERING)
    status = moving.step(**ANSWERING)
    assert moving.leads_to() == ""
    assert status["engine"]["name"] == "own"
    assert conditions(status)["UpToDate"] == ("True", "RolledOut")
    moving.come_to_rest()
    assert (served(moving), bool(moving.serving("b"))) == (False, True)
    assert "a" not in moving.listed()["kws-0"], "it is unloaded"


def test_from_its_own_pods_to_shared_ones() -> None:
    moving = scene()
    moving.go_to("own")
    moving.step(**ANSWERING)
    moving.states["a"] = moving.states["kws-en"] = "loading"
    moving.go_to("kws")
    moving.come_to_rest()
    status = moving.step(**ANSWERING)
    assert (moving.leads_to(), moving.kinds()) == ("", {"Deployment", "Service"})
    assert conditions(status)["Available"] == ("True", "Serving")
    assert message(status, "UpToDate") == "Pods of its own serve until pods of Engine 'kws' answer"
    assert status["engine"]["name"] == "own"

    moving.states.clear()
    moving.come_to_rest()
    decision = moving.decide("a")
    assert decision.revisit_seconds, "its own pods go when requests no longer come to them"
    assert [one.kind for one in decision.plan.applies] == [SERVICE]
    assert not decision.plan.deletes
    moving.step(**ANSWERING)
    assert (moving.leads_to(), moving.kinds()) == ("kws", {"Deployment", "Service"})
    moving.step()
    assert moving.kinds() == {"Service"}
    assert conditions(moving.step())["UpToDate"] == ("True", "RolledOut")


def test_an_operator_that_comes_in_the_midst_goes_on_with_it() -> None:
    """What is known of seats is lost with the one before."""
    moving = scene()
    moving.come_to_rest()
    moving.step()
    moving.go_to("own")
    moving.step(**STARTING)
    moving.cache.standing.put_seats(SHARED, {}, frozenset())
    moving.cache.standing.reports.clear()
    moving.cache.standing.asked.clear()
    moving.act()
    assert served(moving)
    assert conditions(moving.step(**STARTING))["Available"] == ("True", "Serving")
    moving.come_to_rest()
    assert (moving.leads_to(), served(moving)) == ("kws", True)


def test_a_move_that_does_not_succeed_may_be_taken_back() -> None:
    moving = scene()
    moving.come_to_rest()
    moving.step()
    moving.go_to("own")
    moving.step(**STARTING)
    moving.come_to_rest()
    moving.go_to("kws")
    moving.come_to_rest()
    moving.step(**STARTING)
    moving.step()
    assert (moving.leads_to(), moving.kinds(), served(moving)) == ("kws", {"Service"}, True)


def test_an_upstream_answers_at_once() -> None:
    moving = scene()
    moving.come_to_rest()
    moving.step()
    moving.go_to("elsewhere")
    status = moving.step()
    assert (moving.kinds(), status["backends"][0]["type"]) == (set(), "Upstream")
    moving.come_to_rest()
    assert not served(moving)


def test_the_engine_that_is_left_hears_that_it_may_forget_it() -> None:
    moving = scene()
    moving.come_to_rest()
    moving.step()
    moving.go_to("own")
    moving.step(**STARTING)
    moving.step(**ANSWERING)
    [service] = [one for one in moving.decide("a").plan.applies if one.kind == SERVICE]
    touched = moving.cache.upsert(SERVICE, {**applied(service.manifest), **_stamped(service.manifest)})
    assert touched.now >= {SHARED, A}


def _stamped(manifest: Manifest) -> Manifest:
    metadata = {**manifest["metadata"], "uid": "uid-a", "resourceVersion": "99999999"}
    return {"metadata": {**metadata, "creationTimestamp": "2026-01-01T00:00:00Z"}}


def test_a_seat_in_one_engine_is_not_taken_away_by_another() -> None:
    standing = scene().cache.standing
    other = Key(ENGINE, NAMESPACE, "other")
    seat = Seat(engine_uid="uid-other", wanted=1, ready=1)
    standing.put_seats(SHARED, {"a": Seat(engine_uid="uid-kws", wanted=1)}, frozenset({"a"}))
    standing.put_seats(other, {"a": seat}, frozenset({"a"}))
    assert standing.put_seats(SHARED, {}, frozenset()) == set()
    assert standing.seat(A) == seat


@pytest.mark.parametrize("replicas", [0, 1])
def test_a_sleeping_variant_moves_without_ado(replicas: int) -> None:
    moving = scene()
    moving.come_to_rest()
    moving.step()
    moving.go_to("own", replicas=0, suspend=bool(replicas))
    moving.step()
    moving.come_to_rest()
    assert not served(moving)

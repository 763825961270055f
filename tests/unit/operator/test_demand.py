"""A variant that requests wake: what its status says on the way down, asleep, and on the way up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from roundhouse_api.model import Manifest
from roundhouse_operator.core.decide import decide
from roundhouse_operator.core.kinds import DEPLOYMENT, POD, VARIANT, Key
from roundhouse_operator.core.outcome import DONE
from roundhouse_operator.core.status.degraded import UNHEARD
from roundhouse_operator.core.status.variant import variant_status
from tests.unit.operator.samples import engine, upstream, variant
from tests.unit.operator.test_status import SERVING, STARTING, WAITING
from tests.unit.operator.worlds import NAMESPACE, NOW, Scene, applied, conditions, message, node, pod

DEMAND: dict[str, Any] = {"scaling": {"mode": "Demand"}}
NONE: dict[str, Any] = {"replicas": 0}
CRASHED = {
    "name": "engine",
    "restartCount": 3,
    "state": {"waiting": {"reason": "CrashLoopBackOff"}},
    "lastState": {"terminated": {"exitCode": 1, "message": "no licence"}},
}


class Life:
    """A variant whose generation grows with each change, as the API server has it."""

    def __init__(self, **spec: Any) -> None:
        self.scene = Scene(node("n1"), engine())
        self.spec: Manifest = {**DEMAND, **spec}
        self.generation = 0
        self.status: Manifest = {}

    def set(self, **spec: Any) -> Life:
        self.spec |= spec
        self.generation += 1
        metadata = {"name": "kws-en", "generation": self.generation}
        self.scene.put({**variant(**self.spec), "metadata": metadata, "status": self.status})
        return self

    def now(self, **rollout: Any) -> dict[str, tuple[str, str]]:
        """One pass, as the shell makes it, and what the Deployment's controller says of its pods."""
        scene, decision = self.scene, self.scene.decide("kws-en")
        live = [one.live for one in scene.world("kws-en").children if one.kind == DEPLOYMENT]
        for manifest in live:
            scene.put(applied(_fresh(manifest), rollout=rollout))
        for apply in decision.plan.applies:
            scene.put(applied(apply.manifest, rollout=rollout if apply.kind == DEPLOYMENT else None))
        self.status = variant_status(scene.world("kws-en"), decision, DONE, now=NOW)
        scene.write("kws-en", self.status)
        return conditions(self.status)

    def crash(self) -> None:
        self.scene.put(pod(containerStatuses=[CRASHED], **WAITING))

    def end_pods(self) -> None:
        self.scene.cache.forget(Key(POD, NAMESPACE, "kws-en-1"))


def _fresh(manifest: Manifest) -> Manifest:
    metadata = {key: value for key, value in manifest["metadata"].items() if key != "resourceVersion"}
    return {**manifest, "metadata": metadata}


@pytest.mark.req("S1-14")
def test_from_the_proof_start_to_sleep_and_awake_again() -> None:
    life = Life().set(replicas=1)
    found = life.now(**STARTING)
    assert (found["Ready"], found["Available"]) == (("False", "Starting"), ("False", "Starting"))
    assert life.now(**SERVING)["Ready"] == ("True", "Serving")
    found = life.set(replicas=0).now(**NONE)
    assert found["Ready"] == ("True", "Idle")
    assert found["Available"] == ("False", "Idle")
    assert found["Scheduled"] == ("True", "Feasible")
    assert life.status["phase"] == "Idle"
    found = life.set(replicas=1).now(**STARTING)
    assert found["Ready"] == ("True", "Starting"), "a request is answered after the cold start"
    assert found["Available"] == ("False", "Starting")
    assert life.now(**SERVING)["Ready"] == ("True", "Serving")


def test_what_crashed_does_not_become_well_by_sleeping() -> None:
    life = Life().set(replicas=1)
    life.now(**SERVING)
    life.crash()
    assert life.now(**STARTING)["Ready"] == ("False", "CrashLoop")
    life.end_pods()
    found = life.set(replicas=0).now(**NONE)
    assert (found["Ready"], found["Available"]) == (("False", "CrashLoop"), ("False", "CrashLoop"))
    assert life.status["phase"] == "Unhealthy"
    found = life.set(replicas=1).now(**STARTING)
    assert found["Ready"][0] == "False"
    assert found["Available"] == ("False", "CrashLoop"), "until a start succeeds"
    assert life.now(**SERVING)["Ready"] == ("True", "Serving")
    assert life.set(replicas=0).now(**NONE)["Ready"] == ("True", "Idle")


def test_a_change_of_the_spec_is_another_start() -> None:
    life = Life().set(replicas=1)
    life.crash()
    assert life.now(**STARTING)["Ready"] == ("False", "CrashLoop")
    life.end_pods()
    assert life.set(replicas=0, env=[{"name": "A", "value": "b"}]).now(**NONE)["Ready"] == ("True", "Idle")


def test_what_the_gateway_must_know_is_told_under_demand_alone() -> None:
    life = Life(scaling={"mode": "Demand", "maxHoldSeconds": 7}).set(replicas=1)
    life.now(**SERVING)
    assert life.status["effective"]["scalingMode"] == "Demand"
    assert life.status["effective"]["maxHoldSeconds"] == 7
    life.set(scaling={"mode": "Manual", "maxHoldSeconds": 7}).now(**SERVING)
    assert not {"scalingMode", "maxHoldSeconds"} & set(life.status["effective"])


@pytest.mark.parametrize(
    ("spec", "scaled"),
    [
        pytest.param({}, True, id="demand"),
        pytest.param({"suspend": True}, False, id="suspended"),
        pytest.param({"scaling": {"mode": "Manual"}}, False, id="manual"),
        pytest.param({"scaling": None}, False, id="absent"),
        pytest.param(
            {"args": ["x"], "env": [{"name": "ROUNDHOUSE_MODELS", "value": ""}]}, False, id="refused"
        ),
    ],
)
def test_what_is_the_operator_s_to_scale(spec: Manifest, scaled: bool) -> None:
    scene = Scene(node("n1"), engine(), variant(**{**DEMAND, **spec}))
    assert (scene.decide("kws-en").scaling is not None) is scaled


def test_what_engine_and_variant_say_together() -> None:
    scene = Scene(
        node("n1"),
        engine(scaling={"mode": "Demand", "minReplicas": 1, "idleSeconds": 20}),
        variant(scaling={"maxReplicas": 4}, concurrency={"maxInFlightPerReplica": 3}),
    )
    policy = scene.decide("kws-en").scaling
    assert policy
    assert (policy.floor, policy.ceiling, policy.target, policy.idle_seconds) == (1, 4, 3, 20)


def test_an_upstream_has_nothing_to_scale() -> None:
    for one in ((upstream("kws"), variant(**DEMAND)), (upstream("kws", **DEMAND), variant())):
        status = Scene(*one).settle("kws-en")
        assert conditions(status)["Accepted"] == ("False", "InvalidSpec")
        assert message(status, "Accepted") == "spec.scaling.mode Demand: an Upstream engine has no pods"


def test_a_contradiction_between_engine_and_variant_is_refused() -> None:
    scene = Scene(
        node("n1"), engine(scaling={"minReplicas": 3}), variant(scaling={"mode": "Demand", "maxReplicas": 2})
    )
    status = scene.settle("kws-en")
    assert conditions(status)["Accepted"] == ("False", "InvalidSpec")
    assert "minReplicas 3 is above maxReplicas 2" in message(status, "Accepted")


def unheard() -> Iterator[Manifest]:
    life = Life().set(**NONE)
    life.scene.deaf = True
    life.now()
    yield life.status


def test_where_no_gateway_is_heard_it_says_so_until_one_is() -> None:
    """Also across a restart of the operator, which at first has heard nobody."""
    life = Life().set(**NONE)
    assert "Degraded" not in life.now()
    life.scene.deaf = True
    assert life.now()["Degraded"] == ("True", "LoadUnknown")
    life.scene.deaf = None
    assert life.now()["Degraded"] == ("True", "LoadUnknown")
    life.scene.deaf = False
    assert "Degraded" not in life.now()
    life.scene.deaf = None
    assert "Degraded" not in life.now()


def test_who_has_heard_nothing_of_gateways_changes_no_word_of_them() -> None:
    """Such as a preview, which asks none."""
    [told] = unheard()
    scene = Scene(node("n1"), engine(), {**variant(**DEMAND, **NONE), "status": told})
    world = scene.cache.world(Key(VARIANT, NAMESPACE, "kws-en"))
    assert world
    assert conditions(variant_status(world, decide(world), DONE, now=NOW))["Degraded"][1] == "LoadUnknown"


def test_a_cause_of_its_own_names_the_condition_before_that_of_all() -> None:
    life = Life(fallbacks=[{"model": "nobody"}]).set(replicas=1)
    life.now(**SERVING)
    life.scene.deaf = True
    assert life.now(**SERVING)["Degraded"] == ("True", "UnresolvedModel")
    assert UNHEARD in message(life.status, "Degraded")
    life.set(fallbacks=None).now(**SERVING)
    life.crash()
    assert life.now(**{**SERVING, "replicas": 2})["Degraded"] == ("True", "CrashLoop")
    text = message(life.status, "Degraded")
    assert text.startswith(UNHEARD)
    assert text.endswith("no licence"), "the words of strangers come last"


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({"scaling": {"mode": "Manual"}}, id="manual"),
        pytest.param({"suspend": True}, id="suspended"),
        pytest.param({"args": ["x"], "env": [{"name": "ROUNDHOUSE_MODELS", "value": ""}]}, id="refused"),
        pytest.param({"engineRef": {"name": "gone"}}, id="no engine"),
    ],
)
def test_what_our_scaler_does_not_follow_needs_no_gateway(spec: Manifest) -> None:
    """Nobody would look at it again when one is heard."""
    life = Life().set(replicas=1)
    life.scene.deaf = True
    assert life.now(**SERVING)["Degraded"][1] == "LoadUnknown"
    life.set(**spec).now(**SERVING)
    assert life.scene.decide("kws-en").scaling is None
    assert UNHEARD not in str(life.status["conditions"])

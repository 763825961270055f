"""Variants that share an engine's pods, in a whole cluster with real pods, asked through the gateway."""

import threading
import time
from collections.abc import Iterator

import pytest

from tests.e2e.release import Release
from tests.e2e.shared import SharedEngine, engine_manifest, script_manifest, variant_manifest
from tests.support.waiting import wait_until

TWO_A_POD = {"type": "Shared", "shared": {"maxVariantsPerReplica": 2}}


@pytest.fixture
def shared(release: Release) -> Iterator[SharedEngine]:
    engine = SharedEngine(release, "sharing")
    engine.apply(script_manifest("sharing"), engine_manifest("sharing", TWO_A_POD))
    yield engine
    release.clear()
    release.delete("engine/sharing", "configmap/sharing")
    wait_until(lambda: not engine.pods(), seconds=60, what="its pods are gone")


def test_variants_come_go_and_move_and_no_request_fails(shared: SharedEngine) -> None:
    shared.apply(*(variant_manifest(name, "sharing") for name in ("alpha", "beta")))
    shared.ready("alpha", "beta")
    shared.until_placed({"alpha", "beta"})
    [first] = shared.pods()
    shared.answers("alpha", "beta")
    with shared.asked_all_the_time("beta"):
        shared.apply(variant_manifest("gamma", "sharing", ";load=1"))
        shared.ready("gamma")
        shared.until_placed({"alpha", "beta"}, {"gamma"})
        shared.answers("gamma")
        assert first in shared.pods()
        with shared.asked_all_the_time("gamma"):
            shared.release.delete("modelvariant/alpha")
            shared.until_placed({"beta", "gamma"})
            wait_until(lambda: len(shared.pods()) == 1, seconds=60, what="the emptied pod is gone")
            time.sleep(2)  # what goes wrong does so while routers learn of it
    shared.ready("beta", "gamma")


def test_a_model_that_cannot_be_loaded_is_a_trouble_of_its_own(shared: SharedEngine) -> None:
    shared.apply(variant_manifest("alpha", "sharing"), variant_manifest("broken", "sharing", ";fail"))
    shared.ready("alpha")
    message = shared.release.wait_for_condition("modelvariant/broken", "Ready", "False", "LoadFailed")
    assert "is told to fail" in message
    shared.answers("alpha")
    status, text = shared.ask("broken")
    assert status == 503, text
    shared.apply(variant_manifest("broken", "sharing", ";vram=1"))
    shared.ready("broken")
    shared.answers("broken")


def test_a_busy_model_finishes_its_requests_before_it_goes(shared: SharedEngine) -> None:
    shared.apply(*(variant_manifest(name, "sharing") for name in ("alpha", "beta")))
    shared.ready("alpha", "beta")
    shared.answers("alpha", "beta")
    answers: list[tuple[int, str]] = []
    asking = threading.Thread(target=lambda: answers.append(shared.ask("alpha", "wait 12")))
    asking.start()
    wait_until(shared.in_use, seconds=30, what="it has begun")
    shared.apply(variant_manifest("alpha", "sharing", suspend=True))
    shared.until_placed({"beta"})
    assert shared.ask("beta") == (200, "beta")
    asking.join()
    assert answers == [(200, "alpha")]


def test_an_engine_that_ends_gets_requests_again_once_it_has_loaded(shared: SharedEngine) -> None:
    shared.apply(*(variant_manifest(name, "sharing") for name in ("alpha", "beta")))
    shared.ready("alpha", "beta")
    shared.answers("alpha", "beta")
    [before] = shared.pods()
    shared.release.in_namespace("delete", "pod", before, "--grace-period=0", "--force")
    shared.until_placed({"alpha", "beta"})
    assert before not in shared.pods()
    shared.answers("alpha", "beta")
    shared.ask("alpha", "exit 3")
    shared.answers("alpha", "beta")
    shared.ready("alpha", "beta")


def test_a_change_of_the_engine_has_its_pods_replaced_and_no_request_fails(shared: SharedEngine) -> None:
    shared.apply(*(variant_manifest(name, "sharing", ";load=1") for name in ("alpha", "beta", "gamma")))
    shared.ready("alpha", "beta", "gamma")
    shared.answers("alpha", "beta", "gamma")
    before = set(shared.pods())
    with shared.asked_all_the_time("alpha", "beta", "gamma"):
        changed = engine_manifest("sharing", TWO_A_POD, version="2.0.0", capabilities={"languages": ["en"]})
        changed["spec"]["workload"]["env"] = [{"name": "NEW", "value": "1"}]
        shared.apply(changed)
        wait_until(lambda: not before & set(shared.pods()), seconds=120, what="all pods are new")
        shared.until_placed({"alpha", "beta"}, {"gamma"})
        time.sleep(2)  # what goes wrong does so while routers learn of it


def test_a_variant_that_sleeps_is_loaded_again_by_a_request(shared: SharedEngine) -> None:
    demand = {"mode": "Demand", "idleSeconds": 10, "maxHoldSeconds": 180}
    shared.apply(
        variant_manifest("alpha", "sharing", ";load=1", scaling=demand), variant_manifest("beta", "sharing")
    )
    shared.ready("alpha", "beta")
    [pod] = shared.pods()
    shared.release.wait_for_condition("modelvariant/alpha", "Ready", "True", "Idle", seconds=240)
    shared.until_placed({"beta"})
    assert shared.ask("alpha", timeout=200) == (200, "alpha")
    assert shared.pods() == {pod: {"alpha", "beta"}}


@pytest.fixture
def single(release: Release) -> Iterator[SharedEngine]:
    yield SharedEngine(release, "single")
    release.clear()
    release.delete("engine/single", "configmap/single")


@pytest.mark.req("S3-19")
def test_an_exclusive_engine_switches_from_one_variant_to_another(
    release: Release, single: SharedEngine
) -> None:
    engine = single

    def choose(variant: str) -> None:
        serving = {"type": "Exclusive", "exclusive": {"activeVariantName": variant}}
        engine.apply(engine_manifest("single", serving))

    engine.apply(
        script_manifest("single"), *(variant_manifest(name, "single") for name in ("delta", "epsilon"))
    )
    choose("delta")
    engine.ready("delta")
    release.wait_for_condition("modelvariant/epsilon", "Ready", "False", "NotActive")
    engine.answers("delta")
    [pod] = engine.pods()
    choose("epsilon")
    engine.ready("epsilon")
    engine.answers("epsilon")
    release.wait_for_condition("modelvariant/delta", "Ready", "False", "NotActive")
    assert list(engine.pods()) == [pod]
    active = ("get", "engine/single", "-o", "jsonpath={.status.activeVariantName}")
    wait_until(lambda: release.in_namespace(*active) == "epsilon", seconds=60, what="the engine says so too")

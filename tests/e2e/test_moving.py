"""A variant goes from an engine that it shares to one with pods of its own, and back: no request fails."""

import time
from collections.abc import Iterator

import pytest

from tests.e2e.release import Release
from tests.e2e.shared import SharedEngine, engine_manifest, script_manifest, variant_manifest
from tests.support.waiting import wait_until

LOAD_SECONDS = 3
"""A gap of that length would be seen."""


@pytest.fixture
def engines(release: Release) -> Iterator[SharedEngine]:
    shared = SharedEngine(release, "moving")
    shared.apply(
        script_manifest("moving"),
        engine_manifest("moving", {"type": "Shared"}),
        script_manifest("alone"),
        engine_manifest("alone", {"type": "Dedicated"}),
    )
    yield shared
    release.clear()
    release.delete("engine/moving", "engine/alone", "configmap/moving", "configmap/alone")


def test_no_request_fails_while_a_variant_goes_to_another_kind_of_engine(engines: SharedEngine) -> None:
    def go_to(engine: str) -> None:
        engines.apply(variant_manifest("alpha", engine, f";load={LOAD_SECONDS}"))
        engines.release.wait_for_condition("modelvariant/alpha", "UpToDate", "True", "RolledOut", seconds=240)
        time.sleep(3)  # what goes wrong does so while routers learn of it

    def pods_of(engine: str) -> int:
        return len(SharedEngine(engines.release, engine).pods())

    engines.apply(
        variant_manifest("alpha", "moving", f";load={LOAD_SECONDS}"), variant_manifest("beta", "moving")
    )
    engines.ready("alpha", "beta")
    engines.answers("alpha", "beta")
    with engines.asked_all_the_time("alpha", "beta"):
        go_to("alone")
        engines.until_placed({"beta"})
        assert pods_of("alone") == 1
        go_to("moving")
        engines.until_placed({"alpha", "beta"})
        wait_until(lambda: pods_of("alone") == 0, seconds=60, what="its own pod is gone")

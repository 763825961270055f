"""A model that sleeps is woken by whoever asks for it, and goes to sleep again: real pods, real audio."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.release import Release
from tests.support.recordings import GO_FORWARD_WORDS
from tests.support.waiting import wait_until

IDLE_SECONDS = 10
DEMAND = {"mode": "Demand", "idleSeconds": IDLE_SECONDS, "maxHoldSeconds": 180}


@pytest.fixture
def two_gateways(release: Release) -> Iterator[None]:
    def scale(count: int) -> None:
        release.in_namespace("scale", "deployment/roundhouse-gateway", f"--replicas={count}")
        release.in_namespace("rollout", "status", "deployment/roundhouse-gateway", "--timeout=600s")

    scale(2)
    yield
    scale(1)


@pytest.fixture
def on_demand(release: Release, pocketsphinx: str) -> Iterator[str]:
    def patch(spec: dict[str, object]) -> None:
        text = json.dumps({"spec": spec})
        release.in_namespace("patch", f"modelvariant/{pocketsphinx}", "--type=merge", "-p", text)

    patch({"scaling": DEMAND})
    yield pocketsphinx
    patch({"scaling": None, "replicas": 1})
    release.wait_for_condition(f"modelvariant/{pocketsphinx}", "Ready", "True", "Serving")
    release.answers_again(pocketsphinx)


@pytest.mark.req("S1-10", "S1-14", "S1-17")
@pytest.mark.timeout(900)
def test_a_cold_start_answers_those_who_waited_for_it(
    release: Release, two_gateways: None, on_demand: str
) -> None:
    """Two gateways hold, the engine takes one at a time, and the operator is ended while the model starts."""
    variant, selector = f"modelvariant/{on_demand}", f"roundhouse.dev/variant={on_demand}"
    asleep = ("Ready", "True", "Idle")
    release.wait_for_condition(variant, *asleep, seconds=180)
    wait_until(
        lambda: not release.list("pods", selector),
        seconds=120,
        what="no pod of it is left",
    )
    wait_until(
        lambda: release.get_json("/v1/models")["data"] == [], seconds=60, what="the gateway lists it no more"
    )
    wait_until(
        lambda: release.get_json(f"/v1/models/{on_demand}")["status"] == "available",
        seconds=60,
        what="it can be woken, says whichever gateway is asked",
    )

    with ThreadPoolExecutor(4) as pool:
        heard = [pool.submit(release.transcribe, on_demand) for _ in range(4)]
        wait_until(
            lambda: release.get(variant)["spec"]["replicas"] == 1,
            seconds=60,
            what="it is woken",
            every=0.1,
        )
        operator = ("--selector", "app.kubernetes.io/component=operator")
        release.in_namespace("delete", "pod", *operator, "--grace-period=0", "--force", "--wait=false")
        assert [each.result() for each in heard] == [GO_FORWARD_WORDS] * 4

    release.wait_for_condition(variant, *asleep, seconds=180)
    assert release.transcribe(on_demand) == GO_FORWARD_WORDS, "and once more"

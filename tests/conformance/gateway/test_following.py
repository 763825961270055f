"""The gateway and the API server: what is followed, what outlives its absence, what is said of it."""

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.conformance.gateway.client import field, file
from tests.conformance.gateway.conftest import World
from tests.conformance.gateway.fake_api_server import FakeApiServer
from tests.conformance.gateway.loop_thread import LoopThread
from tests.conformance.gateway.manifests import Variant, slice_of
from tests.conformance.gateway.process import COMMAND, is_ready, kubeconfig_for, launch
from tests.support.waiting import wait_until

MODEL = field("model", "whisper")
Start = Callable[[Mapping[str, str]], World]


def age(world: World) -> float:
    return world.gateway.metric("roundhouse_gateway_snapshot_age_seconds")


def test_the_last_good_snapshot_serves_while_the_api_server_is_away(world: World) -> None:
    world.serve(Variant("whisper"))
    wait_until(lambda: age(world) == 0, seconds=20, what="everything is followed")
    world.api.stop()
    wait_until(lambda: age(world) > 0.5, seconds=10, what="the snapshot's age grows")
    assert world.gateway.transcribe(MODEL, file()).status == 200
    assert world.gateway.get("/readyz").status == 200
    assert any("trying again" in line["message"] for line in world.gateway.log())
    world.api.start()
    wait_until(lambda: age(world) == 0, seconds=20, what="the API server is followed again")
    world.serve(Variant("later"))


@pytest.mark.parametrize("code", [410, 500])
def test_after_an_error_in_a_watch_everything_is_listed_anew(world: World, code: int) -> None:
    world.serve(Variant("whisper"))
    before = len(world.api.state.requests)
    world.api.forget_history(code)
    world.api.put("modelvariants", Variant("another", available="False", reason="Starting").manifest())
    world.wait_for("another", "available")
    listed = [path for path in world.api.state.requests[before:] if "watch" not in path]
    assert [path for path in listed if "modelvariants" in path]
    assert world.gateway.transcribe(MODEL, file()).status == 200


def test_a_broken_watch_goes_on_where_it_was(own_world: Start) -> None:
    world = own_world({})
    world.serve(Variant("whisper"))
    before = len(world.api.state.requests)
    world.api.stop()
    world.api.start()
    world.serve(Variant("later"))
    assert all("watch=1" in path for path in world.api.state.requests[before:])


def test_deletions_are_followed(world: World) -> None:
    world.serve(Variant("whisper"))
    world.api.delete("modelvariants", "models", "whisper")
    wait_until(
        lambda: world.gateway.get("/v1/models/whisper").status == 404,
        seconds=30,
        what="it is gone",
        every=0.02,
    )


def test_long_lists_come_in_pages(own_world: Start) -> None:
    world = own_world({})
    for number in range(7):
        world.api.put("modelvariants", Variant(f"v{number}", available="False", reason="Idle").manifest())
    world.api.forget_history()

    def pages_after_the_first() -> int:
        asked = world.api.state.requests
        return sum("/modelvariants?" in path and "continue=" in path for path in asked)

    wait_until(lambda: pages_after_the_first() >= 3, seconds=10, what="all pages are asked for", every=0.02)
    wait_until(
        lambda: world.gateway.get("/v1/engines").json["total"] == 7, seconds=10, what="all pages are read"
    )


def test_only_managed_slices_are_read_and_only_the_port_named_http_counts(world: World) -> None:
    engine = world.engine()
    foreign = slice_of("whisper", engine.port)
    del foreign["metadata"]["labels"]["roundhouse.dev/managed"]
    world.api.put("endpointslices", foreign)
    portless = slice_of("whisper", engine.port, suffix="b")
    portless["ports"] = [{"name": "grpc", "port": engine.port}]
    world.api.put("endpointslices", portless)
    world.publish(Variant("whisper"))
    world.wait_for("whisper", "unhealthy")
    slices = [path for path in world.api.state.requests if "endpointslices" in path]
    assert all("labelSelector=roundhouse.dev/managed%3Dtrue" in path for path in slices)


def test_an_object_that_cannot_be_read_keeps_what_was_known_of_it(world: World) -> None:
    world.serve(Variant("whisper"))
    broken = Variant("whisper").manifest()
    broken["status"]["backends"] = "nonsense"
    world.api.put("modelvariants", broken)
    world.serve(Variant("later"))
    assert world.gateway.transcribe(MODEL, file()).status == 200
    assert any(
        "modelvariants of models/whisper: cannot be read: backends: " in line["message"]
        for line in world.gateway.log()
    )


def test_across_namespaces_the_earlier_wins(own_world: Start) -> None:
    world = own_world({"NAMESPACES": "first,second"})
    second = world.serve(Variant("whisper", namespace="second", aliases=("fast",), model_name="second"))
    assert world.gateway.transcribe(MODEL, file()).status == 200
    first = world.engine()
    world.serve(Variant("whisper", namespace="first", model_name="first"), first)
    wait_until(
        lambda: world.gateway.get("/v1/models/whisper").json["engine_model"] == "first",
        seconds=30,
        what="the earlier namespace has the name",
        every=0.02,
    )
    assert world.gateway.transcribe(MODEL, file()).status == 200
    assert (len(first.requests), len(second.requests)) == (1, 1)
    assert world.gateway.get("/v1/models/fast").status == 404, (
        "names of a variant that lost its id are not served"
    )


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ("missing", "install the CustomResourceDefinitions"),
        ("forbidden", "its Role must allow get, list and watch"),
    ],
)
def test_what_is_wrong_at_the_start_is_said_and_waited_for(
    loop_thread: LoopThread, tmp_path: Path, state: str, says: str
) -> None:
    api = FakeApiServer(loop_thread)
    getattr(api.state, state).add("engines")
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(kubeconfig_for(api.url))
    gateway = launch(tmp_path, kubeconfig, {})
    try:
        wait_until(
            lambda: says in gateway.log_path.read_text(), seconds=20, what="the log says what is wrong"
        )
        readiness = gateway.get("/readyz")
        assert (readiness.status, readiness.body) == (503, b"the cluster has not been read yet\n")
        assert gateway.get("/healthz").status == 200
        for reply in (gateway.get("/v1/models"), gateway.transcribe(MODEL, file())):
            assert (reply.status, reply.error["code"]) == (503, "gateway_not_ready")
        getattr(api.state, state).clear()
        wait_until(lambda: is_ready(gateway), seconds=30, what="it is ready after that")
        lines = [line for line in gateway.log() if says in line["message"]]
        assert len(lines) == 1, "it is said once, not at each attempt"
    finally:
        gateway.kill()
        api.stop()


def test_without_a_way_to_a_cluster_it_ends_and_says_what_to_do(tmp_path: Path) -> None:
    done = subprocess.run(
        [COMMAND],
        env={"KUBECONFIG": str(tmp_path / "none"), "ROUNDHOUSE_GATEWAY_PORT": "0"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert "Set KUBECONFIG" in done.stderr


def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    done = subprocess.run(
        [COMMAND],
        env={"ROUNDHOUSE_GATEWAY_PORT": "http"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("ROUNDHOUSE_GATEWAY_PORT: ")

"""What goes wrong is said in a condition with a cause, and mending it is enough."""

from collections.abc import Iterator

import pytest
import yaml

from tests.e2e.release import Release
from tests.support.recordings import GO_FORWARD_WORDS
from tests.support.waiting import wait_until

IMAGE = "localhost/roundhouse/pocketsphinx:0.1.0"


def engine(
    name: str, *, image: str = IMAGE, startup_seconds: int = 300, command: list[str] | None = None
) -> str:
    """An Engine on the pocketsphinx image that starts `command` instead of the image's own if given."""
    workload: dict[str, object] = {"image": image}
    if command is not None:
        workload["command"] = command
    requests = {"cpu": "50m", "memory": "128Mi"}
    return yaml.safe_dump(
        {
            "apiVersion": "roundhouse.dev/v1alpha1",
            "kind": "Engine",
            "metadata": {"name": name},
            "spec": {
                "stage": "Transcribe",
                "interfaces": ["Batch"],
                "version": "0.1.0",
                "workload": workload,
                "serving": {"type": "Dedicated"},
                "capabilities": {"languages": ["en"], "wordTimestamps": "Native"},
                "hardware": {"gpu": {"mode": "None"}, "resources": {"requests": requests}},
                "probes": {"startupTimeoutSeconds": startup_seconds, "periodSeconds": 1},
            },
        }
    )


def variant(name: str, engine_name: str, **spec: object) -> str:
    return yaml.safe_dump(
        {
            "apiVersion": "roundhouse.dev/v1alpha1",
            "kind": "ModelVariant",
            "metadata": {"name": name},
            "spec": {"engineRef": {"name": engine_name}, "source": {"type": "Builtin"}, **spec},
        }
    )


def both(name: str, engine_manifest: str | None = None) -> str:
    return (engine_manifest or engine(name)) + "---\n" + variant(name, name)


@pytest.fixture
def cleared(release: Release, request: pytest.FixtureRequest) -> Iterator[str]:
    """Removes the engine and the variant that are named like the test's parameter."""
    name = str(request.node.name).removeprefix("test_").replace("_", "-")[:40].strip("-")
    yield name
    release.delete(f"modelvariant/{name}", f"engine/{name}")


def test_image_that_does_not_exist(release: Release, cleared: str) -> None:
    release.apply(both(cleared, engine(cleared, image="localhost/roundhouse/nobody-built-this:1")))
    message = release.wait_for_condition(f"modelvariant/{cleared}", "Ready", "False", "ImagePull")
    assert "nobody-built-this" in message
    release.apply(engine(cleared))
    release.wait_for_condition(f"modelvariant/{cleared}", "Ready", "True", "Serving")


def test_engine_that_crashes(release: Release, cleared: str) -> None:
    crash = ["python3", "-c", "raise SystemExit('no licence file')"]
    release.apply(both(cleared, engine(cleared, command=crash)))
    message = release.wait_for_condition(f"modelvariant/{cleared}", "Ready", "False", "CrashLoop")
    assert "exit" in message
    assert "1" in message
    wait_until(
        lambda: release.get_json(f"/v1/models/{cleared}")["status"] == "unhealthy",
        seconds=60,
        what="the gateway knows it",
    )
    release.apply(engine(cleared))
    release.wait_for_condition(f"modelvariant/{cleared}", "Ready", "True", "Serving")
    release.answers_again(cleared)


def test_engine_that_never_gets_ready(release: Release, cleared: str) -> None:
    # The first process of a container has no signal that ends it by itself: it would be waited for.
    heeding = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))"
    sleep = ["python3", "-c", f"import signal, sys; {heeding}; signal.pause()"]
    release.apply(both(cleared, engine(cleared, command=sleep, startup_seconds=5)))
    message = release.wait_for_condition(f"modelvariant/{cleared}", "Ready", "False", "StartTimeout")
    assert "5" in message
    release.apply(engine(cleared))
    release.wait_for_condition(f"modelvariant/{cleared}", "Ready", "True", "Serving")


def test_variant_whose_engine_is_missing(release: Release, cleared: str) -> None:
    release.apply(variant(cleared, cleared))
    message = release.wait_for_condition(f"modelvariant/{cleared}", "Ready", "False", "EngineNotFound")
    assert repr(cleared) in message
    release.apply(engine(cleared))
    release.wait_for_condition(f"modelvariant/{cleared}", "Ready", "True", "Serving")


def test_engine_deleted_under_its_variant(release: Release, cleared: str) -> None:
    release.apply(both(cleared))
    release.wait_for_condition(f"modelvariant/{cleared}", "Ready", "True", "Serving")
    release.answers_again(cleared)
    release.delete(f"engine/{cleared}")
    release.wait_for_condition(f"modelvariant/{cleared}", "EngineSelected", "False", "EngineNotFound")
    assert release.condition(f"modelvariant/{cleared}", "Degraded")["status"] == "True"
    assert release.condition(f"modelvariant/{cleared}", "Available")["status"] == "True"
    assert release.transcribe(cleared) == GO_FORWARD_WORDS
    release.apply(engine(cleared))
    release.wait_for_condition(f"modelvariant/{cleared}", "Ready", "True", "Serving")
    assert release.condition(f"modelvariant/{cleared}", "Degraded") == {}


def test_deleting_a_variant_takes_its_pod(release: Release, cleared: str) -> None:
    release.apply(both(cleared))
    release.wait_for_condition(f"modelvariant/{cleared}", "Ready", "True", "Serving")
    release.delete(f"modelvariant/{cleared}")
    selector = f"roundhouse.dev/variant={cleared}"
    kinds = "deployments,services,pods,endpointslices"
    wait_until(lambda: not release.list(kinds, selector), seconds=60, what=f"nothing of {cleared} is left")

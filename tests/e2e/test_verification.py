"""Known-answer tests on a real engine: a wrong answer gets no traffic, a right one does, also from zero."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.release import Release
from tests.support.recordings import GO_FORWARD_WORDS, go_forward
from tests.support.waiting import wait_until

ENGINE = "pocketsphinx-tested"
VARIANT = "tested"
SAMPLES = "speech-samples"


def variant(expected: str, **spec: Any) -> dict[str, Any]:
    ref = {"name": SAMPLES, "key": "go.wav"}
    test = {"name": "go-forward", "inputConfigMapRef": ref, "expectText": expected, "maxWordErrorPercent": 10}
    return {
        "apiVersion": "roundhouse.dev/v1alpha1",
        "kind": "ModelVariant",
        "metadata": {"name": VARIANT},
        "spec": {
            "engineRef": {"name": ENGINE},
            "source": {"type": "Builtin"},
            "verification": {"policy": "Required", "tests": [test]},
            **spec,
        },
    }


@pytest.fixture
def engine(release: Release, tmp_path: Path) -> Iterator[None]:
    """The example's engine under a name of its own, and a recording to test it with."""
    recording = tmp_path / "go.wav"
    recording.write_bytes(go_forward())
    release.in_namespace("create", "configmap", SAMPLES, f"--from-file={recording}")
    spec = {
        "stage": "Transcribe",
        "interfaces": ["Batch"],
        "version": "0.1.0",
        "workload": {"image": "localhost/roundhouse/pocketsphinx:0.1.0"},
        "serving": {"type": "Dedicated"},
        "hardware": {"gpu": {"mode": "None"}},
        "capabilities": {"languages": ["en"], "wordTimestamps": "Native", "features": ["Diarization"]},
    }
    head = {"apiVersion": "roundhouse.dev/v1alpha1", "kind": "Engine", "metadata": {"name": ENGINE}}
    release.apply(json.dumps({**head, "spec": spec}))
    yield
    release.delete(f"modelvariant/{VARIANT}", f"engine/{ENGINE}", f"configmap/{SAMPLES}")


def pods(release: Release) -> list[dict[str, Any]]:
    return release.staying(f"roundhouse.dev/variant={VARIANT}")


def test_a_pod_serves_once_it_answers_right(release: Release, engine: None) -> None:
    release.apply(json.dumps(variant("something else entirely")))
    said = release.wait_for_condition(f"modelvariant/{VARIANT}", "Ready", "False", "VerificationFailed")
    assert f"10 % allowed: {GO_FORWARD_WORDS!r}" in said
    [pod] = pods(release)

    def held_back() -> bool:
        """The gate is closed behind the pass that tells of it."""
        [one] = pods(release)
        states = {each["type"]: each["status"] for each in one["status"]["conditions"]}
        kinds = ("ContainersReady", "Ready", "roundhouse.dev/Verified")
        return [states[kind] for kind in kinds] == ["True", "False", "False"]

    wait_until(held_back, seconds=60, what="the pod runs and is not ready")
    with pytest.raises(AssertionError, match="not currently running"):
        release.transcribe(VARIANT)
    # Another test is another question for the very same pod.
    release.apply(json.dumps(variant(GO_FORWARD_WORDS)))
    release.wait_for_condition(f"modelvariant/{VARIANT}", "Ready", "True", "Serving")
    assert [one["metadata"]["uid"] for one in pods(release)] == [pod["metadata"]["uid"]]
    release.answers_again(VARIANT)
    status = release.get(f"modelvariant/{VARIANT}")["status"]
    assert status["verification"]["tests"] == [{"name": "go-forward", "result": "Passed", "score": "0.0 %"}]
    assert status["verification"]["verifiedFeatures"] == ["WordTimestamps"]
    assert status["verification"]["unprovenFeatures"] == ["Diarization"]
    release.wait_for_condition(f"engine/{ENGINE}", "Verified", "False", "FeatureUnproven")


def test_a_template_is_proven_at_zero_replicas_and_waits_for_its_input(
    release: Release, engine: None
) -> None:
    samples = release.in_namespace("get", "configmap", SAMPLES, "-o", "json")
    release.delete(f"configmap/{SAMPLES}")
    release.apply(json.dumps(variant(GO_FORWARD_WORDS, replicas=0)))
    said = release.wait_for_condition(f"modelvariant/{VARIANT}", "Verified", "False", "TestInputNotFound")
    assert "'speech-samples' does not exist" in said
    assert not pods(release)
    kept = json.loads(samples)
    kept["metadata"] = {"name": SAMPLES}
    release.apply(json.dumps(kept))
    release.wait_for_condition(f"modelvariant/{VARIANT}", "Verified", "True", "Verified", seconds=240)
    wait_until(lambda: not pods(release), seconds=60, what="the pod of the test is gone")
    release.wait_for_condition(f"modelvariant/{VARIANT}", "Ready", "False", "ScaledToZero")
    release.wait_for_condition(f"modelvariant/{VARIANT}", "Verified", "True", "Verified")

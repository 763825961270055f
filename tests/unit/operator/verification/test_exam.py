"""From a new template to its proof: who is asked, who is held back, and what status says meanwhile."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from roundhouse_api.conditions import Reason
from roundhouse_api.model import Manifest
from roundhouse_api.v1alpha1 import VerificationResult
from roundhouse_operator.core.kinds import ENGINE, VARIANT, Key
from roundhouse_operator.core.placement import Fleet
from roundhouse_operator.core.status.engine import engine_status
from roundhouse_operator.core.verification.exam import Exam, gate_message
from roundhouse_operator.core.verification.known_answers import Judged
from roundhouse_operator.core.verification.proof import ExamFacts, Input, Proof
from tests.unit.operator.samples import engine, upstream, variant
from tests.unit.operator.worlds import NAMESPACE, NOW, Scene, conditions, message, node, pod

KEY = Key(VARIANT, NAMESPACE, "kws-en")
SPEECH = ("speech", "go.wav")
INPUTS = {SPEECH: Input("digest-1")}
TEST = {"name": "go", "inputConfigMapRef": {"name": "speech", "key": "go.wav"}, "expectText": "go"}
NATIVE = {"wordTimestamps": "Native"}
UPDATED: dict[str, Any] = {"replicas": 1, "updatedReplicas": 1}


def verified(policy: str = "Required", **spec: Any) -> Manifest:
    return variant(verification={"policy": policy, "tests": [TEST]}, **spec)


def scene_of(manifest: Manifest, **rollout: Any) -> Scene:
    one = Scene(node("n1"), engine(capabilities=NATIVE), manifest)
    one.cache.note_exam(KEY, ExamFacts(INPUTS))
    one.settle("kws-en", **(rollout or UPDATED))
    return one


def exam_of(scene: Scene) -> Exam:
    found = scene.decide("kws-en").exam
    assert found
    return found


def template(scene: Scene) -> Manifest:
    deployment = next(one for one in scene.world("kws-en").children if one.kind.name == "Deployment")
    found: Manifest = deployment.live["spec"]["template"]
    return found


def started(
    scene: Scene, name: str = "kws-en-1", gate: tuple[bool, str] | None = None, **more: Any
) -> Manifest:
    """A pod of the newest template whose containers are ready."""
    known = [{"type": "PodScheduled", "status": "True"}, {"type": "ContainersReady", "status": "True"}]
    if gate:
        told = {"type": "roundhouse.dev/Verified", "status": str(gate[0]), "message": gate[1]}
        known += [told, {"type": "Ready", "status": str(gate[0])}]
    one = pod(name, podIP="10.0.0.7", conditions=known, **more)
    one["metadata"]["annotations"] = template(scene)["metadata"].get("annotations") or {}
    return one


def proven(scene: Scene, result: str = "Passed", *, by: str = "kws-en-1") -> Proof:
    """What the shell would come to for the revision that is due."""
    said = "" if result == "Passed" else "25.0 % word errors, 0 % allowed: 'no'"
    test = Judged("go", VerificationResult(result), "", said)
    proof = Proof(exam_of(scene).revision, (test,), ("WordTimestamps",), (), pod=by)
    scene.cache.note_exam(KEY, ExamFacts(INPUTS, proof))
    return proof


def test_only_required_tests_change_the_pod_template() -> None:
    plain, advisory = template(scene_of(variant())), template(scene_of(verified("Advisory")))
    assert plain == advisory
    gated = template(scene_of(verified()))
    assert gated["spec"].pop("readinessGates") == [{"conditionType": "roundhouse.dev/Verified"}]
    assert list(gated["metadata"].pop("annotations")) == ["roundhouse.dev/template"]
    assert gated == plain


def test_a_new_pod_is_asked_and_held_back_until_it_has_answered() -> None:
    scene = scene_of(verified())
    assert exam_of(scene).candidate is None, "nothing runs yet"
    assert conditions(scene.status("kws-en"))["Verified"] == ("Unknown", "Verifying")
    scene.put(started(scene))
    exam = exam_of(scene)
    assert exam.candidate
    assert exam.candidate.ip == "10.0.0.7"
    assert exam.gates == ()
    status = scene.status("kws-en")
    assert conditions(status)["Ready"] == ("False", "Verifying")
    assert conditions(status)["Available"] == ("False", "Verifying")


def test_who_passed_gets_requests_and_others_of_the_template_with_it() -> None:
    scene = scene_of(verified(replicas=2), replicas=2, updatedReplicas=2)
    scene.put(started(scene), started(scene, "kws-en-2"))
    proof = proven(scene)
    gates = exam_of(scene).gates
    assert [(one.pod.name, one.passed, one.reason) for one in gates] == [
        ("kws-en-1", True, Reason.VERIFIED),
        ("kws-en-2", True, Reason.VERIFIED),
    ]
    told = gate_message(proof.revision)
    scene.put(started(scene, gate=(True, told)), started(scene, "kws-en-2", gate=(True, told)))
    exam = exam_of(scene)
    assert (exam.gates, exam.candidate) == ((), None)
    status = scene.settle("kws-en")
    assert conditions(status)["Verified"] == ("True", "Verified")
    assert message(status, "Verified") == "1 tests passed; shown: WordTimestamps"
    assert status["verification"] == {
        "revision": proof.revision,
        "tests": [{"name": "go", "result": "Passed"}],
        "verifiedFeatures": ["WordTimestamps"],
        "passedTemplates": [template(scene)["metadata"]["annotations"]["roundhouse.dev/template"]],
    }


def test_a_restarted_operator_finds_the_proof_in_the_status() -> None:
    scene = scene_of(verified())
    scene.put(started(scene))
    proven(scene)
    scene.settle("kws-en")
    scene.cache.note_exam(KEY, ExamFacts(INPUTS))
    exam = exam_of(scene)
    assert exam.candidate is None
    assert [one.passed for one in exam.gates] == [True], "the gate is set by what status says"


def test_who_failed_gets_no_requests_and_is_not_asked_again_but_its_successor_is() -> None:
    scene = scene_of(verified())
    scene.put(started(scene))
    proof = proven(scene, "Failed")
    [gate] = exam_of(scene).gates
    assert (gate.passed, gate.reason) == (False, Reason.VERIFICATION_FAILED)
    status = scene.settle("kws-en")
    assert conditions(status)["Ready"] == ("False", "VerificationFailed")
    assert "test 'go': 25.0 % word errors, 0 % allowed: 'no'" in message(status, "Ready")
    assert conditions(status)["UpToDate"][1] == "VerificationFailed" or status["replicas"] == 1
    assert status["phase"] == "Failed"
    scene.put(started(scene, gate=(False, gate_message(proof.revision))))
    assert exam_of(scene).candidate is None
    scene.put(started(scene, "kws-en-9"))
    candidate = exam_of(scene).candidate
    assert candidate
    assert candidate.name == "kws-en-9"


def test_a_pod_that_serves_goes_on_when_later_tests_fail() -> None:
    scene = scene_of(verified())
    scene.put(started(scene, gate=(True, gate_message("earlier"))))
    assert exam_of(scene).candidate, "other tests are other questions"
    proven(scene, "Failed")
    [gate] = exam_of(scene).gates
    assert (gate.passed, gate.reason) == (True, Reason.VERIFICATION_FAILED)
    status = scene.status("kws-en")
    assert conditions(status)["Verified"] == ("False", "VerificationFailed")


def test_another_input_is_another_question() -> None:
    scene = scene_of(verified())
    before = exam_of(scene).revision
    scene.cache.note_exam(KEY, ExamFacts({SPEECH: Input("digest-2")}))
    assert exam_of(scene).revision != before
    scene.cache.note_exam(KEY, ExamFacts(INPUTS))
    assert exam_of(scene).revision == before
    scene.put(engine(capabilities={**NATIVE, "streaming": "Chunked"}))
    assert exam_of(scene).revision != before, "more is claimed"


@pytest.mark.parametrize(("policy", "ready"), [("Required", "False"), ("Advisory", "True")])
def test_inputs_that_are_not_there_are_named(policy: str, ready: str) -> None:
    scene = scene_of(verified(policy), replicas=1, updatedReplicas=1, readyReplicas=int(policy == "Advisory"))
    problem = (Reason.TEST_INPUT_NOT_FOUND, "ConfigMap 'speech' does not exist")
    scene.cache.note_exam(KEY, ExamFacts({SPEECH: Input(problem=problem)}))
    scene.put(started(scene))
    assert exam_of(scene).candidate is None
    status = scene.status("kws-en")
    assert conditions(status)["Verified"] == ("False", "TestInputNotFound")
    assert conditions(status)["Ready"][0] == ready
    assert ("Degraded" in conditions(status)) == (policy == "Advisory")


def test_an_engine_that_does_not_answer_is_told_and_asked_again() -> None:
    scene = scene_of(verified())
    scene.put(started(scene))
    scene.cache.note_exam(KEY, ExamFacts(INPUTS, silent=(exam_of(scene).revision, "no answer within 300 s")))
    assert exam_of(scene).candidate
    assert conditions(scene.status("kws-en"))["Ready"] == ("False", "TestUnanswered")


def test_a_new_template_is_proven_before_it_is_needed() -> None:
    scene = scene_of(verified(replicas=0), replicas=1, updatedReplicas=1)
    assert replicas(scene) == 1
    scene.put(started(scene))
    proven(scene)
    scene.settle("kws-en", replicas=0)
    assert replicas(scene) == 0
    assert conditions(scene.status("kws-en"))["Ready"] == ("False", "ScaledToZero")
    assert conditions(scene.status("kws-en"))["Verified"] == ("True", "Verified")
    scene.put(engine(workload={"image": "example.org/kws:2"}, capabilities=NATIVE))
    scene.settle("kws-en", replicas=1)
    assert replicas(scene) == 1


def test_a_template_that_failed_holds_no_pod_that_nobody_asked_for() -> None:
    scene = scene_of(verified(replicas=0), replicas=1, updatedReplicas=1)
    scene.put(started(scene))
    proven(scene, "Failed")
    scene.settle("kws-en", replicas=0)
    assert replicas(scene) == 0
    assert conditions(scene.status("kws-en"))["Verified"] == ("False", "VerificationFailed")


def test_what_is_suspended_is_not_started_for_a_test() -> None:
    scene = scene_of(verified(suspend=True), replicas=0)
    assert replicas(scene) == 0


def replicas(scene: Scene) -> int:
    """As the Deployment has it after a pass."""
    for apply in scene.decide("kws-en").plan.applies:
        if apply.kind.name == "Deployment":
            return int(apply.manifest["spec"]["replicas"])
    deployment = next(one for one in scene.world("kws-en").children if one.kind.name == "Deployment")
    return int(deployment.live["spec"]["replicas"])


def test_advice_holds_nobody_back_and_is_told() -> None:
    scene = scene_of(verified("Advisory"), replicas=1, updatedReplicas=1, readyReplicas=1)
    one = started(scene)
    one["status"]["conditions"].append({"type": "Ready", "status": "True"})
    scene.put(one)
    assert exam_of(scene).candidate
    proven(scene, "Failed")
    assert (exam_of(scene).gates, exam_of(scene).candidate) == ((), None)
    status = scene.status("kws-en")
    assert conditions(status)["Ready"] == ("True", "Serving")
    assert conditions(status)["Verified"] == ("False", "VerificationFailed")
    assert conditions(status)["Degraded"] == ("True", "VerificationFailed")


def test_advice_waits_until_a_rollout_is_over() -> None:
    scene = scene_of(verified("Advisory"), replicas=2, updatedReplicas=1, readyReplicas=1)
    scene.put(started(scene))
    assert exam_of(scene).candidate is None


def test_an_upstream_is_not_tested_and_cannot_be_held_back() -> None:
    scene = Scene(upstream(), verified("Advisory", engineRef={"name": "elsewhere"}))
    status = scene.settle("kws-en")
    assert conditions(status)["Verified"] == ("Unknown", "Upstream")
    assert conditions(status)["Ready"] == ("True", "Upstream")
    scene = Scene(upstream(), verified(engineRef={"name": "elsewhere"}))
    assert "no pods to hold back" in message(scene.settle("kws-en"), "Accepted")


def test_without_verification_nothing_is_left_of_it() -> None:
    scene = scene_of(verified())
    scene.put(started(scene))
    proven(scene)
    status = scene.settle("kws-en")
    scene.put({**variant(), "status": status})
    status = scene.status("kws-en")
    assert "verification" not in status
    assert conditions(status)["Verified"] == ("Unknown", "NotRequested")


def test_an_engine_tells_what_its_variants_have_shown() -> None:
    scene = scene_of(verified())
    claimed = {**NATIVE, "features": ["Diarization"]}
    scene.put(engine(capabilities=claimed))
    scene.put(started(scene))
    proof = proven(scene)
    scene.cache.note_exam(KEY, ExamFacts(INPUTS, replace(proof, unproven=("Diarization",))))
    scene.settle("kws-en")
    found = scene.cache.resource(Key(ENGINE, NAMESPACE, "kws"))
    assert found
    status = engine_status(found, scene.cache.usage(found.key), Fleet(), now=NOW)
    assert status["verification"] == {
        "verifiedFeatures": ["WordTimestamps"],
        "unprovenFeatures": ["Diarization"],
    }
    assert conditions(status)["Verified"] == ("False", "FeatureUnproven")


@pytest.mark.parametrize("result", ["", "Failed"])
def test_pods_that_passed_serve_on_as_verified_while_a_new_template_is_tested(result: str) -> None:
    scene = scene_of(verified(), replicas=1, updatedReplicas=1, readyReplicas=1)
    old = started(scene, "kws-en-0", gate=(True, gate_message("earlier")))
    changed, status = verified(args=["--new"]), scene.world("kws-en").variant.status
    scene.put({**changed, "status": status, "metadata": {**changed["metadata"], "generation": 2}})
    scene.settle("kws-en", replicas=2, updatedReplicas=1, readyReplicas=1)
    new = started(scene)
    new["metadata"]["creationTimestamp"] = "2026-02-01T00:00:00Z"
    new["metadata"]["labels"]["pod-template-hash"] = "b"
    scene.put(old, new)
    candidate = exam_of(scene).candidate
    assert candidate
    assert candidate.name == "kws-en-1", "only pods of the newest template are asked"
    if result:
        proven(scene, result)
    status = scene.status("kws-en")
    assert conditions(status)["Ready"] == ("True", "Serving")
    assert conditions(status)["Verified"] == ("True", "Verified")
    assert conditions(status)["UpToDate"] == ("False", "VerificationFailed" if result else "RollingOut")
    assert ("Degraded" in conditions(status)) == bool(result)

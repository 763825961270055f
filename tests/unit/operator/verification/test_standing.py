"""Pods that come while another template is wanted: they are of the one that stands, and pass by its proof."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from roundhouse_api.conditions import Reason
from roundhouse_api.model import Manifest
from roundhouse_api.v1alpha1 import VerificationResult
from roundhouse_operator.core.verification.exam import Exam, gate_message
from roundhouse_operator.core.verification.known_answers import Judged
from roundhouse_operator.core.verification.proof import ExamFacts, Proof
from roundhouse_operator.core.weights.loader import LoaderImage
from tests.unit.operator.caches import HUB, PVC, Caches
from tests.unit.operator.samples import engine, variant
from tests.unit.operator.verification.test_exam import INPUTS, KEY, started, verified
from tests.unit.operator.worlds import Scene, conditions, node

SERVING: dict[str, Any] = {"replicas": 1, "updatedReplicas": 1, "readyReplicas": 1}


def exam_of(scene: Scene) -> Exam:
    found = scene.decide("kws-en").exam
    assert found
    return found


def prove(scene: Scene, result: str = "Passed") -> Proof:
    proof = Proof(
        exam_of(scene).revision, (Judged("go", VerificationResult(result), "", ""),), pod="kws-en-1"
    )
    scene.cache.note_exam(KEY, ExamFacts(INPUTS, proof))
    return proof


def proven(scene: Scene, **rollout: Any) -> None:
    """The variant serves, has passed its tests, and the operator was started again since."""
    scene.cache.note_exam(KEY, ExamFacts(INPUTS))
    scene.settle("kws-en", **SERVING)
    scene.put(started(scene))
    proof = prove(scene)
    scene.put(started(scene, gate=(True, gate_message(proof.revision))))
    scene.settle("kws-en", **(rollout or SERVING))
    scene.cache.note_exam(KEY, ExamFacts(INPUTS))


def comes(scene: Scene) -> None:
    """A pod of the template that stands, in the place of one whose node was drained."""
    scene.put(started(scene, "kws-en-2"))


def opened(scene: Scene) -> list[tuple[str, bool]]:
    return [(one.pod.name, one.passed) for one in exam_of(scene).gates]


class Updated(Caches):
    """Weights come with each pod, by a loader that an update of the operator brings along."""

    def __init__(self, **spec: Any) -> None:
        super().__init__(node("n1"), engine(), verified(source=HUB, **spec))
        self.cache.note_exam(KEY, ExamFacts(INPUTS))

    def update(self) -> None:
        self.loader = LoaderImage("example.org/loader:2")


def test_after_an_update_of_the_operator_pods_that_come_pass_by_the_proof_there_is() -> None:
    scene = Updated()
    proven(scene)
    scene.update()
    assert scene.decide("kws-en").plan.empty, "an update starts no model anew"
    comes(scene)
    assert opened(scene) == [("kws-en-2", True)]
    assert exam_of(scene).candidate is None
    assert conditions(scene.status("kws-en"))["Verified"] == ("True", "Verified")


def test_an_update_of_the_operator_starts_no_pod_at_zero_replicas() -> None:
    scene = Updated(replicas=0)
    proven(scene, replicas=0)
    scene.settle("kws-en", replicas=0)
    scene.update()
    assert scene.decide("kws-en").plan.empty


def waiting(policy: str = "Required") -> Scene:
    """A change of the engine reaches another variant first."""
    scene = Scene(node("n1"), engine(), verified(policy), variant("first", servedName="f"))
    scene.settle("first", **SERVING)
    scene.write("first", {**scene.status("first"), "rollout": {"turn": "Taken"}})
    proven(scene)
    scene.put(engine(workload={"image": "example.org/kws:2"}))
    scene.settle("kws-en", **SERVING)
    assert conditions(scene.status("kws-en"))["UpToDate"] == ("False", "WaitingForTurn")
    return scene


def test_pods_that_come_while_a_change_waits_for_its_turn_serve() -> None:
    scene = waiting()
    comes(scene)
    assert opened(scene) == [("kws-en-2", True)]
    status = scene.status("kws-en")
    assert conditions(status)["Verified"] == ("True", "Verified")
    assert status["verification"]["revision"] == exam_of(scene).revision, "the proof that stands is kept"


def test_at_zero_replicas_a_change_that_waits_starts_no_pod() -> None:
    scene = Caches(node("n1"), engine(cache=PVC), verified(source=HUB))
    scene.cache.note_exam(KEY, ExamFacts(INPUTS))
    scene.steps(**SERVING)
    scene.ends({"result": "Complete", "revision": "c0ffee", "digest": "sha256:1", "totalBytes": 1000})
    scene.steps(**SERVING)
    scene.put(started(scene))
    prove(scene)
    scene.steps(**SERVING)
    other = verified(source={**HUB, "huggingFace": {"repo": "acme/kws-de"}}, replicas=0)
    scene.put({**other, "status": scene.world("kws-en").variant.status})
    decision = scene.decide("kws-en")
    assert decision.weights
    assert not decision.weights.ready
    [apply] = decision.plan.applies
    assert apply.manifest["spec"]["replicas"] == 0, "the template that waits for weights has no pods to prove"


@pytest.mark.parametrize("result", ["", "Failed"])
def test_an_old_pod_that_is_replaced_during_a_rollout_serves(result: str) -> None:
    scene = Scene(node("n1"), engine(), verified())
    proven(scene)
    old = started(scene, "kws-en-2")
    edited: Manifest = verified(args=["--new"])
    scene.put({**edited, "status": scene.world("kws-en").variant.status})
    scene.settle("kws-en", replicas=2, updatedReplicas=1, readyReplicas=0)
    assert started(scene)["metadata"]["annotations"] != old["metadata"]["annotations"]
    if result:
        prove(scene, result)
    scene.settle("kws-en", replicas=2, updatedReplicas=1, readyReplicas=0)
    scene.cache.note_exam(KEY, ExamFacts(INPUTS))
    scene.put(old)
    assert ("kws-en-2", True) in opened(scene)
    scene.put(started(scene, "kws-en-3"))
    assert ("kws-en-3", True) not in opened(scene), "the newest has proven nothing"


def test_a_pod_of_a_template_that_never_passed_stays_shut() -> None:
    scene = Scene(node("n1"), engine(), verified())
    scene.cache.note_exam(KEY, ExamFacts(INPUTS))
    scene.settle("kws-en", **SERVING)
    never = started(scene, "kws-en-2")
    scene.put({**verified(args=["--new"]), "status": scene.world("kws-en").variant.status})
    scene.settle("kws-en", replicas=2, updatedReplicas=1)
    scene.put(never)
    assert opened(scene) == []


def test_advice_about_a_template_that_waits_is_not_taken_from_pods_of_another() -> None:
    scene = waiting("Advisory")
    serving = started(scene)
    serving["status"]["conditions"].append({"type": "Ready", "status": "True"})
    scene.put(serving)
    exam = exam_of(scene)
    assert exam.candidate is None
    assert exam.proof, "what was told of the pods that serve stands"


def test_a_pod_that_failed_is_not_asked_again_before_its_condition_says_so() -> None:
    scene = Scene(node("n1"), engine(), verified())
    scene.cache.note_exam(KEY, ExamFacts(INPUTS))
    scene.settle("kws-en", replicas=1, updatedReplicas=1)
    scene.put(started(scene))
    prove(scene, "Failed")
    exam = exam_of(scene)
    assert [(one.pod.name, one.reason) for one in exam.gates] == [("kws-en-1", Reason.VERIFICATION_FAILED)]
    assert exam.candidate is None
    scene.put(started(scene, "kws-en-2"))
    candidate = exam_of(scene).candidate
    assert candidate
    assert candidate.name == "kws-en-2"


def test_silence_at_zero_replicas_does_not_take_the_pod_away_that_is_asked_again() -> None:
    scene = Scene(node("n1"), engine(), verified(replicas=0))
    scene.cache.note_exam(KEY, ExamFacts(INPUTS))
    scene.settle("kws-en", replicas=1, updatedReplicas=1)
    scene.put(started(scene))
    silent = (exam_of(scene).revision, "no answer within 300 s")
    scene.cache.note_exam(KEY, replace(ExamFacts(INPUTS), silent=silent))
    decision = scene.decide("kws-en")
    assert decision.plan.empty
    assert decision.exam
    assert decision.exam.candidate
    assert decision.exam.wants_pod

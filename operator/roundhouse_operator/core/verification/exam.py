"""How far the verification of a variant's newest template has come, and what is to be done next.

One pod is asked for each template and set of tests; the others of that template pass by its result. A pod
that failed is not asked again, a new one in its place is. A pod that passed earlier tests goes on serving
when later ones fail, and one that comes in its place, of a template that passed, serves too: availability
never depends on a change that is under way. The newest template is the one that pods are made from: one that
is wanted and waits is not proven yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from roundhouse_api.conditions import Reason
from roundhouse_api.names import ANNOTATION_TEMPLATE
from roundhouse_operator.core.desired.gate import mark_of, required
from roundhouse_operator.core.desired.intent import Intent
from roundhouse_operator.core.desired.pod import build_pod_template
from roundhouse_operator.core.diagnose import Trouble, newest
from roundhouse_operator.core.kinds import DEPLOYMENT
from roundhouse_operator.core.observed import Pod, World
from roundhouse_operator.core.own import child_of
from roundhouse_operator.core.verification.known_answers import references
from roundhouse_operator.core.verification.probes import claims
from roundhouse_operator.core.verification.proof import Input, Proof, Ref, read_proof, revision

_REVISION = "Revision "
REMEMBERED: Final = 2
"""Templates that passed: the one before the newest may still have pods."""


@dataclass(frozen=True, slots=True)
class Gate:
    """What the pod's condition is to say."""

    pod: Pod
    passed: bool
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Exam:
    """`revision` is empty as long as nobody has looked at the tests' inputs."""

    required: bool
    revision: str = ""
    proof: Proof | None = None
    trouble: Trouble | None = None
    """Why the tests cannot be run or give no answer."""
    candidate: Pod | None = None
    """The pod that is to be asked."""
    gates: tuple[Gate, ...] = ()
    passed_templates: tuple[str, ...] = ()
    """Marks of the last templates that passed, whichever tests those were."""
    elders_serve: bool = False
    """Requests go to pods of an older template, which passed, and to none of the newest."""

    @property
    def failing(self) -> Trouble | None:
        if self.trouble:
            return self.trouble
        if self.proof and not self.proof.passed:
            return Trouble(Reason.VERIFICATION_FAILED, failures(self.proof))
        return None

    @property
    def wants_pod(self) -> bool:
        """A new template is proven before it is needed, also at zero replicas."""
        silent = self.trouble is None or self.trouble.reason is Reason.TEST_UNANSWERED
        return self.required and self.proof is None and silent


def examine(world: World, intent: Intent, *, kept: bool) -> Exam | None:
    """None where the variant asks for no verification. `kept`: pods are still made as they were before."""
    verification, facts = intent.variant.verification, world.exam
    if verification is None:
        return None
    must, told = required(verification), read_proof(world.variant.status)
    wanted: list[Ref] = [(ref.name, ref.key) for ref in references(verification)]
    if any(ref not in facts.inputs for ref in wanted):
        return Exam(must, proof=told)
    if kept and not must:
        return Exam(must, proof=told)  # what serves is not what would be asked
    inputs: dict[Ref, Input] = {ref: facts.inputs[ref] for ref in wanted}
    mark = _standing_mark(world) if kept else mark_of(build_pod_template(intent))
    now = revision(mark, verification, claims(intent.merged.capabilities), inputs)
    proof = next((one for one in (facts.proof, told) if one and one.revision == now), None)
    missing = next((Trouble(*one.problem) for one in inputs.values() if one.problem), None)
    silent = proof is None and facts.silent[0] == now
    pods = _gated(world, mark) if must else _settled(world)
    untried = [pod for pod in pods if _reachable(pod) and not (must and _tried(pod, now, proof, facts.proof))]
    needed = proof is None or (must and not proof.passed)
    passed = _passed(world, mark, proof) if must else ()
    return Exam(
        required=must,
        revision=now,
        proof=proof,
        trouble=missing or (Trouble(Reason.TEST_UNANSWERED, facts.silent[1]) if silent else None),
        candidate=untried[0] if untried and needed and not missing else None,
        elders_serve=any(pod.ready and pod.gate for pod in world.pods) and not any(pod.ready for pod in pods),
        passed_templates=passed,
        gates=(*_gates(pods, proof, facts.proof), *_elders(world, passed, mark)) if must else (),
    )


def failures(proof: Proof) -> str:
    return "; ".join(f"test {one.name!r}: {one.message}" for one in proof.tests if not one.passed)


def gate_message(now: str) -> str:
    return f"{_REVISION}{now}"


def _gated(world: World, mark: str) -> list[Pod]:
    """Pods of the newest template, which they carry the mark of."""
    return sorted(
        (pod for pod in world.pods if mark and pod.mark == mark and not pod.ending and not pod.failure),
        key=lambda pod: pod.name,
    )


def _standing_mark(world: World) -> str:
    """Of the template that the Deployment has; empty where that one has no gate."""
    live = child_of(world, DEPLOYMENT)
    metadata = live.live["spec"]["template"].get("metadata") or {} if live else {}
    mark: str = (metadata.get("annotations") or {}).get(ANNOTATION_TEMPLATE, "")
    return mark


def _passed(world: World, mark: str, proof: Proof | None) -> tuple[str, ...]:
    before = tuple((world.variant.status.get("verification") or {}).get("passedTemplates") or ())
    if proof is None or not proof.passed or not mark:
        return before
    return (*(one for one in before if one != mark), mark)[-REMEMBERED:]


def _settled(world: World) -> list[Pod]:
    """Pods that serve, once no rollout is under way: without a mark they cannot be told apart before."""
    rollout = world.rollout
    if rollout is None or not rollout.current or rollout.updated != rollout.replicas:
        return []
    return [pod for pod in newest(world.pods) if pod.ready]


def _reachable(pod: Pod) -> bool:
    return pod.containers_ready and bool(pod.ip)


def _told(pod: Pod, now: str) -> bool:
    return pod.gate_message.startswith(gate_message(now))


def _tried(pod: Pod, now: str, proof: Proof | None, fresh: Proof | None) -> bool:
    """Whether it has been asked, also where its condition does not say so yet."""
    return _told(pod, now) or (proof is not None and _was_asked(pod, proof, fresh))


def _gates(pods: list[Pod], proof: Proof | None, fresh: Proof | None) -> Iterator[Gate]:
    """Conditions that differ from those which the pods have."""
    if proof is None:
        return
    told = gate_message(proof.revision)
    for pod in pods:
        if proof.passed:
            if not (pod.gate and _told(pod, proof.revision)):
                yield Gate(pod, True, Reason.VERIFIED, told)
        elif _was_asked(pod, proof, fresh) and not _told(pod, proof.revision):
            yield Gate(pod, pod.gate, Reason.VERIFICATION_FAILED, told)


def _elders(world: World, passed: tuple[str, ...], mark: str) -> Iterator[Gate]:
    """Pods of an older template that passed: they serve until the newest has proven good."""
    for pod in world.pods:
        if pod.mark in passed and pod.mark != mark and not (pod.gate or pod.ending or pod.failure):
            yield Gate(pod, True, Reason.VERIFIED, f"Template {pod.mark}")


def _was_asked(pod: Pod, proof: Proof, fresh: Proof | None) -> bool:
    return fresh is not None and fresh.revision == proof.revision and fresh.pod == pod.name

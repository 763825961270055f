"""Every reason of the reference can be produced: each has a case here, through the core that writes statuses.

A new reason comes with its row. What nothing produces in this version stands in `LATER`, and leaves it with
the feature that it belongs to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from roundhouse_api.conditions import Reason
from roundhouse_api.model import Manifest
from roundhouse_api.v1alpha1 import VerificationResult
from roundhouse_operator.core.credentials import asked_of, refuse_credentials
from roundhouse_operator.core.kinds import ADAPTER, ENGINE, VARIANT, Key
from roundhouse_operator.core.outcome import DONE, Conflict, Outcome, Refusal
from roundhouse_operator.core.status.engine import engine_status
from roundhouse_operator.core.status.shared import told_of
from roundhouse_operator.core.status.unserved import unserved_status
from roundhouse_operator.core.verification.known_answers import Judged
from roundhouse_operator.core.verification.proof import ExamFacts, Input, Proof
from roundhouse_operator.core.weights.asked import Answer, Ask, AskedKind
from tests.unit.operator import (
    test_autoscalers,
    test_choices,
    test_demand,
    test_incidents,
    test_replicas,
    test_service,
)
from tests.unit.operator.caches import COMPLETE, Caches, failure, private
from tests.unit.operator.fleet import IMAGE_2, Fleet, fail
from tests.unit.operator.kinds_of_nodes import PLAIN, UNLABELLED
from tests.unit.operator.samples import adapter, engine, upstream, variant
from tests.unit.operator.sharing import SHARED, SharedScene, gpu_node, shared_engine
from tests.unit.operator.test_demand import NONE, Life
from tests.unit.operator.test_sharing import model
from tests.unit.operator.test_weights import cached
from tests.unit.operator.test_weights_mark import unmarkable
from tests.unit.operator.test_weights_with_pods import in_pod, versions
from tests.unit.operator.worlds import NAMESPACE, NOW, Scene, node, pod

REFERENCE = Path(__file__).parents[3] / "docs/reference/conditions.md"
SERVING: dict[str, Any] = {"replicas": 1, "readyReplicas": 1, "updatedReplicas": 1}
STARTING: dict[str, Any] = {"replicas": 1, "updatedReplicas": 1}
ONE_AT_A_TIME = {"type": "Exclusive", "exclusive": {"activeVariantName": "a"}}
SPEECH = ("speech", "go.wav")
TEST = {"name": "go", "inputConfigMapRef": {"name": "speech", "key": "go.wav"}, "expectText": "go"}
KEY = Key(VARIANT, NAMESPACE, "kws-en")

LATER = frozenset(
    {
        # Of adapters, which are accepted and not loaded yet.
        Reason.LOADED,
        Reason.COMPATIBLE,
        Reason.BASE_MODEL_NOT_FOUND,
        Reason.INCOMPATIBLE,
        Reason.NOT_LOADED,
    }
)
"""Reasons that are part of the API and that this version has no occasion for."""

Statuses = Iterable[Manifest]


def settled(*manifests: Manifest, **rollout: Any) -> Statuses:
    """One pass over a variant, and what the Deployment's controller says of its pods."""
    scene = Scene(node("n1"), *manifests)
    yield scene.settle("kws-en", **rollout)


def described(**spec: Any) -> Callable[[], Statuses]:
    return lambda: settled(engine(), variant(**spec), **SERVING)


def before_any_pass() -> Statuses:
    scene = Scene(node("n1"), engine(), variant())
    yield scene.status("kws-en", Outcome(failure="the API server is away"))


def with_pod(**status: Any) -> Callable[[], Statuses]:
    """A pod of which the kubelet or the scheduler says this."""

    def told() -> Statuses:
        scene = Scene(node("n1"), engine(), variant())
        scene.settle("kws-en", **STARTING)
        scene.put(pod(node=status.pop("node", "n1"), **status))
        yield scene.settle("kws-en")

    return told


def container(**state: Any) -> Callable[[], Statuses]:
    named = {"name": "engine", "restartCount": 3, **state}
    return with_pod(
        phase="Running", containerStatuses=[named], conditions=[{"type": "PodScheduled", "status": "True"}]
    )


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"state": {"waiting": {"reason": reason, "message": message}}}


def ended(**terminated: Any) -> dict[str, Any]:
    times = {"startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:10:01Z"}
    return {"lastState": {"terminated": {**times, **terminated}}}


def unscheduled(message: str) -> Callable[[], Statuses]:
    refused = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return with_pod(node="", conditions=[refused])


def serving_then(**rollout: Any) -> Callable[[], Statuses]:
    def told() -> Statuses:
        life = Life(scaling={"mode": "Manual"}).set()
        life.now(**SERVING)
        life.now(**rollout)
        yield life.status

    return told


def lost() -> Statuses:
    life = Life(scaling={"mode": "Manual"}).set()
    life.now(**SERVING)
    life.scene.put(pod(conditions=[{"type": "PodScheduled", "status": "True"}]))
    life.now(**STARTING)
    yield life.status


def asleep() -> Statuses:
    life = Life().set()
    life.now(**SERVING)
    life.set(replicas=0)
    life.now(**NONE)
    yield life.status


def scaled_in_vain() -> Statuses:
    scene = SharedScene(shared_engine(), gpu_node(), model("a"))
    scene.cache.autoscalers.take(test_autoscalers.autoscaler(on="a"))
    scene.come_to_rest()
    yield scene.tell("a")


def on_node(one: Manifest, **gpu: Any) -> Callable[[], Statuses]:
    """What an engine says of a node; a variant without pods says the same."""

    def told() -> Statuses:
        hardware = {"gpu": {"mode": "Required", **gpu}}
        scene = Scene(one, engine(hardware=hardware), variant(replicas=0))
        yield scene.settle("kws-en", **NONE)
        yield engine_told(scene)

    return told


def engine_told(scene: Scene, name: str = "kws", *, there: bool = True) -> Manifest:
    """`there`: what it refers to exists."""
    found = scene.cache.resource(Key(ENGINE, NAMESPACE, name))
    assert found
    asks = asked_of(found)
    credential = refuse_credentials({ask: Answer(there) for ask in asks}, asks)
    return engine_status(
        found, scene.cache.usage(found.key), scene.cache.fleet, now=NOW, credential=credential
    )


def labelled(**labels: str) -> Manifest:
    one: Manifest = {**PLAIN, "metadata": {**PLAIN["metadata"]}}
    changed = {f"nvidia.com/gpu.{name.replace('_', '-')}": value for name, value in labels.items()}
    one["metadata"]["labels"] = {**one["metadata"]["labels"], **changed}
    return one


def many_cards() -> Manifest:
    one = labelled(count="1")
    amounts = {**one["status"]["allocatable"], "nvidia.com/gpu": "2"}
    return {**one, "status": {"allocatable": amounts, "capacity": amounts}}


def claimed() -> Statuses:
    dra = {"type": "DRA", "dra": {"deviceClassName": "gpu.nvidia.com"}}
    yield from on_node(PLAIN, allocation=dra)()


def in_line() -> Statuses:
    fleet = Fleet("a", "b", "c")
    fleet.edit_engine(IMAGE_2)
    fleet.passes()
    yield from all_of(fleet)
    fail(fleet, "a", IMAGE_2)
    fleet.passes()
    yield from all_of(fleet)


def all_of(fleet: Fleet) -> Statuses:
    for manifest in list(fleet.live.values()):
        if "conditions" in manifest.get("status", {}):
            yield manifest["status"]


def replaced_engine() -> Statuses:
    scene = Scene(node("n1"), engine(), variant())
    scene.settle("kws-en", **SERVING)
    other = engine(workload={"image": "example.org/other:1"})
    scene.put({**other, "metadata": {**other["metadata"], "uid": "another"}})
    yield scene.settle("kws-en", **SERVING)


def loader_says(reason: str) -> Callable[[], Statuses]:
    def told() -> Statuses:
        scene = cached()
        scene.steps()
        scene.ends(failure(reason))
        yield scene.steps()

    return told


def fetching() -> Statuses:
    scene = cached()
    yield scene.steps()
    scene.bind()
    scene.ends(COMPLETE)
    yield scene.steps(**SERVING)


def fetched_by_the_pod() -> Statuses:
    scene = cached(cache={"type": "Ephemeral"})
    yield scene.steps(**STARTING)
    scene.put(in_pod(running=True))
    yield scene.steps(**STARTING)


def image_volume() -> Statuses:
    oci = {"type": "OCI", "oci": {"image": "example.org/weights:1"}}
    one = versions("n1", "v1.35.0", "containerd://2.1.1")
    yield Caches(one, engine(cache={"type": "ImageVolume"}), variant(source=oci)).steps(**STARTING)


def volumes() -> Statuses:
    scene = cached(cache={"type": "PVC", "pvc": {"storageClassName": "fast"}})
    scene.steps()
    scene.bind("Pending")
    refused = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    scene.pod_of_job(node="", conditions=[{**refused, "message": "pod has unbound PersistentVolumeClaims"}])
    yield scene.status("kws-en")
    scene.missing("StorageClass", "fast")
    yield scene.steps()


def cache_refused() -> Statuses:
    yield cached().status("kws-en", Outcome(cache_refusal=Refusal("PersistentVolumeClaim x", 403, "quota")))


def credentials() -> Statuses:
    scene = cached(private())
    scene.missing("Secret", "hf")
    yield scene.steps()
    scene.there("Secret", "hf")
    yield scene.steps()
    scene.answers[Ask(AskedKind.SECRET, "hf")] = Answer(found=True, refused="secrets is forbidden")
    yield scene.steps()


def without_certificates() -> Statuses:
    ca = {"name": "own-ca", "key": "ca.crt"}
    scene = Scene(upstream(upstream={"baseURL": "https://x.example.org", "caConfigMapRef": ca}))
    yield engine_told(scene, "elsewhere", there=False)


def examined(*results: str, problem: bool = False, silent: bool = False) -> Callable[[], Statuses]:
    """A variant with a required test, and what became of it."""

    def told() -> Statuses:
        described = variant(verification={"policy": "Required", "tests": [TEST]})
        scene = Scene(node("n1"), engine(), described)
        known = Input(problem=(Reason.TEST_INPUT_NOT_FOUND, "not there")) if problem else Input("digest")
        scene.cache.note_exam(KEY, ExamFacts({SPEECH: known}))
        scene.settle("kws-en", **STARTING)
        exam = scene.decide("kws-en").exam
        assert exam
        tests = tuple(Judged("go", VerificationResult(one)) for one in results)
        proof = Proof(exam.revision, tests) if results else None
        quiet = (exam.revision, "silence") if silent else ("", "")
        scene.cache.note_exam(KEY, ExamFacts({SPEECH: known}, proof, quiet))
        yield scene.status("kws-en")

    return told


def unproven() -> Statuses:
    scene = Scene(engine(capabilities={"features": ["Diarization"]}), variant())
    scene.write("kws-en", {"engine": {"name": "kws"}, "verification": {"unprovenFeatures": ["Diarization"]}})
    yield engine_told(scene)


def names_and_circles() -> Statuses:
    to = [{"model": "second"}, {"model": "nobody"}]
    scene = Scene(node("n1"), engine(), variant(fallbacks=to))
    scene.put(variant("first", servedName="quick"), variant("second", fallbacks=[{"model": "kws-en"}]))
    scene.put(variant("third", servedName="quick"), variant("fourth", aliases=["quick"]))
    for name in ("first", "third", "fourth", "kws-en"):
        yield scene.settle(name, **SERVING)
    scene.put(variant(fallbacks=to[1:]))
    yield scene.settle("kws-en", **SERVING)


def held_by_another() -> Statuses:
    scene = Scene(node("n1"), engine(), variant())
    yield scene.status("kws-en", Outcome((Conflict("Deployment kws-en", ".spec.replicas", "hpa"),)))


def refused_pods(message: str) -> Callable[[], Statuses]:
    failing = {"type": "ReplicaFailure", "status": "True", "message": message}

    def told() -> Statuses:
        scene = Scene(node("n1"), engine(), variant())
        scene.settle("kws-en", conditions=[failing])
        yield scene.settle("kws-en", conditions=[failing])

    return told


def queued() -> Statuses:
    scene = Scene(node("n1"), engine(), variant())
    scene.settle("kws-en", **STARTING)
    held = pod(node="", conditions=[{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}])
    held["spec"]["schedulingGates"] = [{"name": "kueue.x-k8s.io/admission"}]
    scene.put(held)
    yield scene.settle("kws-en")


def an_adapter() -> Statuses:
    scene = Scene(adapter())
    key = Key(ADAPTER, NAMESPACE, "lora")
    found = scene.cache.resource(key)
    assert found
    yield unserved_status(found, scene.cache.award(key), now=NOW)


def odd_engine(**workload: Any) -> Callable[[], Statuses]:
    def told() -> Statuses:
        scene = Scene(node("n1"), engine(workload={"image": "x", **workload}), variant())
        yield scene.settle("kws-en")
        yield engine_told(scene)

    return told


def sharing(*variants: Manifest, state: str = "ready", **spec: Any) -> Callable[[], Statuses]:
    """What variants say that share pods, and their engine."""

    def told() -> Statuses:
        shared = SharedScene(shared_engine(**spec), gpu_node(), *variants)
        shared.states["b"] = state
        shared.come_to_rest()
        yield from (shared.tell(one["metadata"]["name"]) for one in variants)
        found = shared.cache.resource(SHARED)
        assert found
        yield engine_status(
            found,
            shared.cache.usage(SHARED),
            shared.cache.fleet,
            now=NOW,
            shared=told_of(found, shared.arrange(), DONE),
        )

    return told


def forbidden() -> Statuses:
    scene = Scene(upstream(url="http://127.0.0.1/v1"))
    yield engine_told(scene, "elsewhere")


OOM = ended(exitCode=137, reason="OOMKilled")
CASES: dict[Reason, Callable[[], Statuses]] = {
    Reason.PENDING: before_any_pass,
    Reason.SERVING: described(),
    Reason.IDLE: asleep,
    Reason.SCALED_TO_ZERO: lambda: settled(engine(), variant(replicas=0), **NONE),
    Reason.SUSPENDED: described(suspend=True),
    Reason.VALID: described(),
    Reason.SELECTED: described(),
    Reason.FEASIBLE: lambda: settled(engine(), variant(replicas=0), **NONE),
    Reason.SCHEDULED: described(),
    Reason.UPSTREAM: lambda: settled(upstream(), variant(on="elsewhere")),
    Reason.BUILTIN: described(),
    Reason.DOWNLOADED: fetching,
    Reason.DOWNLOAD_SKIPPED: lambda: [cached(downloadPolicy="Skip").steps()],
    Reason.FETCHED_AT_START: fetched_by_the_pod,
    Reason.IMAGE_VOLUME: image_volume,
    Reason.DOWNLOADING: fetching,
    Reason.STARTING: lambda: settled(engine(), variant(), **STARTING),
    Reason.ROLLED_OUT: described(),
    Reason.ROLLING_OUT: serving_then(replicas=2, readyReplicas=1, updatedReplicas=1),
    Reason.WAITING_FOR_TURN: in_line,
    Reason.ROLLOUT_PAUSED: in_line,
    Reason.VERIFIED: examined("Passed"),
    Reason.VERIFYING: examined(),
    Reason.NOT_REQUESTED: described(),
    Reason.HARDWARE_FOUND: on_node(PLAIN),
    Reason.INVALID_SPEC: described(env=[{"name": "ROUNDHOUSE_PORT", "value": "1"}]),
    Reason.UNSUPPORTED_VALUE: lambda: [Scene(engine(), variant(downloadPolicy="Sometimes")).status("kws-en")],
    Reason.NOT_YET_SUPPORTED: an_adapter,
    Reason.INVALID_POD_TEMPLATE: odd_engine(podTemplate={"spec": {"nodeSelector": {"a": "b"}}}),
    Reason.NAME_CONFLICT: names_and_circles,
    Reason.FORBIDDEN_ADDRESS: forbidden,
    Reason.NOT_SHAREABLE: sharing(variant("a", args=["--x"])),
    Reason.LOAD_FAILED: sharing(model("a"), model("b"), state="failed"),
    Reason.NOT_ACTIVE: sharing(model("a"), model("b"), serving=ONE_AT_A_TIME),
    Reason.NOTHING_TO_SERVE: sharing(),
    Reason.ENGINE_NOT_FOUND: described(engineRef={"name": "nobody"}),
    Reason.NO_MATCHING_ENGINE: described(engineRef=None, engineSelector={"stage": "Chat"}),
    Reason.ENGINE_NOT_ACCEPTED: odd_engine(podTemplate={"spec": {"nodeSelector": {"a": "b"}}}),
    Reason.WEIGHTS_MISSING: loader_says("WeightsMissing"),
    Reason.SOURCE_NOT_FOUND: loader_says("SourceNotFound"),
    Reason.SOURCE_UNREACHABLE: loader_says("SourceUnreachable"),
    Reason.UNAUTHORIZED: loader_says("Unauthorized"),
    Reason.DIGEST_MISMATCH: loader_says("DigestMismatch"),
    Reason.OUT_OF_SPACE: loader_says("OutOfSpace"),
    Reason.UNSAFE_FORMAT: loader_says("UnsafeFormat"),
    Reason.LOADER_FAILED: loader_says("SomethingNew"),
    Reason.STORAGE_CLASS_NOT_FOUND: volumes,
    Reason.VOLUME_PENDING: volumes,
    Reason.CACHE_NOT_SWEPT: lambda: [unmarkable().steps()],
    Reason.CACHE_REFUSED: cache_refused,
    Reason.SECRET_NOT_FOUND: credentials,
    Reason.CONFIG_MAP_NOT_FOUND: without_certificates,
    Reason.SECRET_UNREADABLE: credentials,
    Reason.SECRET_NOT_LABELLED: credentials,
    Reason.INSUFFICIENT_VRAM: on_node(PLAIN, minMemory="40G"),
    Reason.INSUFFICIENT_GPU: on_node(PLAIN, count=2),
    Reason.UNKNOWN_VRAM: on_node(UNLABELLED, minMemory="10G"),
    Reason.SHARED_GPU: on_node(labelled(sharing_strategy="time-slicing", replicas="4"), minMemory="10G"),
    Reason.MIXED_GPUS: on_node(many_cards(), minMemory="10G"),
    Reason.NO_GPU: on_node(node("n1")),
    Reason.INSUFFICIENT_RESOURCES: unscheduled("0/1 nodes are available: 1 Insufficient cpu."),
    Reason.NO_MATCHING_NODE: unscheduled("0/1 nodes: 1 node(s) didn't match Pod's node affinity"),
    Reason.UNSCHEDULABLE: unscheduled("0/1 nodes are available: 1 node(s) had no free ports."),
    Reason.DRA_UNAVAILABLE: claimed,
    Reason.QUOTA_EXCEEDED: refused_pods('pods "x" is forbidden: exceeded quota: gpus'),
    Reason.QUEUED: queued,
    Reason.POD_REFUSED: refused_pods("admission webhook says no"),
    Reason.IMAGE_PULL: container(**waiting("ErrImagePull")),
    Reason.CRASH_LOOP: container(**waiting("CrashLoopBackOff"), **ended(exitCode=3)),
    Reason.OOM_KILLED: container(**waiting("CrashLoopBackOff"), **OOM),
    Reason.CONFIG_ERROR: container(**waiting("CreateContainerConfigError", 'configmap "c" not found')),
    Reason.START_TIMEOUT: container(state={"running": {}}, **ended(exitCode=137)),
    Reason.ENDPOINT_LOST: lost,
    Reason.NO_ENDPOINTS: test_service.astray,
    Reason.VERIFICATION_FAILED: examined("Failed"),
    Reason.TEST_INPUT_NOT_FOUND: examined(problem=True),
    Reason.TEST_UNANSWERED: examined(silent=True),
    Reason.FEATURE_UNPROVEN: unproven,
    Reason.ENGINE_CHANGED: replaced_engine,
    Reason.ALIAS_CONFLICT: names_and_circles,
    Reason.FALLBACK_CYCLE: names_and_circles,
    Reason.FORMAT_NOT_LOADED: test_choices.unloadable,
    Reason.INTERNAL_ERROR: test_incidents.an_incident,
    Reason.BEING_DELETED: test_incidents.a_deletion,
    Reason.SCALER_CONFLICT: test_replicas.fought_over,
    Reason.LOAD_UNKNOWN: test_demand.unheard,
    Reason.NOT_AUTOSCALABLE: scaled_in_vain,
    Reason.FIELD_OWNED_BY_OTHER: held_by_another,
    Reason.UNRESOLVED_MODEL: names_and_circles,
}


def test_every_reason_has_its_case() -> None:
    missing = set(Reason) - LATER - set(CASES)
    assert not missing, f"no case produces {sorted(missing)}: add a row to CASES that does"
    assert not LATER & set(CASES), "what is produced belongs out of LATER"


@pytest.mark.parametrize("reason", CASES, ids=lambda reason: reason.value)
def test_the_reason_is_produced(reason: Reason) -> None:
    told = {one["reason"] for status in CASES[reason]() for one in status["conditions"]}
    assert reason.value in told, sorted(told)


@pytest.mark.parametrize("reason", Reason, ids=lambda reason: reason.value)
def test_the_reference_says_what_it_means_and_what_to_do(reason: Reason) -> None:
    assert reason.meaning.endswith(".")
    assert reason.advice.endswith(".")
    assert f"| `{reason.value}` | {reason.meaning} | {reason.advice} |" in REFERENCE.read_text()

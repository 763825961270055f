"""What goes wrong is said, with its reason, blocks nobody else, and is over when it is mended."""

from __future__ import annotations

import json
from typing import Any

from tests.cluster.operator.harness import Kubectl, Operator, own_events
from tests.unit.operator.samples import engine, variant


def image(kubectl: Kubectl, name: str = "kws-en") -> str:
    found: str = kubectl.get("deploy", name)["spec"]["template"]["spec"]["containers"][0]["image"]
    return found


def test_a_missing_engine_is_named_and_its_coming_is_seen(operator: Operator, kubectl: Kubectl) -> None:
    kubectl.apply(variant(), variant("other", on="there"), engine("there"))
    kubectl.wait("mv", "kws-en", "Ready", "False", "EngineNotFound")
    kubectl.wait("mv", "other", "Ready", "True")
    kubectl.apply(engine())
    kubectl.wait("mv", "kws-en", "Ready", "True", "Serving")


def test_pods_serve_on_when_their_engine_is_deleted(operator: Operator, kubectl: Kubectl) -> None:
    kubectl.apply(engine(), variant())
    kubectl.wait("mv", "kws-en", "Ready", "True")
    before = kubectl.get("deploy", "kws-en")
    kubectl("delete", "eng/kws")
    kubectl.wait("mv", "kws-en", "EngineSelected", "False", "EngineNotFound")
    kubectl.wait("mv", "kws-en", "Ready", "False", "EngineNotFound")
    assert kubectl.condition("mv", "kws-en", "Available")["status"] == "True"
    assert kubectl.condition("mv", "kws-en", "Degraded")["reason"] == "EngineNotFound"
    assert kubectl.get("mv", "kws-en")["status"]["backends"][0]["name"] == "kws-en"
    kubectl.patch("mv", "kws-en", {"spec": {"replicas": 2}})
    kubectl.wait("mv", "kws-en", "Ready", "False", "EngineNotFound")
    assert kubectl.get("deploy", "kws-en")["metadata"]["generation"] == before["metadata"]["generation"]
    # The same engine again is no other one: what it wants is what runs, but for the edit.
    kubectl.patch("mv", "kws-en", {"spec": {"replicas": 1}})
    kubectl.apply(engine())
    kubectl.wait("mv", "kws-en", "Ready", "True", "Serving")
    assert kubectl.get("deploy", "kws-en")["metadata"]["generation"] == before["metadata"]["generation"]
    assert not kubectl.condition("mv", "kws-en", "Degraded")


def test_another_engine_of_the_name_waits_for_the_variant(operator: Operator, kubectl: Kubectl) -> None:
    kubectl.apply(engine(), variant())
    kubectl.wait("mv", "kws-en", "Ready", "True")
    kubectl("delete", "eng/kws")
    kubectl.wait("mv", "kws-en", "EngineSelected", "False")
    kubectl.apply(engine(workload={"image": "example.org/other:9"}))
    kubectl.wait("mv", "kws-en", "UpToDate", "False", "EngineChanged")
    assert kubectl.condition("mv", "kws-en", "Ready")["status"] == "True"
    assert image(kubectl) == "example.org/kws:1"

    def grace_and_ipc() -> tuple[int, bool]:
        spec = kubectl.get("deploy", "kws-en")["spec"]["template"]["spec"]
        return spec["terminationGracePeriodSeconds"], spec.get("hostIPC", False)

    ours, _ = grace_and_ipc()
    mine = {"terminationGracePeriodSeconds": 1234, "hostIPC": True}
    kubectl.patch("deploy", "kws-en", {"spec": {"template": {"spec": mine}}})
    kubectl.wait_for(lambda: grace_and_ipc() == (1234, False), "what was added is taken back")
    operator.settle()
    assert grace_and_ipc() == (1234, False), "what was ours is not taken away: nobody knows what it was"
    kubectl("annotate", "mv", "kws-en", "roundhouse.dev/restartedAt=looked-at")
    kubectl.wait("mv", "kws-en", "UpToDate", "True")
    assert image(kubectl) == "example.org/other:9"
    assert grace_and_ipc() == (ours, False)


def test_what_a_person_changes_on_a_child_is_changed_back(operator: Operator, kubectl: Kubectl) -> None:
    kubectl.apply(engine(), variant())
    kubectl.wait("mv", "kws-en", "Ready", "True")
    kubectl("set", "image", "deploy/kws-en", "engine=example.org/mine:1")
    kubectl.wait_for(lambda: image(kubectl) == "example.org/kws:1", "the image is back")
    kubectl("scale", "deploy/kws-en", "--replicas=5")
    kubectl.wait_for(lambda: kubectl.get("deploy", "kws-en")["spec"]["replicas"] == 1, "one replica")
    kubectl("label", "svc/kws-en", "roundhouse.dev/managed-", "roundhouse.dev/variant-")
    kubectl("delete", "deploy/kws-en")
    kubectl.wait_for(lambda: kubectl.get("deploy", "kws-en"), "the Deployment is made again")
    kubectl.wait("mv", "kws-en", "Ready", "True")
    kubectl.wait_for(
        lambda: "roundhouse.dev/managed" in kubectl.get("svc", "kws-en")["metadata"]["labels"],
        "labels are back",
    )


def test_a_service_is_mended_while_its_engine_is_gone_or_another(
    operator: Operator, kubectl: Kubectl
) -> None:
    kubectl.apply(engine(), variant())
    kubectl.wait("mv", "kws-en", "Ready", "True")
    spec = kubectl.get("svc", "kws-en")["spec"]

    def mends() -> None:
        edit = [{"op": "replace", "path": "/spec/selector", "value": {"a": "b"}}]
        kubectl("patch", "svc", "kws-en", "--type=json", "-p", json.dumps(edit))
        kubectl.wait_for(
            lambda: kubectl.get("svc", "kws-en")["spec"]["selector"] == spec["selector"], "it is mended"
        )
        kubectl("delete", "svc/kws-en")
        kubectl.wait_for(
            lambda: kubectl.get("svc", "kws-en").get("spec", {}).get("ports") == spec["ports"], "it is back"
        )
        assert kubectl.condition("mv", "kws-en", "Available")["status"] == "True"
        assert image(kubectl) == "example.org/kws:1"

    kubectl("delete", "eng/kws")
    kubectl.wait("mv", "kws-en", "EngineSelected", "False", "EngineNotFound")
    mends()
    kubectl.apply(engine(workload={"image": "example.org/other:9"}, api={"port": 9999}))
    kubectl.wait("mv", "kws-en", "UpToDate", "False", "EngineChanged")
    mends()
    kubectl("annotate", "mv", "kws-en", "roundhouse.dev/restartedAt=looked-at")
    kubectl.wait("mv", "kws-en", "UpToDate", "True")
    assert image(kubectl) == "example.org/other:9"
    kubectl.wait_for(lambda: kubectl.get("svc", "kws-en")["spec"]["ports"][0]["port"] == 9999, "its port")


def test_a_field_that_another_manager_holds_is_left_to_it(operator: Operator, kubectl: Kubectl) -> None:
    kubectl.apply(engine(), variant())
    kubectl.wait("mv", "kws-en", "Ready", "True")
    held = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "kws-en"},
        "spec": {"replicas": 3},
    }
    kubectl(
        "apply",
        "--server-side",
        "--force-conflicts",
        "--field-manager=hpa",
        "-f",
        "-",
        input=json.dumps(held),
    )
    found = kubectl.wait("mv", "kws-en", "OwnershipConflict", "True", "FieldOwnedByOther")
    assert "'hpa' holds .spec.replicas" in found["message"]
    kubectl.patch("eng", "kws", {"spec": {"workload": {"image": "example.org/kws:2"}}})
    kubectl.wait_for(lambda: image(kubectl) == "example.org/kws:2", "the rest is applied")
    assert kubectl.get("deploy", "kws-en")["spec"]["replicas"] == 3
    del held["spec"]["replicas"]  # type: ignore[attr-defined]
    kubectl("apply", "--server-side", "--field-manager=hpa", "-f", "-", input=json.dumps(held))
    kubectl.wait_for(lambda: kubectl.get("deploy", "kws-en")["spec"]["replicas"] == 1, "one replica again")
    kubectl.wait_for(
        lambda: not kubectl.condition("mv", "kws-en", "OwnershipConflict"), "the condition is gone"
    )


def test_where_the_name_of_its_service_is_taken_no_pod_is_started(
    operator: Operator, kubectl: Kubectl
) -> None:
    kubectl("create", "service", "clusterip", "kws-en", "--tcp=80")
    kubectl.apply(engine(), variant())
    found = kubectl.wait("mv", "kws-en", "Ready", "False", "NameConflict")
    assert found["message"].startswith("Service 'kws-en' exists and belongs to somebody else")
    assert kubectl("get", "deploy", "-o", "name") == ""
    assert "serving" not in str(kubectl.condition("mv", "kws-en", "Degraded"))
    kubectl("delete", "svc/kws-en")
    kubectl.wait("mv", "kws-en", "Ready", "True", seconds=60)


def test_an_object_of_somebody_else_is_not_taken_over(operator: Operator, kubectl: Kubectl) -> None:
    kubectl("create", "deployment", "kws-en", "--image=example.org/theirs:1")
    kubectl.apply(engine(), variant())
    found = kubectl.wait("mv", "kws-en", "Ready", "False", "NameConflict")
    assert "'kws-en' exists and belongs to somebody else (manager 'kubectl-create')" in found["message"]
    assert kubectl.condition("mv", "kws-en", "Available")["message"] == "Nothing was started"
    assert image(kubectl) == "example.org/theirs:1"
    kubectl("delete", "deploy/kws-en")
    kubectl.wait("mv", "kws-en", "Ready", "True", seconds=60)
    assert image(kubectl) == "example.org/kws:1"


def test_a_name_has_one_owner_and_passes_on(operator: Operator, kubectl: Kubectl) -> None:
    kubectl.apply(engine(), variant("first", servedName="speech"))
    kubectl.wait("mv", "first", "Ready", "True")
    kubectl.apply(variant("a-second", servedName="speech", aliases=["quick"]))
    found = kubectl.wait("mv", "a-second", "Accepted", "False", "NameConflict")
    assert "ModelVariant" in found["message"]
    assert "/first" in found["message"]
    assert "publishedNames" not in kubectl.get("mv", "a-second")["status"]
    assert not kubectl.get("deploy", "a-second")
    # What is refused and serves nothing stands in nobody's way, though it is older.
    kubectl.apply(variant("third", servedName="other", aliases=["quick"]))
    kubectl.wait("mv", "third", "Ready", "True")
    assert kubectl.get("mv", "third")["status"]["publishedNames"] == ["other", "quick"]
    kubectl("delete", "mv/first")
    kubectl.wait("mv", "a-second", "Ready", "True")
    assert kubectl.condition("mv", "a-second", "Degraded")["reason"] == "AliasConflict"
    kubectl("delete", "mv/third")
    kubectl.wait_for(lambda: not kubectl.condition("mv", "a-second", "Degraded"), "the alias has passed on")
    assert kubectl.get("mv", "a-second")["status"]["publishedNames"] == ["speech", "quick"]


def test_a_pod_template_that_kubernetes_refuses_is_told_in_its_words(
    operator: Operator, kubectl: Kubectl
) -> None:
    kubectl.apply(engine(), variant())
    kubectl.wait("mv", "kws-en", "Ready", "True")
    wrong: dict[str, Any] = {"spec": {"volumes": [{"name": "v", "emptyDir": {"sizeLimit": "-1"}}]}}
    kubectl.patch("eng", "kws", {"spec": {"workload": {"podTemplate": wrong}}})
    found = kubectl.wait("mv", "kws-en", "Accepted", "False", "InvalidPodTemplate")
    assert "sizeLimit" in found["message"]
    assert kubectl.condition("mv", "kws-en", "Available")["status"] == "True"
    kubectl.patch(
        "eng", "kws", {"spec": {"workload": {"podTemplate": {"spec": {"nodeSelector": {"a": "b"}}}}}}
    )
    kubectl.wait("eng", "kws", "Accepted", "False", "InvalidPodTemplate")
    kubectl.wait("mv", "kws-en", "Ready", "False", "EngineNotAccepted")
    kubectl.patch("eng", "kws", {"spec": {"workload": {"podTemplate": None}}})
    kubectl.wait("eng", "kws", "Ready", "True")
    kubectl.wait("mv", "kws-en", "Ready", "True", "Serving")


def test_a_spec_that_cannot_be_read_keeps_what_runs(
    operator: Operator, kubectl: Kubectl, looser_variants: None
) -> None:
    kubectl.apply(engine(), variant())
    kubectl.wait("mv", "kws-en", "Ready", "True")
    kubectl.patch("mv", "kws-en", {"spec": {"downloadPolicy": "Sometimes"}})
    found = kubectl.wait("mv", "kws-en", "Accepted", "False", "UnsupportedValue")
    assert "spec.downloadPolicy" in found["message"]
    status = kubectl.get("mv", "kws-en")["status"]
    assert status["publishedNames"] == ["kws-en"]
    assert status["backends"][0]["name"] == "kws-en"
    assert kubectl.condition("mv", "kws-en", "Available")["status"] == "True"
    kubectl.patch("mv", "kws-en", {"spec": {"downloadPolicy": "Auto"}})
    kubectl.wait("mv", "kws-en", "Ready", "True", "Serving")


def test_a_quota_is_told_in_its_words(operator: Operator, kubectl: Kubectl) -> None:
    kubectl.limit("none", pods="0")
    kubectl.apply(engine(), variant())
    found = kubectl.wait("mv", "kws-en", "Ready", "False", "QuotaExceeded")
    assert "exceeded quota: none" in found["message"]
    kubectl("delete", "quota/none")
    kubectl("rollout", "restart", "deploy/kws-en")  # else the controller tries again minutes later
    kubectl.wait("mv", "kws-en", "Ready", "True", seconds=60)


def test_the_cause_of_a_refusal_is_that_of_the_newest_pods(operator: Operator, kubectl: Kubectl) -> None:
    """The Deployment itself goes on telling of the first."""
    kubectl.limit("none", **{"pods": "0", "limits.memory": "2Gi"})
    kubectl.apply(engine(), variant())
    found = kubectl.wait("mv", "kws-en", "Ready", "False", "QuotaExceeded")
    assert "must specify limits.memory" in found["message"]
    assert "hardware.resources" in found["message"]
    limits = {"limits": {"memory": "1Gi"}}
    kubectl.patch("eng", "kws", {"spec": {"hardware": {"resources": limits}}})

    def told() -> bool:
        message = kubectl.condition("mv", "kws-en", "Ready")["message"]
        return "exceeded quota: none" in message and "must specify" not in message

    kubectl.wait_for(told, "the newest cause", 120)


def test_hardware_that_is_not_there_is_told(operator: Operator, kubectl: Kubectl) -> None:
    needs = {"gpu": {"mode": "Required", "allocation": {"type": "DevicePlugin"}}}
    needs["gpu"]["allocation"]["devicePlugin"] = {"resourceName": "example.org/tpu"}  # type: ignore[index]
    kubectl.apply(engine(hardware=needs), variant())
    kubectl.wait("eng", "kws", "HardwareAvailable", "False", "NoGPU")
    found = kubectl.wait("mv", "kws-en", "Ready", "False", "NoGPU")
    assert "Insufficient example.org/tpu" in found["message"]

    def told() -> int:
        """Behind the pass that it tells of."""
        ours = (one for one in own_events(kubectl) if one["regarding"]["kind"] == "ModelVariant")
        return sum(one["reason"] == "NoGPU" for one in ours)

    assert kubectl.wait_for(told, "the event is written") == 1
    kubectl.patch("eng", "kws", {"spec": {"hardware": {"gpu": {"mode": "None", "allocation": None}}}})
    kubectl.wait("mv", "kws-en", "Ready", "True", seconds=60)


TPU = {"type": "DevicePlugin", "devicePlugin": {"resourceName": "example.org/tpu"}}
"""Which no node has, whatever nodes with GPUs other tests have left."""
SLICES = {"gpu": {"mode": "Required", "minMemory": "400G", "allocation": TPU}}
PRIVATE = {
    "type": "HuggingFace",
    "huggingFace": {"repo": "acme/kws-en", "tokenSecretRef": {"name": "hf", "key": "token"}},
}
NOWHERE = {"type": "PVC", "pvc": {"storageClassName": "nowhere", "size": "1Gi"}}
WRONG = {
    "impossible": ("Ready", "False", "NoGPU"),
    "contradictory": ("Accepted", "False", "InvalidSpec"),
    "secretless": ("WeightsReady", "False", "SecretNotFound"),
    "classless": ("WeightsReady", "False", "StorageClassNotFound"),
    "choosy": ("EngineSelected", "False", "NoMatchingEngine"),
    "round": ("Degraded", "True", "FallbackCycle"),
    "about": ("Degraded", "True", "FallbackCycle"),
    "second": ("Accepted", "False", "NameConflict"),
}


def test_whatever_is_wrong_has_its_reason_and_blocks_nobody_else(
    operator: Operator, kubectl: Kubectl
) -> None:
    """All of it at once, and what is right comes last."""
    kubectl.apply(
        engine("huge", hardware=SLICES),
        engine("three", scaling={"minReplicas": 3}),
        engine("cached", cache=NOWHERE),
        engine(),
        variant("impossible", on="huge"),
        variant("contradictory", on="three", scaling={"mode": "Demand", "maxReplicas": 2}),
        variant("secretless", source=PRIVATE),
        variant("classless", on="cached", source={**PRIVATE, "huggingFace": {"repo": "acme/kws-en"}}),
        variant("choosy", engineRef=None, engineSelector={"stage": "Speak"}),
        variant("round", fallbacks=[{"model": "about"}]),
        variant("about", fallbacks=[{"model": "round"}]),
        variant("first", servedName="speech"),
    )
    kubectl.wait("mv", "first", "Ready", "True", seconds=60)
    kubectl.apply(
        variant("second", servedName="speech"),
        variant("several", engineRef=None, engineSelector={"stage": "Transcribe"}),
        variant("right"),
    )
    for name, (kind, status, reason) in WRONG.items():
        kubectl.wait("mv", name, kind, status, reason, seconds=60)
    for name in ("right", "several", "first", "round", "about"):
        kubectl.wait("mv", name, "Ready", "True", seconds=60)

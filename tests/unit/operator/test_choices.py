"""Which engine, which nodes, and what an engine and a variant are together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from roundhouse_api.model import Manifest
from roundhouse_api.v1alpha1 import EngineSpec, Hardware, ModelVariantSpec, Source
from roundhouse_operator.core import effective, placement
from roundhouse_operator.core.support import refuse_engine
from tests.unit.operator.samples import engine, upstream, variant
from tests.unit.operator.worlds import Scene, conditions, fleet_of, message, node

SELECTOR = {
    "stage": "Transcribe",
    "matchLabels": {"team": "a"},
    "features": ["Prompt"],
    "interfaces": ["Batch"],
}
FIT = {"capabilities": {"features": ["Prompt"]}, "formats": ["ONNX"]}


def labelled(name: str, created: str = "2026-01-01T00:00:00Z", **spec: Any) -> Manifest:
    one = engine(name, **{**FIT, **spec})
    return {**one, "metadata": {**one["metadata"], "labels": {"team": "a"}, "creationTimestamp": created}}


def selecting() -> Manifest:
    return variant(engineRef=None, engineSelector=SELECTOR, source={"type": "Builtin", "format": "ONNX"})


def test_the_oldest_engine_that_fits_is_chosen_and_all_are_told() -> None:
    scene = Scene(
        node("n1"),
        labelled("younger", "2026-02-01T00:00:00Z"),
        labelled("older"),
        engine("unlabelled", **FIT),
        labelled("speaks", stage="Speak"),
        labelled("loads-other", formats=["GGUF"]),
        labelled("lacks", capabilities={}),
        labelled("streams", interfaces=["Realtime"]),
        selecting(),
    )
    status = scene.settle("kws-en")
    assert status["engine"]["name"] == "older"
    told = [(one["engine"], one["verdict"], one["reason"]) for one in status["selection"]["candidates"]]
    assert told == [
        ("older", "Chosen", "OldestMatch"),
        ("younger", "Eligible", "AnotherChosen"),
        ("lacks", "Rejected", "FeatureMissing"),
        ("loads-other", "Rejected", "FormatNotLoaded"),
        ("speaks", "Rejected", "StageDiffers"),
        ("streams", "Rejected", "InterfaceMissing"),
        ("unlabelled", "Rejected", "LabelMissing"),
    ]


def test_a_choice_stands_when_an_older_engine_comes() -> None:
    scene = Scene(node("n1"), labelled("first", "2026-02-01T00:00:00Z"), selecting())
    scene.settle("kws-en")
    scene.put(labelled("before", "2025-01-01T00:00:00Z"))
    status = scene.settle("kws-en")
    assert status["engine"]["name"] == "first"
    assert status["selection"]["candidates"][0]["reason"] == "Incumbent"


def test_none_that_fits_is_told_with_reasons() -> None:
    scene = Scene(node("n1"), labelled("speaks", stage="Speak"), selecting())
    status = scene.settle("kws-en")
    assert conditions(status)["EngineSelected"] == ("False", "NoMatchingEngine")
    assert status["selection"]["candidates"][0]["message"] == "its stage is Speak"


@dataclass(frozen=True)
class Case:
    id: str
    reason: str
    node: Manifest
    obstacle: str | None


T4 = {"nvidia_com__gpu_memory": "15109", "nvidia_com__gpu_product": "Tesla-T4"}
NEEDS = {
    "gpu": {"mode": "Required", "minMemory": "15G", "products": ["Tesla-T4"], "count": 2},
    "tolerations": [{"key": "gpu", "operator": "Exists"}],
}
NODES = (
    Case("fits", "an old T4 says 15109 MiB, and 15G are 14306", node("a", 2, **T4), None),
    Case("few", "one card where two are asked for", node("a", 1, **T4), "InsufficientGPU"),
    Case(
        "small", "less memory", node("a", 2, **{**T4, "nvidia_com__gpu_memory": "8192"}), "InsufficientVRAM"
    ),
    Case("product", "another card", node("a", 2, **{**T4, "nvidia_com__gpu_product": "L4"}), "NoGPU"),
    Case("none", "no card", node("a"), "NoGPU"),
    Case(
        "tainted",
        "a taint that is not tolerated",
        {**node("a", 2, **T4), "spec": {"taints": [{"key": "x", "effect": "NoSchedule"}]}},
        "NoMatchingNode",
    ),
    Case(
        "tolerated",
        "one that is",
        {**node("a", 2, **T4), "spec": {"taints": [{"key": "gpu", "effect": "NoSchedule"}]}},
        None,
    ),
    Case(
        "preferred",
        "one that only advises",
        {**node("a", 2, **T4), "spec": {"taints": [{"key": "x", "effect": "PreferNoSchedule"}]}},
        None,
    ),
    Case(
        "cordoned",
        "it takes no pods",
        {**node("a", 2, **T4), "spec": {"unschedulable": True}},
        "NoMatchingNode",
    ),
    Case(
        "sick",
        "health comes and goes and is not looked at",
        {
            **node("a", 2, **T4),
            "spec": {"taints": [{"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}]},
        },
        None,
    ),
)


@pytest.mark.parametrize("case", NODES, ids=lambda case: case.id)
def test_nodes(case: Case) -> None:
    fleet = fleet_of(case.node)
    found = fleet.survey(placement.place(placement.state(Hardware.model_validate(NEEDS)), fleet))
    assert [reason.value for reason, _, _ in found.rejected] == ([case.obstacle] if case.obstacle else []), (
        case.reason
    )
    assert found.fitting == (case.obstacle is None)


def test_the_nearest_obstacle_is_told() -> None:
    fleet = fleet_of(node("a"), node("b", 2, **{**T4, "nvidia_com__gpu_memory": "99"}))
    need = placement.place(placement.state(Hardware.model_validate(NEEDS)), fleet)
    found = fleet.survey(need)
    assert found.obstacle == "InsufficientVRAM"
    assert placement.explain(need, found) == (
        "needs 2 × nvidia.com/gpu with 14306 MiB each (15G) of Tesla-T4; "
        "the largest that is too small has 99 MiB, 14207 MiB less than needed; "
        "0 nodes fit; not: 1 InsufficientVRAM (as b), 1 NoGPU (as a)"
    )


def unloadable() -> Iterator[Manifest]:
    source = {"type": "Builtin", "format": "Safetensors"}
    yield Scene(node("n1"), engine(formats=["GGUF"]), variant(source=source)).settle("kws-en")


def test_a_format_that_the_named_engine_does_not_load_is_told() -> None:
    [status] = unloadable()
    assert conditions(status)["Degraded"] == ("True", "FormatNotLoaded")
    assert "Safetensors" in message(status, "Degraded")
    assert "it loads GGUF" in message(status, "Degraded")
    fits = Scene(node("n1"), engine(formats=["GGUF"]), variant(source={"type": "Builtin", "format": "GGUF"}))
    assert "Degraded" not in conditions(fits.settle("kws-en"))


def _carded(name: str, count: int, product: str) -> Manifest:
    return node(name, count, nvidia_com__gpu_memory="40536", nvidia_com__gpu_product=product)


CLUSTER = (_carded("a", 8, "A100"), _carded("b", 2, "Tesla-T4"), node("c"), node("d", disk="hdd"))


@pytest.mark.parametrize(
    ("hardware", "reason", "words"),
    [
        ({"gpu": {"count": 16}}, "InsufficientGPU", "the most on one node is 8: lower `gpu.count`"),
        (
            {"gpu": {"products": ["Tesla-T5"]}},
            "NoGPU",
            "no node is of Tesla-T5; there are A100, Tesla-T4",
        ),
        (
            {"gpu": {"allocation": {"type": "MIG", "mig": {"profile": "9g.99gb"}}}},
            "NoGPU",
            "no node has that; there are nvidia.com/gpu",
        ),
        ({"nodeSelector": {"disk": "nvme"}}, "NoMatchingNode", "; 4 lack disk=nvme;"),
    ],
)
def test_what_no_waiting_helps_is_told_with_what_there_is(
    hardware: Manifest, reason: str, words: str
) -> None:
    gpu = {"gpu": {"mode": "Required", **hardware["gpu"]}} if "gpu" in hardware else {}
    fleet = fleet_of(*CLUSTER)
    need = placement.place(placement.state(Hardware.model_validate({**hardware, **gpu})), fleet)
    found = fleet.survey(need)
    assert found.obstacle == reason
    assert words in placement.explain(need, found)


def test_what_keeps_nodes_out_is_counted_by_rule() -> None:
    tainted = node("t", disk="nvme")
    tainted["spec"] = {"taints": [{"key": "team", "value": "x", "effect": "NoSchedule"}]}
    cordoned = node("u", disk="nvme")
    cordoned["spec"] = {"unschedulable": True}
    fleet = fleet_of(tainted, cordoned, *CLUSTER)
    need = placement.place(
        placement.state(Hardware.model_validate({"nodeSelector": {"disk": "nvme"}})), fleet
    )
    words = placement.explain(need, fleet.survey(need))
    assert "; 4 lack disk=nvme, 1 are cordoned, 1 have the taint team=x:NoSchedule; 0 nodes fit" in words


@pytest.mark.parametrize(
    ("source", "name"),
    [
        (
            {"type": "HuggingFace", "huggingFace": {"repo": "Systran/faster-whisper-base"}},
            "Systran/faster-whisper-base",
        ),
        ({"type": "S3", "s3": {"bucket": "b", "prefix": "models/x/"}}, "x"),
        ({"type": "GCS", "gcs": {"bucket": "b"}}, "b"),
        ({"type": "OCI", "oci": {"image": "r.example.org/models/x:1@sha256:0"}}, "x:1"),
        (
            {"type": "HTTP", "http": {"url": "https://x.example.org/a/m.gguf?v=1", "sha256": "a" * 64}},
            "m.gguf",
        ),
        ({"type": "PVC", "pvc": {"claimName": "c"}}, "c"),
        ({"type": "Builtin"}, None),
    ],
)
def test_what_a_source_calls_the_model(source: Manifest, name: str | None) -> None:
    assert effective.source_name(Source.model_validate(source)) == name


@pytest.mark.req("S1-26", "S1-28")
def test_clients_are_told_stage_and_version_of_the_engine() -> None:
    status = Scene(node("n1"), engine(version="2.1.0"), variant()).settle("kws-en")
    assert (status["effective"]["stage"], status["effective"]["version"]) == ("Transcribe", "2.1.0")


def test_a_variant_overrides_field_by_field() -> None:
    hardware = {
        "gpu": {"mode": "Required", "minMemory": "10G", "allocation": {"type": "Auto"}},
        "nodeSelector": {"a": "b"},
    }
    base = engine(
        hardware=hardware, capabilities={"languages": ["*"], "languageCount": 99, "streaming": "None"}
    )
    over = variant(
        hardware={"gpu": {"minMemory": "20G"}, "nodeSelector": {"c": "d"}}, capabilities={"languages": ["en"]}
    )
    merged = Scene(base, over).decide("kws-en").merged
    assert merged
    assert merged.hardware.gpu
    assert merged.hardware.gpu.min_memory == "20G"
    assert merged.hardware.gpu.mode == "Required"
    assert merged.hardware.node_selector == {"c": "d"}
    assert merged.capabilities
    assert merged.capabilities.languages == ("en",)
    assert merged.capabilities.language_count is None
    assert merged.capabilities.streaming == "None"


def test_an_allocation_is_one_value() -> None:
    plugin = {"type": "DevicePlugin", "devicePlugin": {"resourceName": "amd.com/gpu"}}
    base = engine(hardware={"gpu": {"mode": "Required", "allocation": plugin}})
    merged = Scene(base, variant(hardware={"gpu": {"allocation": {"type": "Auto"}}})).decide("kws-en").merged
    assert merged
    assert merged.gpu.allocation
    assert merged.gpu.allocation.device_plugin is None


@pytest.mark.parametrize(
    ("manifest", "reason", "words"),
    [
        (
            engine(hardware={"gpu": {"mode": "None"}, "resources": {"limits": {"nvidia.com/gpu": "1"}}}),
            "InvalidSpec",
            "devices belong to spec.hardware.gpu",
        ),
        (
            engine(workload={"image": "x", "podTemplate": {"spec": {"affinity": {}}}}),
            "InvalidPodTemplate",
            "use hardware.affinity",
        ),
        (upstream("kws", "http://169.254.169.254/latest"), "ForbiddenAddress", "link-local"),
        (upstream("kws", "http://127.0.0.1:1/v1"), "ForbiddenAddress", "loopback"),
        (upstream("kws", "https://kubernetes.default.svc/v1"), "ForbiddenAddress", "the API server"),
    ],
)
def test_engines_that_are_not_accepted(manifest: Manifest, reason: str, words: str) -> None:
    scene = Scene(node("n1"), manifest, variant())
    status = scene.settle("kws-en")
    assert conditions(status)["EngineSelected"] == ("False", "EngineNotAccepted")
    assert reason in message(status, "EngineSelected")
    assert words in message(status, "EngineSelected")
    assert scene.decide("kws-en").plan.empty


@pytest.mark.parametrize(
    "host",
    [
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:a9fe:a9fe]",
        "0",
        "[::]",
        "0xa9fea9fe",
        "[fe80::1]",
        "224.0.0.1",
        "[ff02::1]",
        "localhost.",
        "10.96.1",
        "[::ffff:10.96.0.1]",
    ],
)
def test_an_address_is_forbidden_however_it_is_written(host: str) -> None:
    spec = EngineSpec.model_validate(upstream(url=f"http://{host}:8081/v1")["spec"])
    refused = refuse_engine(spec, api_hosts=("10.96.0.1",))
    assert refused
    assert refused.reason == "ForbiddenAddress"


@pytest.mark.parametrize(
    "host", ["10.0.0.7", "[2001:db8::1]", "speech.example.org", "127.example.org", "7f.1"]
)
def test_other_addresses_and_names_are_not(host: str) -> None:
    spec = EngineSpec.model_validate(upstream(url=f"http://{host}:8081/v1")["spec"])
    assert refuse_engine(spec, api_hosts=("10.96.0.1", "")) is None


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"env": [{"name": "X", "value": "1"}]}, "spec.env: an Upstream engine has no pods"),
        ({"hardware": {"nodeSelector": {"a": "b"}}}, "spec.hardware: an Upstream engine has no pods"),
    ],
)
def test_an_upstream_takes_no_pod_fields(spec: Manifest, words: str) -> None:
    status = Scene(upstream("kws"), variant(**spec)).settle("kws-en")
    assert conditions(status)["Accepted"] == ("False", "InvalidSpec")
    assert words in message(status, "Accepted")


def test_a_request_above_the_limit_of_the_other_is_told_before_any_pod_is_made() -> None:
    limited = engine(hardware={"gpu": {"mode": "None"}, "resources": {"limits": {"memory": "2G", "cpu": 1}}})
    asking = variant(hardware={"resources": {"requests": {"memory": "2Gi", "cpu": "1000m"}}})
    status = Scene(node("n1"), limited, asking).settle("kws-en")
    assert conditions(status)["Accepted"] == ("False", "InvalidSpec")
    assert message(status, "Accepted") == (
        "spec.hardware.resources: memory 2Gi is requested, above the limit of 2G, of which one is the "
        "engine's: set both on the variant"
    )


def test_the_least_a_variant_says_is_valid() -> None:
    assert ModelVariantSpec.model_validate(variant()["spec"]).replicas == 1

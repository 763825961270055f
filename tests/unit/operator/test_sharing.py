"""Several variants in the pods of one engine: who goes where, and that nobody is dropped on the way."""

from __future__ import annotations

from typing import Any

import pytest

from roundhouse_api.model import Manifest
from roundhouse_operator.core.outcome import DONE
from roundhouse_operator.core.status.shared import told_of
from tests.unit.operator.samples import engine, variant
from tests.unit.operator.sharing import SHARED, SharedScene, gpu_node, shared_engine
from tests.unit.operator.worlds import conditions, message


def model(name: str, mib: int = 1000, **spec: Any) -> Manifest:
    """A variant that needs so much memory, under a model name of its own."""
    hardware = {"gpu": {"minMemory": f"{mib}Mi"}}
    return variant(name, **{"engineModelName": name, "hardware": hardware, **spec})


def changed(manifest: Manifest) -> Manifest:
    manifest["metadata"]["generation"] = 2
    return manifest


def scene(*variants: Manifest, **spec: Any) -> SharedScene:
    made = SharedScene(shared_engine(**spec), gpu_node(), *variants)
    made.come_to_rest()
    return made


def test_variants_share_a_pod_that_their_engine_owns() -> None:
    shared = scene(model("a"), model("b"), model("c"))
    assert shared.listed() == {"kws-0": {"a", "b", "c"}}
    [pod] = shared.pods
    assert all(shared.serving(name) == {pod} for name in "abc")
    assert shared.act() is False, "a second pass over the same state writes nothing"


def test_a_variant_that_comes_starts_no_pod_anew() -> None:
    shared = scene(model("a"))
    [pod] = shared.pods
    shared.put(model("b"))
    shared.come_to_rest()
    assert list(shared.pods) == [pod]
    assert shared.serving("b") == {pod}


def test_a_variant_answers_only_once_its_model_does() -> None:
    shared = SharedScene(shared_engine(), gpu_node(), model("a"), model("b"))
    shared.states["b"] = "loading"
    shared.come_to_rest()
    [pod] = shared.pods
    assert shared.serving("a") == {pod}
    assert shared.serving("b") == set()
    told = shared.tell("b")
    assert conditions(told)["Available"] == ("False", "Starting")
    assert conditions(told)["UpToDate"] == ("False", "RollingOut")
    assert conditions(shared.tell("a"))["Ready"] == ("True", "Serving")
    shared.states["b"] = "ready"
    shared.ask()
    shared.come_to_rest()
    assert conditions(shared.tell("b"))["Ready"] == ("True", "Serving")


def test_what_leaves_loses_its_requests_first() -> None:
    shared = scene(model("a"), model("b"))
    shared.remove("b")
    assert shared.act()
    assert shared.serving("b") == set()
    assert shared.listed() == {"kws-0": {"a", "b"}}, "it is still there for requests that are on their way"
    shared.come_to_rest()
    assert shared.listed() == {"kws-0": {"a"}}


def test_the_last_one_takes_its_pod_along() -> None:
    shared = scene(model("a"))
    shared.remove("a")
    shared.come_to_rest()
    assert shared.pods == {}


def test_two_pods_become_one_without_anybody_being_dropped() -> None:
    shared = scene(model("a", 14_000), model("b", 14_000))
    assert shared.listed() == {"kws-0": {"a"}, "kws-1": {"b"}}
    shared.put(changed(model("b", 8_000)))
    served = True
    for _ in range(12):
        shared.act()
        served = served and bool(shared.serving("a")) and bool(shared.serving("b"))
        shared.ask()
    assert served
    assert list(shared.listed().values()).count({"a", "b"}) == 1
    assert len(shared.pods) == 1
    assert shared.act() is False


def test_a_move_waits_until_the_model_answers_in_its_new_place() -> None:
    shared = scene(model("a", 14_000), model("b", 8_000), model("c", 14_000))
    assert shared.listed() == {"kws-0": {"a", "b"}, "kws-1": {"c"}}
    [old], [new] = shared.serving("b"), shared.serving("c")
    shared.states[f"{new}/b"] = "loading"
    shared.put(changed(model("a", 20_000)))  # for both there is no room any more
    shared.come_to_rest()
    assert shared.listed() == {"kws-0": {"a", "b"}, "kws-1": {"b", "c"}}
    assert shared.serving("b") == {old}
    shared.states[f"{new}/b"] = "failed"
    shared.ask()
    shared.come_to_rest()
    assert shared.serving("b") == {old}
    assert conditions(shared.tell("b"))["Ready"] == ("True", "Serving")
    assert conditions(shared.tell("b"))["Degraded"] == ("True", "LoadFailed")
    shared.states[f"{new}/b"] = "ready"
    shared.ask()
    shared.come_to_rest()
    assert shared.listed() == {"kws-0": {"a"}, "kws-1": {"b", "c"}}
    assert shared.serving("b") == {new}


def test_copies_are_in_different_pods() -> None:
    shared = scene(model("a", replicas=2), model("b"))
    assert sorted(map(sorted, shared.listed().values())) == [["a"], ["a", "b"]]
    assert len(shared.serving("a")) == 2


def test_max_variants_per_replica_is_kept() -> None:
    shared = scene(
        *(model(name) for name in "abc"),
        serving={"type": "Shared", "shared": {"maxVariantsPerReplica": 2}},
    )
    assert sorted(map(sorted, shared.listed().values())) == [["a", "b"], ["c"]]


def test_on_the_cpu_weights_count_against_the_memory_that_is_requested() -> None:
    hardware = {"gpu": {"mode": "None"}, "resources": {"requests": {"memory": "4Gi"}}}
    sized = {"type": "Builtin", "size": "3Gi"}
    shared = scene(
        variant("a", engineModelName="a", source=sized),
        variant("b", engineModelName="b", source=sized),
        hardware=hardware,
    )
    assert sorted(map(sorted, shared.listed().values())) == [["a"], ["b"]]


def test_a_load_that_fails_is_that_variants_alone() -> None:
    shared = SharedScene(shared_engine(), gpu_node(), model("a"), model("b"))
    shared.states["b"] = "failed"
    shared.come_to_rest()
    told = shared.tell("b")
    assert conditions(told)["Ready"] == ("False", "LoadFailed")
    assert message(told, "Ready").endswith("no such file")
    assert conditions(told)["Scheduled"] == ("True", "Scheduled")
    assert conditions(shared.tell("a"))["Ready"] == ("True", "Serving")


def test_a_variant_larger_than_any_gpu_is_told_so() -> None:
    shared = scene(model("a", 30_000), model("b"))
    told = shared.tell("a")
    assert conditions(told)["Scheduled"] == ("False", "InsufficientVRAM")
    assert "30000 MiB" in message(told, "Scheduled")
    assert conditions(shared.tell("b"))["Ready"] == ("True", "Serving")


def test_measured_memory_counts_where_it_is_more_than_was_stated() -> None:
    shared = scene(model("a", 10_000), model("b", 10_000))
    assert shared.listed() == {"kws-0": {"a", "b"}}
    status = shared.tell("a")
    status["placement"]["measuredPeakMemory"] = "16000Mi"
    shared.write("a", status)
    shared.come_to_rest()
    assert sorted(map(sorted, shared.listed().values())) == [["a"], ["b"]]


def test_a_crashed_engine_gets_requests_again_when_it_has_loaded() -> None:
    shared = scene(model("a"))
    [pod] = shared.pods
    shared.states["a"] = "loading"
    shared.crash(pod)
    assert shared.serving("a") == set()
    shared.ask()
    shared.act()
    assert shared.serving("a") == set()
    shared.states["a"] = "ready"
    shared.ask()
    shared.come_to_rest()
    assert shared.serving("a") == {pod}


def test_suspended_and_scaled_to_zero_are_not_loaded() -> None:
    shared = scene(model("a"), model("b", suspend=True), model("c", replicas=0))
    assert shared.listed() == {"kws-0": {"a"}}
    assert conditions(shared.tell("b"))["Available"] == ("False", "Suspended")
    assert conditions(shared.tell("c"))["Available"] == ("False", "ScaledToZero")
    assert conditions(shared.tell("c"))["Scheduled"] == ("True", "Feasible")


def test_a_variant_that_becomes_invalid_runs_on() -> None:
    shared = scene(model("a"))
    shared.put(changed(model("a", args=["--more"])))
    shared.come_to_rest()
    assert shared.listed() == {"kws-0": {"a"}}
    told = shared.tell("a")
    assert conditions(told)["Accepted"] == ("False", "NotShareable")
    assert conditions(told)["Available"] == ("True", "Serving")


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"args": ["--x"]}, "spec.args"),
        ({"env": [{"name": "X", "value": "1"}]}, "spec.env"),
        ({"hardware": {"nodeSelector": {"a": "b"}}}, "spec.hardware.nodeSelector"),
        ({"hardware": {"gpu": {"products": ["A100"]}}}, "spec.hardware.gpu.products"),
        ({"hardware": {"resources": {"requests": {"cpu": "1"}}}}, "spec.hardware.resources"),
        ({"rollout": {"drainTimeoutSeconds": 5}}, "spec.rollout.drainTimeoutSeconds"),
        ({"source": {"type": "PVC", "pvc": {"claimName": "x"}}}, "spec.source.type PVC"),
    ],
)
def test_what_cannot_differ_in_one_pod_is_not_accepted(spec: Manifest, field: str) -> None:
    shared = scene(variant("a", **spec))
    told = shared.tell("a")
    assert conditions(told)["Accepted"] == ("False", "NotShareable")
    assert message(told, "Accepted").startswith(field)
    assert shared.listed() == {}


def test_an_image_of_another_dialect_cannot_share() -> None:
    shared = SharedScene(shared_engine(api={"dialect": "VLLM"}), gpu_node(), variant("a"))
    assert shared.act() is False
    assert conditions(shared.tell("a"))["EngineSelected"] == ("False", "EngineNotAccepted")


def test_no_autoscaler_reads_pods_that_hold_others_too() -> None:
    assert "selector" not in scene(model("a")).tell("a")


def test_a_change_of_the_engine_reaches_its_pods_one_after_another() -> None:
    shared = scene(model("a", 20_000), model("b", 20_000), model("c", 20_000))
    before = set(shared.pods)
    shared.put(changed(shared_engine(version="2.0.0", workload={"image": "example.org/kws:2"})))
    seen = []
    for _ in range(12):
        shared.act()
        seen.append(len(before & set(shared.pods)))
        if len(seen) > 1:
            assert seen[-2] - seen[-1] <= 1
        shared.ask()
    assert seen[-1] == 0
    assert all(shared.serving(name) for name in "abc")


def test_a_change_of_the_engine_stops_at_the_first_pod_that_fails() -> None:
    shared = scene(model("a", 20_000), model("b", 20_000))
    before = set(shared.pods)
    shared.put(changed(shared_engine(version="2.0.0", workload={"image": "example.org/kws:2"})))
    shared.act()
    for _ in range(5):
        shared.act()  # the new pod's engine never says anything
    assert len(set(shared.pods) - before) == 1
    assert all(shared.serving(name) for name in "ab"), "there is a GPU for it beside the old one's"


def on_three_gpus(*full: str) -> SharedScene:
    """Three pods, of which those that are `full` found no GPU."""
    node = gpu_node(gpus=3 - len(full))
    shared = SharedScene(shared_engine(), node, *(model(name, 20_000) for name in "abc"))
    shared.full |= {*full}
    shared.come_to_rest()
    return shared


def image(shared: SharedScene, deployment: str) -> str:
    pods = (pod for name, pod in shared.pods.items() if name.startswith(f"{deployment}-"))
    [container] = next(pods)["spec"].get("containers") or [{"image": ""}]
    return str(container["image"])


def test_a_pod_without_a_gpu_keeps_no_change_from_the_others() -> None:
    shared = on_three_gpus("kws-2")
    assert [bool(shared.serving(name)) for name in "abc"] == [True, True, False]
    shared.put(changed(shared_engine(version="2.0.0", workload={"image": "example.org/kws:2"})))
    serving = []
    for _ in range(12):
        shared.act()
        serving.append(sum(bool(shared.serving(name)) for name in "abc"))
        shared.ask()
    assert min(serving) == 1, "one after another"
    assert [image(shared, f"kws-{number}") for number in (0, 1)] == ["example.org/kws:2"] * 2
    assert [bool(shared.serving(name)) for name in "abc"] == [True, True, False]


def test_a_pod_that_served_and_finds_no_gpu_any_more_stops_the_change_and_is_named() -> None:
    shared = on_three_gpus()
    shared.full.add("kws-0")
    shared.put(changed(shared_engine(version="2.0.0", workload={"image": "example.org/kws:2"})))
    for _ in range(6):
        shared.act()
        shared.ask()
    assert [image(shared, f"kws-{number}") for number in (1, 2)] == ["example.org/kws:1"] * 2
    held_up = shared.arrange().held_up
    assert held_up
    assert held_up.reason == "InsufficientGPU"
    assert "goes no further than pod 'kws-0'" in held_up.message
    engine = shared.cache.resource(SHARED)
    assert engine
    told = told_of(engine, shared.arrange(), DONE)
    assert (held_up.reason, held_up.message) in told.degraded


def test_an_exclusive_engine_loads_one() -> None:
    shared = scene(
        model("a"), model("b"), serving={"type": "Exclusive", "exclusive": {"activeVariantName": "a"}}
    )
    assert shared.listed() == {"kws-0": {"a"}}
    assert shared.arrange().loaded == "a"
    assert conditions(shared.tell("a"))["Ready"] == ("True", "Serving")
    told = shared.tell("b")
    assert conditions(told)["Ready"] == ("False", "NotActive")
    assert conditions(told)["Scheduled"] == ("True", "Feasible")


@pytest.mark.req("S3-19")
def test_an_exclusive_engine_switches_in_the_same_pod() -> None:
    serving = {"type": "Exclusive", "exclusive": {"activeVariantName": "a"}}
    shared = scene(model("a"), model("b"), serving=serving)
    pods = set(shared.pods)
    serving["exclusive"] = {"activeVariantName": "b"}
    shared.put(changed(shared_engine(serving=serving)))
    shared.come_to_rest()
    assert shared.listed() == {"kws-0": {"b"}}
    assert set(shared.pods) == pods
    assert shared.arrange().loaded == "b"


def test_a_name_that_no_variant_has_takes_nothing_away() -> None:
    serving = {"type": "Exclusive", "exclusive": {"activeVariantName": "a"}}
    shared = scene(model("a"), model("b"), serving=serving)
    serving["exclusive"] = {"activeVariantName": "zz"}
    shared.put(changed(shared_engine(serving=serving)))
    shared.come_to_rest()
    assert shared.listed() == {"kws-0": {"a"}}
    assert conditions(shared.tell("a"))["Ready"] == ("True", "Serving")
    assert conditions(shared.tell("b"))["Available"] == ("False", "NotActive")


def test_a_restarted_operator_changes_nothing_before_it_has_asked() -> None:
    shared = scene(model("a"), model("b"))
    told = shared.tell("a")
    standing = shared.cache.standing
    standing.reports.clear()
    standing.asked.clear()
    assert shared.act() is False
    assert shared.tell("a") == told


def test_a_dedicated_engine_has_no_such_pass() -> None:
    shared = SharedScene(engine(), variant("a"))
    with pytest.raises(AssertionError):
        shared.arrange()

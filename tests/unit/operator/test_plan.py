"""What is written: only differences, never what somebody else holds, and nothing twice."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse_api.model import Manifest
from roundhouse_operator.core.additions import removal
from roundhouse_operator.core.admission import vain_apply
from roundhouse_operator.core.fields import Ownership, differences, has_leftovers, without, written
from roundhouse_operator.core.kinds import DEPLOYMENT, SERVICE
from roundhouse_operator.core.plan import Plan, plan_children
from roundhouse_operator.project import project_child
from tests.unit.operator.samples import engine, variant
from tests.unit.operator.worlds import MANAGER, Scene, applied, node, owned, sent

OWNER = "uid-kws-en"
SPREAD = {"topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def wanted(**spec: Any) -> Manifest:
    """The Deployment of a variant."""
    decision = Scene(node("n1"), engine(), variant(**spec)).decide("kws-en")
    return next(one.manifest for one in decision.plan.applies if one.kind == DEPLOYMENT)


def plan_for(manifest: Manifest | None, live: Manifest) -> Plan:
    child = project_child(DEPLOYMENT, sent(live)).read(MANAGER)
    return plan_children([manifest] if manifest else [], [child], namespace="speech", owner_uid=OWNER)


def edited(manifest: Manifest, manager: str, *, operation: str = "Update", replicas: int = 7) -> Manifest:
    """Somebody else has set the replicas, and so owns them."""
    live = applied(copy.deepcopy(manifest))
    live["spec"]["replicas"] = replicas
    del live["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:replicas"]
    fields: Manifest = {"f:spec": {"f:replicas": {}}}
    live["metadata"]["managedFields"].append({"manager": manager, "operation": operation, "fieldsV1": fields})
    return live


def test_nothing_is_written_for_what_was_just_applied() -> None:
    assert plan_for(wanted(), applied(wanted())).empty


def test_what_the_server_adds_is_not_ours_to_judge() -> None:
    live = applied(wanted())
    live["spec"]["template"]["spec"]["dnsPolicy"] = "ClusterFirst"
    live["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = "IfNotPresent"
    live["metadata"]["annotations"] = {"deployment.kubernetes.io/revision": "3"}
    assert plan_for(wanted(), live).empty


def test_a_quantity_may_be_written_otherwise() -> None:
    spec = {"hardware": {"resources": {"requests": {"cpu": "1000m"}, "limits": {"memory": "1024Mi"}}}}
    live = applied(wanted(**spec))
    resources = live["spec"]["template"]["spec"]["containers"][0]["resources"]
    resources |= {"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}}
    assert plan_for(wanted(**spec), live).empty
    resources["requests"]["cpu"] = "2"
    assert not plan_for(wanted(**spec), live).empty


def test_before_its_first_pod_a_variant_needs_its_service_which_later_is_the_last() -> None:
    scene = Scene(node("n1"), engine(), variant())
    first = [one.kind for one in scene.decide("kws-en").plan.applies]
    assert first.index(SERVICE) < first.index(DEPLOYMENT)
    scene.settle("kws-en")
    scene.put({**variant(args=["--more"]), "metadata": {"name": "kws-en", "generation": 2}})
    later = [one.kind for one in scene.decide("kws-en").plan.applies]
    assert later.index(SERVICE) > later.index(DEPLOYMENT), "it says that the edit was carried out"


def test_a_field_that_is_no_longer_wanted_goes() -> None:
    more = wanted(args=["--more"])
    assert not plan_for(wanted(), applied(more)).empty


@pytest.mark.parametrize("manager", ["kubectl-edit", "kubectl", "kubectl-patch"])
def test_what_a_person_edited_is_taken_back(manager: str) -> None:
    plan = plan_for(wanted(), edited(wanted(), manager))
    assert [one.force for one in plan.applies] == [True]
    assert plan.conflicts == ()


@pytest.mark.parametrize(
    ("manager", "operation"),
    [("kube-controller-manager", "Update"), ("argocd", "Apply"), ("kubectl", "Apply")],
)
def test_what_a_controller_holds_is_left_and_told(manager: str, operation: str) -> None:
    plan = plan_for(wanted(), edited(wanted(), manager, operation=operation))
    assert plan.applies == ()
    assert [(one.path, one.manager) for one in plan.conflicts] == [(".spec.replicas", manager)]


def test_the_rest_is_applied_beside_a_conflict() -> None:
    changed = wanted(args=["--more"])
    plan = plan_for(changed, edited(wanted(), "hpa"))
    assert len(plan.applies) == 1
    assert "replicas" not in plan.applies[0].manifest["spec"]
    assert plan.applies[0].manifest["spec"]["template"] == changed["spec"]["template"]
    assert changed["spec"]["replicas"] == 1, "the manifest itself stays whole"


VARIABLE = 'k:{"name":"FOO"}'
ADDED: Manifest = {"f:env": {VARIABLE: {".": {}, "f:name": {}, "f:value": {}}}}


def with_more(fields: Manifest = ADDED, manager: str = "kubectl-set", *more: Manifest) -> Manifest:
    """Somebody has set a variable of the engine's container."""
    live = applied(copy.deepcopy(wanted()))
    live["spec"]["template"]["spec"]["containers"][0]["env"].append({"name": "FOO", "value": "1"})
    engine = {"f:containers": {'k:{"name":"engine"}': fields}}
    entry = {
        "manager": manager,
        "operation": "Update",
        "fieldsV1": {"f:spec": {"f:template": {"f:spec": engine}}},
    }
    live["metadata"]["managedFields"] += [entry, *more]
    return live


def test_what_a_person_added_is_taken_back() -> None:
    live = with_more()
    [removal] = plan_for(wanted(), live).removals
    env = live["spec"]["template"]["spec"]["containers"][0]["env"]
    container = "/spec/template/spec/containers/0"
    assert removal.patch == [
        {"op": "test", "path": "/metadata/uid", "value": "uid-kws-en"},
        {"op": "test", "path": f"{container}/name", "value": "engine"},
        {"op": "test", "path": f"{container}/env/{len(env) - 1}/name", "value": "FOO"},
        {"op": "remove", "path": f"{container}/env/{len(env) - 1}"},
    ]
    env.pop()
    assert plan_for(wanted(), live).empty, "a claim to what is not there"


def service_with(selector: Manifest, manager: str = "kubectl-patch") -> Manifest:
    """The Service of a variant, of which somebody has changed the selector and so owns the whole of it."""
    live = applied(copy.deepcopy(wanted_service()))
    live["spec"]["selector"] = selector
    del live["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:selector"]
    fields: Manifest = {"f:spec": {"f:selector": {}}}
    live["metadata"]["managedFields"].append({"manager": manager, "operation": "Update", "fieldsV1": fields})
    return live


def wanted_service() -> Manifest:
    decision = Scene(node("n1"), engine(), variant()).decide("kws-en")
    return next(one.manifest for one in decision.plan.applies if one.kind == SERVICE)


def service_plan(live: Manifest) -> Plan:
    child = project_child(SERVICE, sent(live)).read(MANAGER)
    return plan_children([wanted_service()], [child], namespace="speech", owner_uid=OWNER)


def test_an_entry_that_a_person_adds_to_a_selector_is_taken_back() -> None:
    mine = wanted_service()["spec"]["selector"]
    [apply] = service_plan(service_with({**mine, "version": "blue"})).applies
    assert (apply.manifest["spec"]["selector"], apply.force) == (mine, True)
    assert service_plan(service_with(mine)) == Plan(), "it is as it is to be, whoever wrote it"


def test_what_the_api_server_adds_to_a_value_that_another_holds_is_no_difference() -> None:
    """Two operators over one namespace: for the one that came later all of it is the other's."""
    manifest = wanted()
    [container] = manifest["spec"]["template"]["spec"]["containers"]
    cpu = {"resource": "requests.cpu"}
    container["env"].append({"name": "CPU", "valueFrom": {"resourceFieldRef": cpu}})
    live = applied(copy.deepcopy(manifest), manager="roundhouse/speech/another")
    there = {
        one["name"]: one.get("valueFrom") for one in live["spec"]["template"]["spec"]["containers"][0]["env"]
    }
    there["ROUNDHOUSE_POD_UID"]["fieldRef"]["apiVersion"] = "v1"
    there["CPU"]["resourceFieldRef"]["divisor"] = "0"
    assert plan_for(manifest, live) == Plan()
    there["CPU"]["resourceFieldRef"]["divisor"] = "1m"
    [conflict] = plan_for(manifest, live).conflicts
    assert conflict.path.endswith('env[name="CPU"].valueFrom.resourceFieldRef')


def test_an_entry_that_a_controller_adds_to_a_selector_is_left_and_told() -> None:
    selector = {**wanted_service()["spec"]["selector"], "rollouts-pod-template-hash": "1"}
    plan = service_plan(service_with(selector, "rollouts-controller"))
    assert plan.empty
    assert [(one.path, one.manager) for one in plan.conflicts] == [(".spec.selector", "rollouts-controller")]


def test_what_admission_adds_to_a_selector_that_is_ours_is_tried_once_and_told() -> None:
    live = applied(wanted_service())
    live["spec"]["selector"] = {**live["spec"]["selector"], "mesh": "on"}
    assert len(service_plan(live).applies) == 1
    child = project_child(SERVICE, sent(live)).read(MANAGER)
    after = replace(child, vain=vain_apply(wanted_service(), child))
    plan = plan_children([wanted_service()], [after], namespace="speech", owner_uid=OWNER)
    assert plan.empty
    assert [(one.path, one.manager) for one in plan.conflicts] == [(".spec.selector", "admission")]


@pytest.mark.parametrize(
    ("name", "before", "now"),
    [
        ("nodeSelector", {"zone": "a", "os": "linux"}, {"zone": "a"}),
        ("tolerations", [{"key": "gpu", "effect": "NoSchedule"}], [{"key": "gpu"}]),
        (
            "affinity",
            {"podAntiAffinity": {REQUIRED: [{"labelSelector": {"matchLabels": {"a": "1", "b": "2"}}}]}},
            {"podAntiAffinity": {REQUIRED: [{"labelSelector": {"matchLabels": {"a": "1"}}}]}},
        ),
        (
            "topologySpreadConstraints",
            [{**SPREAD, "labelSelector": {"matchLabels": {"a": "1", "b": "2"}}}],
            [{**SPREAD, "labelSelector": {"matchLabels": {"a": "1"}}}],
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_longer_wanted_inside_of_what_has_one_owner_goes(
    name: str, before: object, now: object
) -> None:
    made, manifest = wanted(), wanted()
    made["spec"]["template"]["spec"][name] = before
    manifest["spec"]["template"]["spec"][name] = now
    [apply] = plan_for(manifest, applied(copy.deepcopy(made))).applies
    assert (apply.manifest, apply.force) == (manifest, False)
    assert plan_for(manifest, applied(copy.deepcopy(manifest))) == Plan()


def test_what_is_empty_inside_of_what_has_one_owner_is_left_out() -> None:
    manifest = wanted()
    manifest["spec"]["template"]["spec"]["tolerations"] = [{"key": "gpu", "effect": ""}]
    live = applied(copy.deepcopy(manifest))
    live["spec"]["template"]["spec"]["tolerations"] = [{"key": "gpu"}]
    assert plan_for(manifest, live) == Plan()


@pytest.mark.parametrize(
    ("name", "value", "edited_to"),
    [
        ("nodeSelector", {"zone": "a"}, {"zone": "a", "foo": "bar"}),
        (
            "tolerations",
            [{"key": "gpu", "operator": "Exists"}],
            [{"key": "gpu", "operator": "Exists", "effect": "NoExecute"}],
        ),
    ],
)
def test_what_a_person_adds_to_a_value_that_has_one_owner_is_taken_back(
    name: str, value: object, edited_to: object
) -> None:
    manifest = wanted()
    manifest["spec"]["template"]["spec"][name] = value
    live = applied(copy.deepcopy(manifest))
    live["spec"]["template"]["spec"][name] = edited_to
    entry = live["metadata"]["managedFields"][0]
    del entry["fieldsV1"]["f:spec"]["f:template"]["f:spec"][f"f:{name}"]
    fields: Manifest = {"f:spec": {"f:template": {"f:spec": {f"f:{name}": {}}}}}
    live["metadata"]["managedFields"].append(
        {"manager": "kubectl-patch", "operation": "Update", "fieldsV1": fields}
    )
    plan = plan_for(manifest, live)
    assert [(one.force, one.manifest) for one in plan.applies] == [(True, manifest)]
    assert plan.removals == ()


def test_what_a_controller_added_stays() -> None:
    assert plan_for(wanted(), with_more(manager="istio")).empty
    both = with_more()["metadata"]["managedFields"][-1]
    assert plan_for(wanted(), with_more(ADDED, "kubectl-edit", {**both, "manager": "istio"})).empty


def test_a_restart_by_kubectl_is_no_addition() -> None:
    live = applied(wanted())
    live["spec"]["template"]["metadata"]["annotations"] = {"kubectl.kubernetes.io/restartedAt": "now"}
    fields: dict[str, Any] = {
        "f:metadata": {"f:annotations": {".": {}, "f:kubectl.kubernetes.io/restartedAt": {}}}
    }
    entry = {
        "manager": "kubectl-rollout",
        "operation": "Update",
        "fieldsV1": {"f:spec": {"f:template": fields}},
    }
    live["metadata"]["managedFields"].append(entry)
    assert plan_for(wanted(), live).empty


def test_a_rollout_that_a_person_paused_goes_on() -> None:
    live = applied(wanted())
    live["spec"]["paused"] = True
    entry = {"manager": "kubectl-rollout", "operation": "Update", "fieldsV1": {"f:spec": {"f:paused": {}}}}
    live["metadata"]["managedFields"].append(entry)
    [removal] = plan_for(wanted(), live).removals
    assert removal.patch[-1] == {"op": "remove", "path": "/spec/paused"}


def test_several_additions_to_one_list_are_taken_from_its_end() -> None:
    live = {"metadata": {"uid": "u"}, "spec": {"env": [{"name": name} for name in "abcdefghijkl"]}}
    paths = [("spec", "env", (("name", name),)) for name in "bkc"]
    removed = [one["path"] for one in removal(live, paths) if one["op"] == "remove"]
    assert removed == ["/spec/env/10", "/spec/env/2", "/spec/env/1"]


def test_a_holder_who_wants_the_same_is_no_conflict() -> None:
    assert plan_for(wanted(), edited(wanted(), "hpa", replicas=1)) == Plan()


def test_an_annotated_child_is_adopted() -> None:
    live = edited(wanted(), "helm", operation="Apply")
    live["metadata"]["annotations"] = {"roundhouse.dev/adopt": "true"}
    plan = plan_for(wanted(), live)
    assert [one.force for one in plan.applies] == [True]
    assert plan.conflicts == ()


def test_a_child_that_nobody_wants_goes_if_it_is_ours() -> None:
    live = applied(wanted())
    assert [one.name for one in plan_for(None, live).deletes] == ["kws-en"]
    live["metadata"]["ownerReferences"][0]["uid"] = "another"
    assert plan_for(None, live).deletes == ()


def test_an_empty_value_that_the_server_left_out_is_there_as_long_as_we_own_it() -> None:
    one = {"spec": {"paused": False}}
    assert differences(one, {"spec": {}}, {"f:spec": {"f:paused": {}}}) == []
    assert differences(one, {"spec": {}}, {"f:spec": {}}) == [("spec", "paused")]


values = st.recursive(
    st.integers(-3, 3) | st.booleans() | st.text("ab", max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abcd"), inner, max_size=3) | st.lists(inner, max_size=2),
    max_leaves=12,
)
containers = st.lists(
    st.builds(
        lambda name, more: {"name": name, **more},
        st.sampled_from("xyz"),
        st.dictionaries(st.sampled_from("abc"), values, max_size=2),
    ),
    max_size=3,
    unique_by=lambda one: one["name"],
)
manifests = st.builds(
    lambda spec, items: {"metadata": {"name": "m"}, "spec": {**spec, "containers": items}},
    st.dictionaries(st.sampled_from("pqr"), values, max_size=3),
    containers,
)


@given(manifests)
def test_any_manifest_agrees_with_itself(manifest: Manifest) -> None:
    ours = owned(manifest)
    said = {"metadata": {}, "spec": manifest["spec"]}
    assert differences(said, said, ours) == []
    assert not has_leftovers(said, ours)


@given(manifests, manifests)
def test_leaving_out_what_differs_leaves_no_difference(mine: Manifest, theirs: Manifest) -> None:
    before = copy.deepcopy(mine)
    reduced = without(mine, differences(mine, theirs, {}))
    assert differences(reduced, theirs, {}) == []
    assert mine == before


def test_paths_read_as_the_api_server_writes_them() -> None:
    path = ("spec", "containers", (("name", "engine"),), "image")
    assert written(path) == '.spec.containers[name="engine"].image'


def test_status_is_nobodys_field() -> None:
    entries = [
        {"manager": MANAGER, "operation": "Apply", "fieldsV1": {"f:spec": {}}},
        {
            "manager": "kube-controller-manager",
            "operation": "Update",
            "subresource": "status",
            "fieldsV1": {},
        },
        {"manager": MANAGER, "operation": "Update", "fieldsV1": {"f:metadata": {}}},
    ]
    found = Ownership.read(entries, MANAGER)
    assert found.ours == {"f:spec": {}}
    assert found.others == ()

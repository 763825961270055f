"""What the chart lets operator, gateway, people and the network do."""

import json
from collections.abc import Iterator

import pytest
import yaml

from tests.charts.helm import HelmError, Manifest, notes, render
from tests.charts.manifests import container, environment, grants, of_kind, only

POLICIES: Manifest = {"networkPolicy": {"enabled": True, "metricsFrom": [{"namespaceSelector": {}}]}}


def rules(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Each rule of each role, with the role's name."""
    for role in (each for each in manifests if each["kind"] in {"Role", "ClusterRole"}):
        yield from ((role["metadata"]["name"], rule) for rule in role["rules"])


def test_by_default_only_the_own_namespace_is_served_and_only_nodes_read_beyond() -> None:
    manifests = render()
    cluster_role = only(manifests, "ClusterRole", "operator")
    read = ("/nodes", "resource.k8s.io/deviceclasses", "resource.k8s.io/resourceslices")
    assert grants(cluster_role) == {
        *(f"{verb} {kind}" for verb in ("get", "list", "watch") for kind in read),
        "get storage.k8s.io/storageclasses",
    }
    assert {role["metadata"]["namespace"] for role in of_kind(manifests, "Role")} == {"models"}
    assert environment(manifests, "operator")["ROUNDHOUSE_OPERATOR_NAMESPACES"] == "models"
    assert environment(manifests, "gateway")["ROUNDHOUSE_GATEWAY_NAMESPACES"] == "models"


def test_a_list_of_namespaces_gives_a_role_and_a_binding_in_each() -> None:
    manifests = render({"operator": {"namespaces": ["speech", "chat"]}})
    for kind in ("Role", "RoleBinding"):
        served = [
            each for each in of_kind(manifests, kind, "operator") if "leader" not in each["metadata"]["name"]
        ]
        assert [each["metadata"]["namespace"] for each in served] == ["speech", "chat"]
    bindings = of_kind(manifests, "RoleBinding", "operator")
    assert all(binding["subjects"][0]["namespace"] == "models" for binding in bindings)
    assert environment(manifests, "operator")["ROUNDHOUSE_OPERATOR_NAMESPACES"] == "speech,chat"


def test_all_namespaces_need_a_cluster_role() -> None:
    manifests = render({"operator": {"namespaces": ["*"]}})
    [lease] = of_kind(manifests, "Role", "operator")
    assert lease["metadata"]["name"].endswith("-leader")
    assert "create apps/deployments" in grants(only(manifests, "ClusterRole", "operator"))
    assert environment(manifests, "operator")["ROUNDHOUSE_OPERATOR_NAMESPACES"] == "*"


def test_the_gateway_reads_three_kinds_in_its_own_namespaces_in_order() -> None:
    manifests = render({"gateway": {"namespaces": ["b", "a"]}})
    roles = of_kind(manifests, "Role", "gateway")
    assert [role["metadata"]["namespace"] for role in roles] == ["b", "a"]
    kinds = ("roundhouse.dev/engines", "roundhouse.dev/modelvariants", "discovery.k8s.io/endpointslices")
    watched = {f"{verb} {kind}" for verb in ("get", "list", "watch") for kind in kinds}
    assert [grants(role) for role in roles] == [watched, watched]
    assert not of_kind(manifests, "ClusterRole", "gateway")
    assert environment(manifests, "gateway")["ROUNDHOUSE_GATEWAY_NAMESPACES"] == "b,a"


def test_api_keys_are_read_in_their_own_namespace_alone() -> None:
    manifests = render({"gateway": {"keysNamespace": "keys"}})
    role = only(manifests, "Role", "gateway-keys")
    assert role["metadata"]["namespace"] == "keys"
    assert grants(role) == {"get /secrets", "list /secrets", "watch /secrets"}
    binding = only(manifests, "RoleBinding", "gateway-keys")
    assert (binding["metadata"]["namespace"], binding["subjects"][0]["namespace"]) == ("keys", "models")
    assert environment(manifests, "gateway")["ROUNDHOUSE_GATEWAY_KEYS_NAMESPACE"] == "keys"
    elsewhere = [rule for role, rule in rules(manifests) if "gateway" in role and not role.endswith("-keys")]
    assert not [rule for rule in elsewhere if "secrets" in rule["resources"]]


@pytest.mark.parametrize(
    ("value", "kind"), [("upstreamSecrets", "secrets"), ("upstreamConfigMaps", "configmaps")]
)
def test_what_upstreams_ask_for_is_read_by_the_names_that_the_values_give(value: str, kind: str) -> None:
    manifests = render({"gateway": {"namespaces": ["a", "b"], value: ["openai", "groq"]}})
    found = [
        rule
        for role in of_kind(manifests, "Role", "gateway")
        for rule in role["rules"]
        if {"secrets", "configmaps"} & {*rule["resources"]}
    ]
    named = {"apiGroups": [""], "resources": [kind], "resourceNames": ["openai", "groq"], "verbs": ["get"]}
    assert found == [named, named], "in each namespace, and nothing of the other kind"


def test_api_keys_among_models_are_refused() -> None:
    with pytest.raises(HelmError, match="give API keys one of their own"):
        render({"gateway": {"keysNamespace": "models"}})


def test_the_store_of_limits_comes_from_a_secret_before_a_url() -> None:
    plain: Manifest = {"url": "redis://valkey:6379/0"}
    name = "ROUNDHOUSE_GATEWAY_LIMITS_STORE_URL"
    assert name not in environment(render(), "gateway")
    assert environment(render({"gateway": {"limitsStore": plain}}), "gateway")[name] == plain["url"]
    secret = render({"gateway": {"limitsStore": {**plain, "secretName": "valkey"}}})
    [found] = [each for each in container(secret, "gateway")["env"] if each["name"] == name]
    assert found["valueFrom"] == {"secretKeyRef": {"name": "valkey", "key": "url"}}


@pytest.mark.parametrize("namespaces", [[], ["a"], ["*"]])
def test_no_role_holds_a_wildcard_or_lists_secrets(namespaces: list[str]) -> None:
    for role, rule in rules(render({"operator": {"namespaces": namespaces}})):
        assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]], role
        if "secrets" in rule["resources"]:
            assert rule["verbs"] == ["get"], f"{role} asks by name"


def test_the_operator_may_ask_replica_sets_and_change_none() -> None:
    granted = grants(of_kind(render(), "Role", "operator")[-1])
    assert {one for one in granted if one.endswith("/replicasets")} == {"list apps/replicasets"}


def test_caches_of_weights_take_jobs_claims_and_records() -> None:
    granted = grants(of_kind(render(), "Role", "operator")[-1])
    kinds = ("batch/jobs", "/persistentvolumeclaims", "/configmaps")
    assert {
        f"{verb} {kind}" for verb in ("list", "watch", "create", "patch", "delete") for kind in kinds
    } <= (granted)
    assert not {grant for grant in granted if grant.startswith("update")}


def test_the_loader_comes_from_the_registry_of_the_others_unless_said_otherwise() -> None:
    told = environment(render({"image": {"registry": "r.example.org/x", "tag": "7"}}), "operator")
    assert told["ROUNDHOUSE_OPERATOR_LOADER_IMAGE"] == "r.example.org/x/loader:7"
    values: Manifest = {"loader": {"image": "mine/loader:1", "env": {"HF_ENDPOINT": "http://hub"}}}
    told = environment(render(values), "operator")
    assert told["ROUNDHOUSE_OPERATOR_LOADER_IMAGE"] == "mine/loader:1"
    assert told["ROUNDHOUSE_OPERATOR_LOADER_ENV"] == '{"HF_ENDPOINT":"http://hub"}'


def test_loaders_are_told_of_authorities_beside_their_environment() -> None:
    pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    told = environment(render({"loader": {"caCertificates": pem, "env": {"A": "1"}}}), "operator")
    assert json.loads(told["ROUNDHOUSE_OPERATOR_LOADER_ENV"]) == {"A": "1"}
    assert told["ROUNDHOUSE_OPERATOR_LOADER_CA_CERTIFICATES"] == pem
    assert "ROUNDHOUSE_OPERATOR_LOADER_CA_CERTIFICATES" not in environment(render(), "operator")


def test_the_lease_that_the_operator_may_write_is_its_own() -> None:
    role = only(render(release="speech"), "Role", "leader")
    assert role["rules"][1]["resourceNames"] == ["roundhouse-speech-operator"]
    assert environment(render(release="speech"), "operator")["ROUNDHOUSE_OPERATOR_RELEASE"] == "speech"


def test_two_releases_share_no_object_but_the_definitions() -> None:
    def identities(namespace: str) -> set[tuple[str, str, str]]:
        served: Manifest = {"operator": {"namespaces": ["speech"]}, "gateway": {"namespaces": ["speech"]}}
        manifests = render({**served, "networkPolicy": {"enabled": True}}, namespace=namespace)
        return {
            (each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"])
            for each in manifests
        }

    assert not identities("one") & identities("two")


@pytest.mark.parametrize("policies", [True, False])
def test_where_all_namespaces_are_served_the_notes_hold_the_policy_of_engines(policies: bool) -> None:
    enabled: Manifest = {"networkPolicy": {"enabled": policies}}
    everywhere: Manifest = {"operator": {"namespaces": ["*"]}, **enabled}
    assert not of_kind(render(everywhere), "NetworkPolicy", "engines")
    _, _, after = notes(everywhere).partition("apply -f - <<EOF\n")
    if not policies:
        assert after == ""
        return
    told = yaml.safe_load(after.partition("\nEOF\n")[0])
    named = only(render({"operator": {"namespaces": ["speech"]}, **enabled}), "NetworkPolicy", "engines")
    assert "EOF" not in notes({"operator": {"namespaces": ["speech"]}, **enabled})
    assert named["metadata"].pop("namespace") == "speech"
    assert told == named


def test_network_policies_let_engines_be_reached_by_gateway_operator_and_scrapers() -> None:
    policy = only(render(POLICIES), "NetworkPolicy", "engines")
    rule, progress = policy["spec"]["ingress"]
    components = [
        each["podSelector"]["matchLabels"]["app.kubernetes.io/component"]
        for each in rule["from"]
        if "podSelector" in each
    ]
    assert components == ["gateway", "operator"]
    assert {"namespaceSelector": {}} in rule["from"]
    assert progress["ports"] == [{"port": "progress"}]
    assert len(progress["from"]) == 1, "the operator alone"
    assert policy["spec"]["podSelector"]["matchLabels"] == {"roundhouse.dev/managed": "true"}


def test_people_get_what_an_engine_is_worth() -> None:
    manifests = render()
    assert "create roundhouse.dev/engines" in grants(only(manifests, "ClusterRole", "-admin"))
    edit = grants(only(manifests, "ClusterRole", "-edit"))
    assert "create roundhouse.dev/modelvariants" in edit
    assert "create roundhouse.dev/engines" not in edit
    view = only(manifests, "ClusterRole", "-view")
    assert view["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-view"] == "true"
    assert {grant.split()[0] for grant in grants(view)} == {"get", "list", "watch"}


@pytest.mark.parametrize("namespaces", [[], ["speech"], ["*"]])
def test_the_operator_scales_variants_where_it_serves_and_finds_gateways_in_its_own_namespace(
    namespaces: list[str],
) -> None:
    manifests = render({"operator": {"namespaces": namespaces}})
    own = grants(only(manifests, "Role", "leader"))
    assert "watch discovery.k8s.io/endpointslices" in own
    everywhere = {
        role["metadata"].get("namespace", "*"): grants(role)
        for role in (*of_kind(manifests, "Role", "operator"), *of_kind(manifests, "ClusterRole", "operator"))
        if "leader" not in role["metadata"]["name"]
    }
    for namespace in namespaces or ["models"]:
        assert "patch roundhouse.dev/modelvariants/scale" in everywhere[namespace]
        assert "patch roundhouse.dev/modelvariants" not in everywhere[namespace]
        assert "watch autoscaling/horizontalpodautoscalers" in everywhere[namespace]


def test_the_operator_reaches_the_gateway_s_metrics_where_few_may() -> None:
    policy = only(render(POLICIES), "NetworkPolicy", "gateway")
    metrics = next(rule for rule in policy["spec"]["ingress"] if rule["ports"] == [{"port": "metrics"}])
    components = [
        each["podSelector"]["matchLabels"]["app.kubernetes.io/component"]
        for each in metrics["from"]
        if "podSelector" in each
    ]
    assert components == ["operator"]

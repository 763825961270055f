"""What the chart's manifests hold, and how the values that matter change them."""

import re
from pathlib import Path

import pytest
import yaml

from roundhouse_operator.gateways import selector
from tests.charts.helm import CHART, HelmError, Manifest, helm, render
from tests.charts.manifests import container, environment, of_kind, only

ROOT = CHART.parents[1]
OPTIONAL: Manifest = {
    "networkPolicy": {"enabled": True, "metricsFrom": [{"namespaceSelector": {}}]},
    "gateway": {
        "ingress": {"enabled": True},
        "autoscaling": {"enabled": True},
        "podDisruptionBudget": {"enabled": True},
    },
}


def test_lint_finds_nothing() -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", str(CHART))


def test_the_chart_has_the_versions_of_the_project() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = (ROOT / "pyproject.toml").read_text()
    assert f'version = "{chart["version"]}"' in project
    assert chart["appVersion"] == chart["version"]


def test_one_kind_per_template() -> None:
    for path in (CHART / "templates").rglob("*.yaml"):
        kinds = {line.split(": ")[1] for line in path.read_text().splitlines() if line.startswith("kind: ")}
        assert len(kinds) <= 1, path
        assert not kinds or Path(path).stem == next(iter(kinds)).lower(), path


@pytest.mark.parametrize("component", ["operator", "gateway"])
def test_a_pod_has_no_rights_on_its_node(component: str) -> None:
    pod = only(render(), "Deployment", component)["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 65532
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(render(), component)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert [each["mountPath"] for each in container(render(), component)["volumeMounts"]] == ["/tmp"]  # noqa: S108


@pytest.mark.parametrize("release", ["a.release", "r" * 53, "roundhouse", "a-roundhouse.b"])
def test_every_name_that_helm_takes_gives_names_that_services_may_have(release: str) -> None:
    services = of_kind(render(release=release), "Service")
    assert len(services) == 3
    assert all(re.fullmatch("[a-z]([-a-z0-9]{0,61}[a-z0-9])?", each["metadata"]["name"]) for each in services)


def test_a_release_whose_name_begins_with_a_digit_is_refused_before_anything_is_made() -> None:
    with pytest.raises(HelmError, match=r"\"1st\" begins with a digit(?s:.*)set fullnameOverride"):
        render(release="1st")
    assert render({"fullnameOverride": "first"}, release="1st")


@pytest.mark.parametrize("component", ["operator", "gateway"])
def test_pods_and_services_have_a_port_named_metrics(component: str) -> None:
    ports = {each["name"]: each["containerPort"] for each in container(render(), component)["ports"]}
    assert ports["metrics"] == 8081
    service = {
        each["name"]: each["targetPort"]
        for one in of_kind(render(), "Service", component)
        for each in one["spec"]["ports"]
    }
    assert service["metrics"] == "metrics"
    assert set(service.values()) <= set(ports)


def test_the_gateway_s_metrics_are_on_a_service_of_their_own_whatever_the_type_of_the_other() -> None:
    manifests = render({"gateway": {"service": {"type": "LoadBalancer"}}})
    services = {each["metadata"]["name"]: each for each in of_kind(manifests, "Service", "gateway")}
    public, metrics = services["rh-roundhouse-gateway"], services["rh-roundhouse-gateway-metrics"]
    assert metrics["spec"]["clusterIP"] == "None"
    assert [each["name"] for each in public["spec"]["ports"]] == ["http"]
    assert public["spec"]["selector"] == metrics["spec"]["selector"]
    labels = metrics["metadata"]["labels"]
    assert all(part in labels.items() for part in _selected(selector("rh")))


def _selected(text: str) -> list[tuple[str, str]]:
    return [(name, value) for name, _, value in (part.partition("=") for part in text.split(","))]


def test_the_gateway_is_told_how_many_workers_it_has() -> None:
    assert environment(render(), "gateway")["ROUNDHOUSE_GATEWAY_WORKERS"] == "1"
    assert environment(render({"gateway": {"workers": 3}}), "gateway")["ROUNDHOUSE_GATEWAY_WORKERS"] == "3"


def test_limits_of_waiting_reach_the_gateway() -> None:
    given = environment(
        render({"gateway": {"hold": {"limit": 7, "limitPerVariant": 3, "commentSeconds": 4}}}), "gateway"
    )
    assert given["ROUNDHOUSE_GATEWAY_HOLD_LIMIT"] == "7"
    assert given["ROUNDHOUSE_GATEWAY_HOLD_LIMIT_PER_VARIANT"] == "3"
    assert given["ROUNDHOUSE_GATEWAY_HOLD_COMMENT_SECONDS"] == "4"


def test_what_stands_before_the_gateway_s_routes_reaches_it() -> None:
    front: Manifest = {
        "trustedProxies": ["10.0.0.0/8", "fd00::/8"],
        "cors": {"origins": ["https://app.example.com", "*"]},
        "otlpEndpoint": "http://collector:4318",
        "limitsStore": {"whenAway": "closed"},
    }
    prefix = "ROUNDHOUSE_GATEWAY_"
    given = environment(render({"gateway": front}), "gateway")
    assert given[f"{prefix}TRUSTED_PROXIES"] == "10.0.0.0/8,fd00::/8"
    assert given[f"{prefix}CORS_ORIGINS"] == "https://app.example.com,*"
    assert given[f"{prefix}OTLP_ENDPOINT"] == "http://collector:4318"
    assert given[f"{prefix}LIMITS_STORE_AWAY"] == "closed"
    none = environment(render(), "gateway")
    assert not [name for name in none if name.endswith(("PROXIES", "ORIGINS", "OTLP_ENDPOINT", "_FILE"))]


def test_tls_mounts_the_secret_and_is_probed_as_such() -> None:
    manifests = render({"gateway": {"tls": {"secretName": "gateway-tls"}}})
    holder = container(manifests, "gateway")
    (mount,) = [each for each in holder["volumeMounts"] if each["name"] == "tls"]
    given = environment(manifests, "gateway")
    for name in ("CERT", "KEY"):
        assert given[f"ROUNDHOUSE_GATEWAY_TLS_{name}_FILE"].startswith(mount["mountPath"])
    pod = only(manifests, "Deployment", "gateway")["spec"]["template"]["spec"]
    (volume,) = [each for each in pod["volumes"] if each["name"] == "tls"]
    assert volume["secret"] == {"secretName": "gateway-tls"}
    for kind in ("startup", "liveness", "readiness"):
        assert holder[f"{kind}Probe"]["httpGet"]["scheme"] == "HTTPS"


def test_room_for_json_reaches_the_gateway() -> None:
    given = environment(render({"gateway": {"json": {"limit": "1Mi", "room": 5000000}}}), "gateway")
    assert given["ROUNDHOUSE_GATEWAY_JSON_LIMIT_BYTES"] == "1048576"
    assert given["ROUNDHOUSE_GATEWAY_JSON_ROOM_BYTES"] == "5000000"


@pytest.mark.parametrize("component", ["operator", "gateway"])
def test_probes_name_ports_that_the_container_has(component: str) -> None:
    holder = container(render(), component)
    ports = {each["name"] for each in holder["ports"]}
    paths = {kind: holder[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")}
    assert paths == {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}
    assert {holder[f"{kind}Probe"]["httpGet"]["port"] for kind in paths} <= ports


def test_services_select_the_pods_of_their_deployment() -> None:
    for component in ("operator", "gateway"):
        deployment = only(render(), "Deployment", component)["spec"]
        labels = deployment["template"]["metadata"]["labels"]
        for service in of_kind(render(), "Service", component):
            selected = service["spec"]["selector"]
            assert selected == deployment["selector"]["matchLabels"]
            assert selected.items() <= labels.items()


def test_definitions_are_those_of_the_api_and_are_kept_at_uninstall() -> None:
    rendered = {
        each["metadata"]["name"]: each
        for each in of_kind(render(definitions=True), "CustomResourceDefinition")
    }
    files = sorted((ROOT / "crds").glob("*.yaml"))
    assert len(rendered) == len(files) == 4
    for path in files:
        wanted = yaml.load(path.read_text(), yaml.CSafeLoader)
        made = rendered[wanted["metadata"]["name"]]
        assert made["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
        assert made["spec"] == wanted["spec"], path.name
    assert not of_kind(render({"crds": {"enabled": False}}, definitions=True), "CustomResourceDefinition")


def test_nothing_optional_is_there_unasked() -> None:
    kinds = {each["kind"] for each in render()}
    optional = {"Ingress", "HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy"}
    assert not kinds & optional
    assert optional <= {each["kind"] for each in render(OPTIONAL)}


def test_the_autoscaler_alone_sets_the_replicas() -> None:
    assert only(render(), "Deployment", "gateway")["spec"]["replicas"] == 1
    assert "replicas" not in only(render(OPTIONAL), "Deployment", "gateway")["spec"]


def test_pods_take_the_usual_knobs() -> None:
    knobs: Manifest = {
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "cpu", "operator": "Exists"}],
        "affinity": {"podAntiAffinity": {}},
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule"}
        ],
        "priorityClassName": "high",
        "podAnnotations": {"a": "1"},
        "podLabels": {"team": "speech"},
        "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy"}],
        "serviceAccount": {"create": False, "name": "given"},
    }
    values = {"operator": knobs, "gateway": knobs, "imagePullSecrets": [{"name": "registry"}]}
    for component in ("operator", "gateway"):
        manifests = render(values)
        template = only(manifests, "Deployment", component)["spec"]["template"]
        pod = template["spec"]
        for knob in ("nodeSelector", "tolerations", "affinity", "priorityClassName"):
            assert pod[knob] == knobs[knob]
        [spread] = pod["topologySpreadConstraints"]
        assert spread["labelSelector"]["matchLabels"]["app.kubernetes.io/component"] == component
        assert template["metadata"]["annotations"] == {"a": "1"}
        assert template["metadata"]["labels"]["team"] == "speech"
        assert environment(manifests, component)["HTTPS_PROXY"] == "http://proxy"
        assert pod["serviceAccountName"] == "given"
        assert pod["imagePullSecrets"] == [{"name": "registry"}]
        assert not of_kind(manifests, "ServiceAccount")


def test_images_follow_the_registry_and_the_tag() -> None:
    assert container(render(), "gateway")["image"] == "localhost/roundhouse/gateway:0.1.0"
    other = {"image": {"registry": "registry.example/speech/", "tag": "next"}}
    assert container(render(other), "operator")["image"] == "registry.example/speech/operator:next"


def test_an_ingress_answers_for_the_hosts_it_is_given() -> None:
    values = {
        "gateway": {"ingress": {"enabled": True, "hosts": ["a.example", "b.example"], "className": "nginx"}}
    }
    spec = only(render(values), "Ingress")["spec"]
    assert [rule["host"] for rule in spec["rules"]] == ["a.example", "b.example"]
    assert spec["ingressClassName"] == "nginx"
    [catch_all] = only(render(OPTIONAL), "Ingress")["spec"]["rules"]
    assert "host" not in catch_all

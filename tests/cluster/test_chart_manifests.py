"""The API server's own judgement of the chart's manifests: schemas, dry run, rights."""

import json
import subprocess
from functools import partial
from pathlib import Path

import pytest

from tests.charts.helm import Manifest, render, tool
from tests.charts.openapi import kubeconform_schemas
from tests.cluster.local import Cluster
from tests.support.waiting import wait_until

EVERYTHING: Manifest = {
    "catalogue": {"run": ["faster-whisper-base"], "show": True, "gpuImages": True},
    "networkPolicy": {
        "enabled": True,
        "from": [{"namespaceSelector": {}}],
        "metricsFrom": [{"podSelector": {}}],
    },
    "gateway": {
        "ingress": {"enabled": True, "hosts": ["models.example"], "tls": [{"hosts": ["models.example"]}]},
        "autoscaling": {"enabled": True},
        "podDisruptionBudget": {"enabled": True},
        "service": {"type": "NodePort"},
        "tolerations": [{"operator": "Exists"}],
        "affinity": {"podAntiAffinity": {}},
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
        ],
    },
}
EVERYWHERE: Manifest = {"operator": {"namespaces": ["*"]}}


def kubeconform(schemas: Path, manifests: list[Manifest]) -> subprocess.CompletedProcess[str]:
    location = str(schemas / "{{ .ResourceKind }}{{ .KindSuffix }}.json")
    command = [tool("kubeconform"), "-strict", "-summary", "-schema-location", location, "-"]
    text = "\n---\n".join(json.dumps(manifest) for manifest in manifests)
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def schemas(control_plane: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("schemas")
    document = json.loads(control_plane.kubectl("get", "--raw", "/openapi/v2"))
    for name, schema in kubeconform_schemas(document).items():
        (folder / name).write_text(json.dumps(schema))
    return folder


@pytest.mark.parametrize("values", [{}, EVERYTHING, EVERYWHERE], ids=["default", "everything", "everywhere"])
def test_kubeconform_finds_nothing(schemas: Path, values: Manifest) -> None:
    result = kubeconform(schemas, render(values, definitions=True))
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Invalid: 0, Errors: 0, Skipped: 0" in result.stdout


def test_kubeconform_would_find_an_unknown_field(schemas: Path) -> None:
    manifests = render()
    service = next(each for each in manifests if each["kind"] == "Service")
    result = kubeconform(schemas, [{**service, "spec": {**service["spec"], "prots": []}}])
    assert result.returncode == 1
    assert "prots" in result.stdout


@pytest.mark.parametrize("values", [{}, EVERYTHING, EVERYWHERE], ids=["default", "everything", "everywhere"])
def test_a_server_dry_run_warns_of_nothing(control_plane: Cluster, namespace: str, values: Manifest) -> None:
    restricted = (f"pod-security.kubernetes.io/{mode}=restricted" for mode in ("enforce", "warn"))
    control_plane.kubectl("label", "namespace", namespace, *restricted)
    manifests = render(values, namespace=namespace)
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
    answer = control_plane.kubectl(
        "create", "--dry-run=server", "--validate=strict", "--warnings-as-errors", "-f", "-", input=listed
    )
    assert len(answer.splitlines()) == len(manifests)


def test_the_definitions_are_those_that_the_server_holds(control_plane: Cluster) -> None:
    manifests = render(definitions=True)
    definitions = [each for each in manifests if each["kind"] == "CustomResourceDefinition"]
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": definitions})
    command = (
        "apply",
        "--server-side",
        "--force-conflicts",
        "--dry-run=server",
        "--warnings-as-errors",
        "-f",
        "-",
    )
    answer = control_plane.kubectl(*command, input=listed)
    assert len(answer.splitlines()) == len(definitions)


OPERATOR_MAY = (
    "patch roundhouse.dev/modelvariants/status",
    "create apps/deployments",
    "list apps/replicasets",
    "delete /services",
    "create events.k8s.io/events",
    "watch /nodes",
    "get /secrets",  # by name, for the metadata: whether one is there and labelled for the use
    "update coordination.k8s.io/leases roundhouse-rh-operator",
)
OPERATOR_MAY_NOT = (
    "list /secrets",
    "watch /secrets",
    "patch /secrets",
    "patch roundhouse.dev/modelvariants",
    "delete /pods",
    "update coordination.k8s.io/leases another",
)
GATEWAY_MAY = (
    "watch roundhouse.dev/engines",
    "list roundhouse.dev/modelvariants",
    "get discovery.k8s.io/endpointslices",
)
GATEWAY_MAY_NOT = (
    "get /secrets",  # but for those that the values name
    "get /configmaps",
    "list /secrets",
    "watch /secrets",
    "list /pods",
    "list /nodes",
    "patch roundhouse.dev/modelvariants",
)


def allowed(
    cluster: Cluster, component: str, question: str, namespace: str, asked_in: str | None = None
) -> bool:
    """Whether a component's account may do `verb group/resource[/subresource] [name]`."""
    verb, what, *name = question.split()
    group, resource, *subresource = what.split("/")
    attributes = {"verb": verb, "group": group, "resource": resource, "namespace": asked_in or namespace}
    attributes |= {"subresource": "".join(subresource), "name": "".join(name)}
    account = f"system:serviceaccount:{namespace}:rh-roundhouse-{component}"
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": account, "resourceAttributes": attributes},
    }
    answer = cluster.kubectl("create", "-o", "json", "-f", "-", input=json.dumps(review))
    return bool(json.loads(answer)["status"]["allowed"])


def test_operator_and_gateway_may_do_their_work_and_no_more(control_plane: Cluster, namespace: str) -> None:
    kinds = {"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding", "ServiceAccount"}
    control_plane.apply(*(each for each in render(namespace=namespace) if each["kind"] in kinds))
    for component, questions in (("operator", OPERATOR_MAY), ("gateway", GATEWAY_MAY)):
        for question in questions:
            wait_until(
                partial(allowed, control_plane, component, question, namespace),
                seconds=60,
                what=f"the {component} may {question}",
            )
    for component, refused in (("operator", OPERATOR_MAY_NOT), ("gateway", GATEWAY_MAY_NOT)):
        assert [each for each in refused if allowed(control_plane, component, each, namespace)] == []
    assert not allowed(control_plane, "operator", "list /pods", namespace, asked_in="default")
    assert not allowed(control_plane, "gateway", "list roundhouse.dev/engines", namespace, asked_in="default")

"""The chart's life in a cluster: install, upgrade, uninstall, and two releases beside each other."""

import json
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.charts.helm import CHART, Manifest, helm
from tests.cluster.local import Cluster, ClusterError, FakeNode
from tests.support.waiting import wait_until

CRDS = sorted((CHART.parents[1] / "crds").glob("*.yaml"))
GONE_SECONDS = 300
ENGINE: Manifest = {
    "apiVersion": "roundhouse.dev/v1alpha1",
    "kind": "Engine",
    "metadata": {"name": "hosted"},
    "spec": {
        "type": "Upstream",
        "upstream": {"baseURL": "https://models.example/v1"},
        "stage": "Transcribe",
        "interfaces": ["Batch"],
        "version": "1",
    },
}


class Release:
    """One installation of the chart in a namespace of its own."""

    def __init__(self, cluster: Cluster, name: str = "rh") -> None:
        self.cluster = cluster
        self.name = name
        self.namespace = f"test-chart-{secrets.token_hex(4)}"

    def install(self, chart: Path = CHART, *options: str) -> str:
        """Install or upgrade and wait until all is ready; Helm's notes."""
        command = ["upgrade", self.name, str(chart), "--install", "--wait", "--timeout", "300s"]
        # The fixture made the definitions without Helm.
        return self._helm(*command, "--create-namespace", "--take-ownership", *options)

    def uninstall(self) -> None:
        self._helm("uninstall", self.name, "--wait", "--timeout", "300s", "--ignore-not-found")

    def get(self, *arguments: str) -> str:
        return self.cluster.kubectl("-n", self.namespace, "get", *arguments)

    def names(self, kinds: str) -> list[str]:
        return self.get(kinds, "-o", "name", "-l", f"app.kubernetes.io/instance={self.name}").split()

    def apply_engine(self) -> None:
        engine = {**ENGINE, "metadata": {"name": "hosted", "namespace": self.namespace}}
        wait_until(lambda: self._applied(engine), seconds=30, what="the API server takes an Engine")

    def _applied(self, engine: Manifest) -> bool:
        try:
            self.cluster.apply(engine)
        except ClusterError as error:
            raise AssertionError(error) from error
        return True

    def _helm(self, *arguments: str) -> str:
        return helm(*arguments, "--namespace", self.namespace, kubeconfig=self.cluster.kubeconfig)


@pytest.fixture
def node(control_plane: Cluster) -> None:
    """Somewhere for the pods to run. kwok makes them ready; that the real ones get there is for tests/e2e."""
    control_plane.fake_nodes([FakeNode("chart")])


@pytest.fixture
def release(control_plane: Cluster, node: None) -> Iterator[Release]:
    yield from _release(control_plane)


@pytest.fixture
def neighbour(control_plane: Cluster, node: None) -> Iterator[Release]:
    yield from _release(control_plane)


def _release(cluster: Cluster) -> Iterator[Release]:
    release = Release(cluster)
    yield release
    release.uninstall()
    cluster.kubectl("delete", "namespace", release.namespace, "--ignore-not-found", "--wait=false")


@pytest.fixture
def definitions_restored(control_plane: Cluster) -> Iterator[None]:
    """For a test that changes the definitions that all tests of the session share."""
    yield
    files = [f"--filename={path}" for path in CRDS]
    control_plane.kubectl("apply", "--server-side", "--force-conflicts", *files)


def test_an_install_gets_ready_and_says_where_it_is(release: Release) -> None:
    notes = release.install()
    assert f"installed in namespace {release.namespace}" in notes
    assert f"kubectl -n {release.namespace} port-forward service/rh-roundhouse-gateway 8080:80" in notes
    assert "curl $ROUNDHOUSE_URL/v1/audio/transcriptions" in notes
    assert 'OpenAI(base_url=os.environ["ROUNDHOUSE_URL"] + "/v1"' in notes
    deployments = json.loads(release.get("deployments", "-o", "json"))["items"]
    assert {each["metadata"]["name"] for each in deployments} == {
        "rh-roundhouse-gateway",
        "rh-roundhouse-operator",
    }
    assert all(each["status"]["availableReplicas"] == 1 for each in deployments)


@pytest.mark.parametrize(
    ("options", "url"),
    [
        (("--set=gateway.service.type=NodePort",), '{.spec.ports[?(@.name=="http")].nodePort}'),
        (("--set=gateway.service.type=LoadBalancer", "--wait=false"), "get service rh-roundhouse-gateway"),
        (
            ("--set=gateway.ingress.enabled=true", "--set=gateway.ingress.hosts={m.example}"),
            "http://m.example",
        ),
    ],
)
def test_the_notes_follow_the_way_in(release: Release, options: tuple[str, ...], url: str) -> None:
    assert url in release.install(CHART, *options)


def test_an_upgrade_changes_the_definitions_and_rolls_only_what_changed(
    release: Release, tmp_path: Path, definitions_restored: None
) -> None:
    release.install()
    generations = release.get("deployments", "-o", "jsonpath={.items[*].metadata.generation}")
    newer = _chart_with_another_column(tmp_path)
    release.install(newer)
    columns = release.cluster.kubectl(
        "get", "crd", "engines.roundhouse.dev", "-o", "jsonpath={..additionalPrinterColumns[*].name}"
    )
    assert "Later" in columns.split()
    assert release.get("deployments", "-o", "jsonpath={.items[*].metadata.generation}") == generations


def test_an_uninstall_keeps_definitions_and_resources_and_nothing_hangs(release: Release) -> None:
    release.install()
    release.apply_engine()
    release.uninstall()
    assert release.names("deployments,services,serviceaccounts,roles,rolebindings") == []
    left = release.cluster.kubectl("get", "clusterroles,clusterrolebindings", "-o", "name")
    assert release.namespace not in left
    assert release.get("engines.roundhouse.dev", "-o", "name") == "engine.roundhouse.dev/hosted\n"
    timeout = f"--timeout={GONE_SECONDS}s"
    release.cluster.kubectl("-n", release.namespace, "delete", "engines.roundhouse.dev/hosted", timeout)
    release.apply_engine()
    release.cluster.kubectl("delete", "namespace", release.namespace, timeout)


def test_models_of_the_catalogue_come_and_go_with_the_values(release: Release) -> None:
    kinds = "engines.roundhouse.dev,modelvariants.roundhouse.dev"
    release.install()
    assert release.names(kinds) == []
    notes = release.install(CHART, "--set=catalogue.run={whisper-tiny,BAAI/bge-m3}")
    assert "The catalogue runs BAAI/bge-m3, whisper-tiny." in notes
    assert set(release.names(kinds)) == {
        "engine.roundhouse.dev/faster-whisper",
        "engine.roundhouse.dev/transformers-embeddings",
        "modelvariant.roundhouse.dev/baai-bge-m3",
        "modelvariant.roundhouse.dev/whisper-tiny",
    }
    release.install(
        CHART,
        "--set=catalogue.run={whisper-tiny}",
        "--set=models[0].name=whisper-tiny",
        "--set=models[0].replicas=0",
    )
    assert set(release.names(kinds)) == {
        "engine.roundhouse.dev/faster-whisper",
        "modelvariant.roundhouse.dev/whisper-tiny",
    }
    wanted = release.get("modelvariant/whisper-tiny", "-o", "jsonpath={.spec.replicas}")
    assert wanted == "0"
    release.uninstall()
    assert release.names(kinds) == []


def test_an_install_takes_up_what_an_uninstall_left(release: Release) -> None:
    release.install()
    release.apply_engine()
    release.uninstall()
    release.install()
    assert release.get("engines.roundhouse.dev", "-o", "name") == "engine.roundhouse.dev/hosted\n"


def test_two_releases_live_side_by_side(release: Release, neighbour: Release) -> None:
    release.install()
    neighbour.install(CHART, "--set=crds.enabled=false")
    kinds = "deployments,services,serviceaccounts,roles,rolebindings"
    theirs = neighbour.names(kinds)
    assert len(theirs) == len(release.names(kinds)) > 0
    release.uninstall()
    assert neighbour.names(kinds) == theirs
    cluster_roles = release.cluster.kubectl("get", "clusterrolebindings", "-o", "name")
    assert f"{neighbour.namespace}:rh-roundhouse-operator" in cluster_roles
    neighbour.apply_engine()


def test_people_of_a_namespace_may_use_the_kinds_as_far_as_their_role_goes(release: Release) -> None:
    release.install()

    def resources(role: str) -> set[str]:
        rules = json.loads(release.cluster.kubectl("get", "clusterrole", role, "-o", "json"))["rules"]
        ours = [
            rule for rule in rules if rule["apiGroups"] == ["roundhouse.dev"] and "create" in rule["verbs"]
        ]
        return {resource for rule in ours for resource in rule["resources"]}

    wait_until(lambda: "engines" in resources("admin"), seconds=30, what="the role admin holds Engines")
    assert {"modelvariants", "adapters"} <= resources("edit")
    assert "engines" not in resources("edit")
    assert not resources("view")


def _chart_with_another_column(folder: Path) -> Path:
    chart = folder / "roundhouse"
    shutil.copytree(CHART, chart)
    file = next((chart / "files" / "crds").glob("*engines.yaml"))
    definition = yaml.load(file.read_text(), yaml.CSafeLoader)
    later = {"name": "Later", "type": "string", "jsonPath": ".spec.version"}
    definition["spec"]["versions"][0]["additionalPrinterColumns"].append(later)
    file.write_text(yaml.safe_dump(definition))
    return chart

"""A whole cluster with real volumes, the real loader, and a hub on this machine that its pods reach."""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pocketsphinx import get_model_path

from tests.cluster.local import Cluster, lifecycle
from tests.cluster.operator.harness import Kubectl, Operator
from tests.images.definitions import IMAGES, project_version
from tests.support.hub import Hub

ROOT = Path(__file__).resolve().parents[3]
NODE = Path("/var/tmp")  # noqa: S108  # node and tests share the machine's files
REPO = "cmusphinx/en-us"
USER = 65532


def reference(name: str) -> str:
    return next(image for image in IMAGES if image.name == name).reference(project_version())


@pytest.fixture(scope="session")
def images(cluster: Cluster) -> None:
    """The loader and an engine, in the node's containerd."""

    def project(*module_and_arguments: str) -> str:
        command = [sys.executable, "-m", *module_and_arguments]
        return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout

    names = ("loader", "pocketsphinx")
    project("tests.images", "build", *names)
    cluster.load(*(Path(line) for line in project("tests.images", "folders", *names).split()))


@pytest.fixture(scope="session")
def model() -> dict[str, bytes]:
    """The English model of CMU Sphinx, by path, as a repository has it."""
    root = Path(get_model_path("en-us"))
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def hub(cluster: Cluster, model: dict[str, bytes]) -> Iterator[Hub]:
    """A Hugging Face Hub that pods reach by this machine's end of the link."""
    with Hub(host=str(cluster.layout.addresses.host_address)) as hub:
        hub.commit(REPO, model)
        yield hub


@pytest.fixture
def kubectl(cluster: Cluster, namespace: str) -> Kubectl:
    return Kubectl(cluster, namespace)


StartOperator = Callable[..., Operator]


@pytest.fixture
def start_operator(
    cluster: Cluster, namespace: str, images: None, hub: Hub, tmp_path: Path
) -> Iterator[StartOperator]:
    """Starts an operator that serves the test's namespace; its loaders know the test's hub."""
    started: list[Operator] = []

    def start(authorities: str = "", **loader_env: str) -> Operator:
        env = {"HF_ENDPOINT": hub.url, "ROUNDHOUSE_LOADER_PATIENCE_SECONDS": "3", **loader_env}
        environment = {
            "ROUNDHOUSE_OPERATOR_LOADER_IMAGE": reference("loader"),
            "ROUNDHOUSE_OPERATOR_LOADER_PULL_POLICY": "Never",
            "ROUNDHOUSE_OPERATOR_LOADER_ENV": json.dumps(env),
            "ROUNDHOUSE_OPERATOR_LOADER_CA_CERTIFICATES": authorities,
        }
        log = tmp_path / f"operator-{len(started)}.log"
        operator = Operator(cluster, namespace, log, environment=environment)
        started.append(operator)
        return operator.start()

    yield start
    for operator in started:
        if operator.alive():
            assert operator.stop() == 0, operator.log.read_text()[-3000:]


@pytest.fixture
def operator(start_operator: StartOperator) -> Operator:
    return start_operator()


@dataclass
class Volumes:
    """Volumes in directories of the node, bound by hand as a static provisioner does."""

    cluster: Cluster
    node: str
    name: str
    made: list[str] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    mounted: list[Path] = field(default_factory=list)

    @property
    def storage_class(self) -> str:
        return self.name

    def make(self, *, size: str = "1Gi", mode: str = "ReadWriteOnce") -> Path:
        """One more; its directory."""
        folder = NODE / f"{self.name}-{len(self.made)}"
        folder.mkdir(mode=0o755)
        volume = f"{self.name}-{len(self.made)}"
        here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [self.node]}
        spec: dict[str, Any] = {
            "capacity": {"storage": size},
            "accessModes": [mode],
            "storageClassName": self.storage_class,
            "persistentVolumeReclaimPolicy": "Retain",
            "local": {"path": str(folder)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
        }
        head = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": volume}}
        self.cluster.apply({**head, "spec": spec})
        self.made.append(volume)
        self.folders.append(folder)
        return folder

    def make_small(self, size: str) -> None:
        """One that has no more room than that, seen by the node alone."""
        folder = self.make()
        self._on_node("mount", "-t", "tmpfs", "-o", f"size={size},mode=0777", "tmpfs", str(folder))
        self.mounted.append(folder)

    def enlarge(self, size: str) -> None:
        for folder in self.mounted:
            self._on_node("mount", "-o", f"remount,size={size}", str(folder))

    def clean_up(self) -> None:
        for folder in self.folders:
            shutil.rmtree(folder, ignore_errors=True)

    def _on_node(self, *command: str) -> None:
        first = lifecycle.first_process(self.cluster.layout)
        subprocess.run(["nsenter", f"--mount=/proc/{first}/ns/mnt", *command], check=True)


@pytest.fixture
def volumes(cluster: Cluster) -> Iterator[Volumes]:
    """With a StorageClass that waits for the first pod, as those of local disks do."""
    name = f"weights-{secrets.token_hex(3)}"
    cluster.apply(
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": name},
            "provisioner": "kubernetes.io/no-provisioner",
            "volumeBindingMode": "WaitForFirstConsumer",
        }
    )
    node = json.loads(cluster.kubectl("get", "nodes", "-o", "json"))["items"][0]["metadata"]["name"]
    volumes = Volumes(cluster, node, name)
    yield volumes
    if volumes.made:
        cluster.kubectl("delete", "pv", "--wait=false", *volumes.made)
    cluster.kubectl("delete", "storageclass", name)
    volumes.clean_up()

"""The chart installed into a whole cluster, once for all end-to-end tests."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.local import Cluster
from tests.e2e.release import MODEL, Release
from tests.support.hub import Hub
from tests.support.install import install_chart

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = "roundhouse"


def project(*module_and_arguments: str) -> str:
    """Run a module of the project and return what it prints."""
    command = [sys.executable, "-m", *module_and_arguments]
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


@pytest.fixture(scope="session")
def hub(cluster: Cluster) -> Iterator[Hub]:
    """A mirror of the Hugging Face Hub that the release's loaders know."""
    with Hub(host=str(cluster.layout.addresses.host_address)) as hub:
        yield hub


@pytest.fixture(scope="session")
def release(cluster: Cluster, hub: Hub) -> Release:
    """The project's images in the cluster, its chart installed, its gateway on loopback."""
    number = str(cluster.number)
    project("tests.images", "build")
    project("tests.cluster.local", "load", "--number", number, *project("tests.images", "archives").split())
    values = {"loader.env.HF_ENDPOINT": hub.url}
    install_chart(cluster.environment, namespace=NAMESPACE, values=values)
    port = cluster.gateway_url.rsplit(":", 1)[1]
    service = ("--service", f"{NAMESPACE}/roundhouse-gateway", "--port", port, "--target", "http")
    project("tests.cluster.local", "expose", "--number", number, *service)
    return Release(cluster.kubectl, cluster.api, NAMESPACE, cluster.gateway_url, values)


@pytest.fixture(scope="session")
def pocketsphinx(release: Release) -> Iterator[str]:
    """The example's model, Ready; its public id."""
    release.apply((ROOT / "examples/pocketsphinx.yaml").read_text())
    release.wait_for_condition(f"modelvariant/{MODEL}", "Ready", "True", "Serving")
    release.answers_again(MODEL)
    yield MODEL
    release.delete(f"modelvariant/{MODEL}", "engine/pocketsphinx")

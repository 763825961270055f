"""The chart installed into a whole cluster, once for all end-to-end tests."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.local import Cluster
from tests.e2e.release import MODEL, Release
from tests.support.hub import Hub
from tests.support.install import install_chart

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = "roundhouse"
OF_ALL = ("operator", "gateway", "loader", "pocketsphinx")
"""Images that most tests want; others come with the manifest that names them."""


def project(*module_and_arguments: str) -> str:
    """Run a module of the project and return what it prints."""
    command = [sys.executable, "-m", *module_and_arguments]
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


@pytest.fixture(scope="session")
def hub(cluster: Cluster) -> Iterator[Hub]:
    """A mirror of the Hugging Face Hub that the release's loaders know."""
    with Hub(host=str(cluster.layout.addresses.host_address)) as hub:
        yield hub


def loading(cluster: Cluster) -> Callable[..., None]:
    """Builds the images that are named and puts them into the cluster, each once."""
    there: set[str] = set()

    def load(*names: str) -> None:
        if wanted := [name for name in names if name not in there]:
            project("tests.images", "build", *wanted)
            cluster.load(*map(Path, project("tests.images", "folders", *wanted).split()))
            there.update(wanted)

    return load


@pytest.fixture(scope="session")
def release(cluster: Cluster, hub: Hub) -> Release:
    """The project's images in the cluster, its chart installed, its gateway on loopback."""
    number = str(cluster.number)
    load = loading(cluster)
    load(*OF_ALL)
    values = {"loader.env.HF_ENDPOINT": hub.url}
    install_chart(cluster.environment, namespace=NAMESPACE, values=values)
    port = cluster.gateway_url.rsplit(":", 1)[1]
    service = ("--service", f"{NAMESPACE}/roundhouse-gateway", "--port", port, "--target", "http")
    project("tests.cluster.local", "expose", "--number", number, *service)
    return Release(cluster.kubectl, cluster.api, NAMESPACE, cluster.gateway_url, values, load)


@pytest.fixture(scope="session")
def pocketsphinx(release: Release) -> Iterator[str]:
    """The example's model, Ready; its public id."""
    release.apply((ROOT / "examples/pocketsphinx.yaml").read_text())
    release.wait_for_condition(f"modelvariant/{MODEL}", "Ready", "True", "Serving")
    release.answers_again(MODEL)
    yield MODEL
    release.delete(f"modelvariant/{MODEL}", "engine/pocketsphinx")

"""One's own cluster, named by ROUNDHOUSE_CONTEXT: used, given forwarders, and left alone by `down`."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.local import Cluster
from tests.cluster.local.paths import repository_root
from tests.cluster.local.processes import kubectl
from tests.cluster.probe_pods import answer, serve
from tests.support.ports import free_port
from tests.support.waiting import wait_until

PORT = free_port()
CONTEXT = "arn:aws:eks:nowhere:1:cluster/own"
Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def command(cluster: Cluster, tmp_path: Path) -> Iterator[Command]:
    """The command line, for a person whose kubeconfig has a context of their own: the tests' cluster."""
    own = tmp_path / "config"
    own.write_text(cluster.kubeconfig.read_text())
    kubectl(cluster.layout.binaries, own, "config", "rename-context", "roundhouse-local", CONTEXT)
    kubectl(cluster.layout.binaries, own, "config", "unset", "current-context")
    environment = os.environ | {"KUBECONFIG": str(own), "ROUNDHOUSE_CONTEXT": CONTEXT}

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        line = [sys.executable, "-m", "tests.cluster.local", *arguments]
        return subprocess.run(
            line, cwd=repository_root(), env=environment, capture_output=True, text=True, check=False
        )

    yield run
    run("down")


def test_ones_own_cluster_is_used_and_left_alone(cluster: Cluster, namespace: str, command: Command) -> None:
    serve(cluster, namespace)
    shown = command("up")
    assert shown.returncode == 0, shown.stderr
    kubeconfig = Path(shown.stdout.split("KUBECONFIG=")[1].split()[0])
    assert kubectl(cluster.layout.binaries, kubeconfig, "get", "namespace", namespace, "-o", "name")

    exposed = command("expose", "--service", f"{namespace}/serve", "--port", str(PORT))
    assert exposed.stdout == f"http://127.0.0.1:{PORT}\n", exposed.stderr
    first = wait_until(lambda: answer(PORT), seconds=30, what="an answer").split()[0]
    assert f"127.0.0.1:{PORT}: 'kubectl'" in command("status").stdout

    cluster.kubectl("delete", "pod", first, "-n", namespace, "--wait=false")
    wait_until(lambda: answer(PORT) not in {"", f"{first} 10\n"}, seconds=60, what="another pod answers")

    assert "is left alone" in command("down").stderr
    wait_until(lambda: not answer(PORT), seconds=60, what="nobody listens")
    assert not kubeconfig.parent.exists()
    assert cluster.kubectl("get", "--raw", "/readyz") == "ok"


def test_images_cannot_be_loaded_there_and_the_error_says_what_to_do(command: Command) -> None:
    refused = command("load", "image.tar")
    assert refused.returncode == 1
    assert "push them to a registry" in refused.stderr


def test_a_context_that_does_not_exist_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUNDHOUSE_CONTEXT", "nowhere")
    line = [sys.executable, "-m", "tests.cluster.local", "up"]
    refused = subprocess.run(line, cwd=repository_root(), capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "ROUNDHOUSE_CONTEXT names the kube context 'nowhere'" in refused.stderr
    assert "unset ROUNDHOUSE_CONTEXT" in refused.stderr

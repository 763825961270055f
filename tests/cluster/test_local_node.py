"""The whole cluster: real pods that resolve, call the API, are reached from outside, get the node's GPUs."""

import hashlib
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.local import Cluster, ClusterError, FakeNode
from tests.cluster.local.images import pack
from tests.cluster.local.paths import repository_root
from tests.cluster.probe_pods import answer, ask, pod, run_pod, serve
from tests.support.ports import free_port
from tests.support.waiting import wait_until

PORT, TAKEN = free_port(), free_port()


def test_a_pod_resolves_the_clusters_names(cluster: Cluster, namespace: str) -> None:
    expected = cluster.layout.addresses.kubernetes_service
    assert (
        run_pod(cluster, namespace, pod("resolve", "resolve", "kubernetes.default.svc")) == f"[{expected}]\n"
    )


def test_a_pod_calls_the_api_with_its_service_account(cluster: Cluster, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/pods"
    refused = run_pod(cluster, namespace, pod("without-right", "api", path))
    assert refused.startswith("403 ")
    assert f"system:serviceaccount:{namespace}:default" in refused
    reader = f"--serviceaccount={namespace}:default"
    cluster.kubectl("create", "rolebinding", "reader", "--clusterrole=view", reader, "-n", namespace)
    allowed = run_pod(cluster, namespace, pod("with-right", "api", path))
    assert allowed.startswith("200 ")
    assert '"without-right"' in allowed


def test_an_exposed_service_is_reached_and_outlives_its_pods(cluster: Cluster, namespace: str) -> None:
    serve(cluster, namespace)
    assert cluster.expose(namespace, "serve", PORT, "probe") == f"127.0.0.1:{PORT}"
    first, size = wait_until(lambda: ask(PORT, 3_000_000), seconds=60, what="an answer").split()
    assert (first.startswith("serve-"), size) == (True, "3000000")

    cluster.kubectl("delete", "pod", first, "-n", namespace, "--wait=false")
    wait_until(lambda: answer(PORT) not in {"", f"{first} 10\n"}, seconds=60, what="another pod answers")

    old = cluster.kubectl("get", "service", "serve", "-n", namespace, "-o", "jsonpath={.spec.clusterIP}")
    cluster.kubectl("delete", "service", "serve", "-n", namespace)
    # The freed address is taken, so that the Service comes back under another.
    cluster.kubectl(
        "create", "service", "clusterip", "squatter", f"--clusterip={old}", "--tcp=80", "-n", namespace
    )
    serve(cluster, namespace)
    wait_until(lambda: answer(PORT), seconds=60, what="the Service answers under its new address")


def test_an_image_that_nobody_has_fails_at_once(cluster: Cluster, namespace: str) -> None:
    manifest = pod("no-image", "resolve", "x", image="registry.invalid/none:1")
    cluster.kubectl("create", "-n", namespace, "-f", "-", input=json.dumps(manifest))
    reason = "jsonpath={.status.containerStatuses[0].state.waiting.reason}"

    def refused() -> bool:
        shown = cluster.kubectl("get", "pod", "no-image", "-n", namespace, "-o", reason)
        return shown in {"ErrImagePull", "ImagePullBackOff"}

    wait_until(refused, seconds=60, what="the pull failed")


def test_exposing_what_cannot_be_exposed_says_why(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("create", "service", "clusterip", "idle", "--tcp=80", "-n", namespace)
    with pytest.raises(ClusterError, match="no port named 'nope'"):
        cluster.expose(namespace, "idle", TAKEN, "nope")
    with socket.create_server(("127.0.0.1", TAKEN)), pytest.raises(ClusterError, match="held by"):
        cluster.expose(namespace, "idle", TAKEN)


def test_an_archive_is_loaded_once_and_again_when_it_changed(
    cluster: Cluster, namespace: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"localhost/test/{namespace}:1"
    archive = tmp_path / "image.tar"
    binary = Path(cluster.layout.binary("probe"))
    with archive.open("wb") as file:
        pack(name, binary, file)
    cluster.load(archive)
    assert f"loaded {name}" in capsys.readouterr().err
    cluster.load(archive)
    assert "already there" in capsys.readouterr().err
    assert run_pod(cluster, namespace, pod("loaded", "resolve", "127.0.0.1", image=name)) == "[127.0.0.1]\n"

    (tmp_path / "pause").write_bytes(Path(cluster.layout.binary("pause")).read_bytes())
    with archive.open("wb") as file:
        pack(name, tmp_path / "pause", file)
    cluster.load(archive)
    assert f"loaded {name}" in capsys.readouterr().err


def test_an_archive_is_loaded_from_standard_input(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    name = f"localhost/test/{namespace}:2"
    with (tmp_path / "image.tar").open("w+b") as file:
        pack(name, Path(cluster.layout.binary("probe")), file)
        file.seek(0)
        command = [sys.executable, "-m", "tests.cluster.local", "load", "--number", str(cluster.number), "-"]
        shown = subprocess.run(
            command, cwd=repository_root(), stdin=file, capture_output=True, text=True, check=True
        )
    assert f"loaded {name}" in shown.stderr


def test_the_real_node_takes_gpu_pods_when_told_of_gpus(cluster: Cluster, namespace: str) -> None:
    cluster.patch_node_gpus("node1", 2, {"nvidia.com/gpu.memory": "24576"})
    manifest = pod("gpu", "resolve", "127.0.0.1", gpus=2)
    del manifest["spec"]["nodeName"]
    manifest["spec"]["nodeSelector"] = {"nvidia.com/gpu.memory": "24576"}
    assert run_pod(cluster, namespace, manifest) == "[127.0.0.1]\n"


def test_a_fake_node_stands_beside_the_real_one(cluster: Cluster, namespace: str) -> None:
    node = FakeNode(f"fake-{hashlib.sha256(namespace.encode()).hexdigest()[:6]}", gpus=8)
    cluster.fake_nodes([node])
    manifest = pod("on-fake", "serve", "1", gpus=8)
    manifest["spec"]["nodeName"] = node.name
    cluster.kubectl("create", "-n", namespace, "-f", "-", input=json.dumps(manifest))
    cluster.kubectl("wait", "pod/on-fake", "-n", namespace, "--for=condition=Ready", "--timeout=300s")
    cluster.kubectl("delete", "node", node.name)

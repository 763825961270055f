"""The gateway against a real API server, with an account that may read what it must and nothing else."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.local import Cluster
from tests.conformance.gateway.client import field, file
from tests.conformance.gateway.loop_thread import LoopThread
from tests.conformance.gateway.manifests import Manifest, Variant, engine, slice_of
from tests.conformance.gateway.process import GatewayProcess, is_ready, launch
from tests.conformance.gateway.scripted_engine import ScriptedEngine
from tests.support.waiting import wait_until

ACCOUNT = "gateway"
READ = ["get", "list", "watch"]
RULES = [
    {"apiGroups": ["roundhouse.dev"], "resources": ["engines", "modelvariants"], "verbs": READ},
    {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": READ},
]


@pytest.fixture
def gateway(control_plane: Cluster, namespace: str, tmp_path: Path) -> Iterator[GatewayProcess]:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(json.dumps(least_privilege(control_plane, namespace)))
    started = launch(tmp_path, kubeconfig, {"NAMESPACES": namespace})
    try:
        wait_until(lambda: is_ready(started), seconds=30, what="the gateway is ready")
        yield started
    finally:
        started.kill()


def least_privilege(cluster: Cluster, namespace: str) -> Manifest:
    """A kubeconfig for an account with the rules above, made as an administrator would."""
    meta = {"name": ACCOUNT, "namespace": namespace}
    group = "rbac.authorization.k8s.io"
    cluster.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
        {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": meta, "rules": RULES},
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": meta,
            "roleRef": {"apiGroup": group, "kind": "Role", "name": ACCOUNT},
            "subjects": [{"kind": "ServiceAccount", **meta}],
        },
    )
    config: Manifest = yaml.safe_load(cluster.kubeconfig.read_text())
    token = cluster.kubectl("create", "token", ACCOUNT, "-n", namespace, "--duration=1h").strip()
    config["users"] = [{"name": each["name"], "user": {"token": token}} for each in config["users"]]
    return config


def apply(cluster: Cluster, namespace: str, manifest: Manifest) -> None:
    """The object and then its status, as the operator would write it."""
    manifest["metadata"] = {"name": manifest["metadata"]["name"], "namespace": namespace}
    cluster.apply({key: value for key, value in manifest.items() if key != "status"})
    patch = json.dumps({"status": manifest["status"]})
    target = (manifest["kind"].lower() + ".roundhouse.dev", manifest["metadata"]["name"])
    cluster.kubectl("patch", *target, "-n", namespace, "--subresource=status", "--type=merge", "-p", patch)


def wait_for(gateway: GatewayProcess, model: str, status: str) -> Any:
    wait_until(
        lambda: gateway.get(f"/v1/models/{model}").json.get("status") == status,
        seconds=10,
        what=f"{model} is {status}",
        every=0.05,
    )


@pytest.mark.req("S1-3", "S1-13", "S1-15", "S1-20", "S0-25")
def test_real_resources_are_followed_and_served(
    control_plane: Cluster, namespace: str, gateway: GatewayProcess, loop_thread: LoopThread
) -> None:
    address = str(control_plane.layout.addresses.host_address)
    scripted = ScriptedEngine(loop_thread, address)
    try:
        variant = Variant("whisper", "openai/whisper-base", aliases=("base",), namespace=namespace)
        apply(control_plane, namespace, engine())
        apply(control_plane, namespace, variant.manifest())
        wait_for(gateway, "openai/whisper-base", "unhealthy")
        ready = slice_of("whisper", scripted.port, namespace=namespace, address=address)
        control_plane.apply(ready)
        wait_for(gateway, "openai/whisper-base", "running")
        assert [item["id"] for item in gateway.get("/v1/models").json["data"]] == ["openai/whisper-base"]
        assert gateway.transcribe(field("model", "base"), file()).status == 200
        assert scripted.requests[0].model == "engine-whisper"

        ready["endpoints"][0]["conditions"] = {"ready": False, "serving": True, "terminating": True}
        control_plane.apply(ready)
        wait_for(gateway, "openai/whisper-base", "unhealthy")
        control_plane.kubectl("delete", "modelvariant.roundhouse.dev", "whisper", "-n", namespace)
        wait_until(
            lambda: gateway.get("/v1/models/base").status == 404, seconds=10, what="it is gone", every=0.05
        )
    finally:
        scripted.stop()


def test_its_account_can_read_no_secret(control_plane: Cluster, namespace: str) -> None:
    least_privilege(control_plane, namespace)
    account = f"system:serviceaccount:{namespace}:{ACCOUNT}"
    listed = control_plane.kubectl("auth", "can-i", "--list", f"--as={account}", "-n", namespace)
    assert "secrets" not in listed
    assert "pods" not in listed

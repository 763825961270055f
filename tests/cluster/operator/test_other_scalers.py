"""An HPA or KEDA in place of our own scaler: through `scale`, and nobody fights over replicas."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from roundhouse_api.names import API_VERSION
from tests.cluster.local import Cluster
from tests.cluster.local.errors import ClusterError
from tests.cluster.operator.gateways import ROOT, addresses
from tests.cluster.operator.harness import Kubectl, Operator, wait_for_quiet, writes
from tests.cluster.operator.metrics_api import PORT
from tests.unit.operator.samples import engine, variant

EXAMPLES = ROOT / "examples"
API_SERVICE = "v1beta1.metrics.k8s.io"
HPA_SECONDS = 120
"""The controller looks every few seconds, and waits for figures of pods that are new."""

SetCPU = Callable[[int], None]


@pytest.fixture
def set_cpu(control_plane: Cluster, namespace: str, kubectl: Kubectl, tmp_path: Path) -> Iterator[SetCPU]:
    """A metrics API of the test's own, by which the pods use so many thousandths of a core together.

    Together, because the controller may look between a pod's coming and the test's next word: a load that
    went up with each pod would have it go on.
    """
    (address,) = addresses(control_plane, 1)
    certificate, key, figures = tmp_path / "tls.crt", tmp_path / "tls.key", tmp_path / "figures.json"
    figures.write_text("{}")
    subject = ("-subj", "/CN=metrics", "-addext", f"subjectAltName=IP:{address}")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject),
            *("-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    command = [sys.executable, "-m", "tests.cluster.operator.metrics_api", address, certificate, key, figures]
    with ExitStack() as stack:
        process = control_plane.run_in_fake_pod_net(command, cwd=ROOT, stdout=subprocess.PIPE)  # type: ignore[arg-type]
        stack.callback(process.communicate)
        stack.callback(process.kill)
        assert process.stdout
        assert process.stdout.readline() == b"listening\n"
        stack.callback(control_plane.kubectl, "delete", "apiservice", API_SERVICE, "--ignore-not-found")
        control_plane.apply(*_aggregated(namespace, address))
        kubectl("wait", "--for=condition=Available", f"apiservice/{API_SERVICE}", "--timeout=300s")

        def use(milli: int) -> None:
            pods = kubectl.list("pods", "roundhouse.dev/variant=kws-en")
            part = tmp_path / "figures.part"
            each = milli // max(len(pods), 1)
            part.write_text(json.dumps({one["metadata"]["name"]: each for one in pods}))
            part.rename(figures)

        yield use


def _aggregated(namespace: str, address: str) -> list[dict[str, Any]]:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "metrics", "namespace": namespace},
        "spec": {"type": "ExternalName", "externalName": address},
    }
    aggregated = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": API_SERVICE},
        "spec": {
            "group": "metrics.k8s.io",
            "version": "v1beta1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "insecureSkipTLSVerify": True,
            "service": {"name": "metrics", "namespace": namespace, "port": PORT},
        },
    }
    return [service, aggregated]


def hpa() -> dict[str, Any]:
    """The example, on a variant of ours, and without the five minutes before it goes down."""
    manifest: dict[str, Any] = yaml.safe_load((EXAMPLES / "hpa.yaml").read_text())
    manifest["metadata"]["name"] = manifest["spec"]["scaleTargetRef"]["name"] = "kws-en"
    manifest["spec"]["behavior"] = {"scaleDown": {"stabilizationWindowSeconds": 0}}
    return manifest


def of_scale(counted: Counter[str]) -> int:
    return sum(count for what, count in counted.items() if "modelvariants/scale" in what)


@pytest.mark.timeout(900)
def test_the_real_controller_scales_a_variant_and_nobody_writes_against_it(
    control_plane: Cluster, operator: Operator, kubectl: Kubectl, set_cpu: SetCPU
) -> None:
    hardware = {"gpu": {"mode": "None"}, "resources": {"requests": {"cpu": "100m"}}}
    kubectl.apply(engine(hardware=hardware), variant(), hpa())
    kubectl.wait("mv", "kws-en", "Ready", "True", "Serving", seconds=60)

    def ready(count: int, milli: int) -> Callable[[], bool]:
        def probe() -> bool:
            set_cpu(milli)
            found = kubectl.get("mv", "kws-en")
            seen = (found["spec"]["replicas"], found["status"].get("readyReplicas"))
            assert seen == (count, count), (seen, kubectl.get("hpa", "kws-en").get("status"))
            return True

        return probe

    kubectl.wait_for(ready(3, 200), "three where two hundred are used, seventy by each", HPA_SECONDS)
    operator.settle()
    wait_for_quiet(control_plane)
    before = writes(control_plane)
    until = time.monotonic() + 15  # the controller looks several times: watching is the test
    while time.monotonic() < until:
        set_cpu(210)
        time.sleep(0.5)
    after = writes(control_plane)
    assert after == before, "nothing is written while nothing changes"
    assert not kubectl.condition("mv", "kws-en", "Degraded")

    kubectl.wait_for(ready(1, 5), "one again", HPA_SECONDS)
    assert of_scale(writes(control_plane)) - of_scale(before) <= 2, "each step once"

    kubectl.patch("mv", "kws-en", {"spec": {"scaling": {"mode": "Demand"}}})
    told = kubectl.wait("mv", "kws-en", "Degraded", "True", "ScalerConflict")
    assert "HorizontalPodAutoscaler 'kws-en'" in told["message"]
    kubectl("delete", "hpa/kws-en")
    kubectl.wait_for(
        lambda: (
            "Degraded" not in {one["type"] for one in kubectl.get("mv", "kws-en")["status"]["conditions"]}
        ),
        "the conflict is over",
    )


def test_kubectl_scales_through_the_subresource(operator: Operator, kubectl: Kubectl) -> None:
    kubectl.apply(engine(), variant())
    kubectl.wait("mv", "kws-en", "Ready", "True", "Serving")
    kubectl("scale", "mv/kws-en", "--replicas=2", "--current-replicas=1")
    kubectl.wait_for(
        lambda: kubectl.get("mv", "kws-en")["status"].get("readyReplicas") == 2, "both are ready"
    )
    path = f"/apis/roundhouse.dev/v1alpha1/namespaces/{kubectl.namespace}/modelvariants/kws-en/scale"
    scale = json.loads(kubectl("get", "--raw", path))
    assert scale["spec"]["replicas"] == scale["status"]["replicas"] == 2
    assert len(kubectl.list("pods", scale["status"]["selector"])) == 2


def test_an_autoscaler_of_a_variant_that_shares_pods_is_told_to_be_in_vain(
    operator: Operator, kubectl: Kubectl
) -> None:
    kubectl.apply(engine(serving={"type": "Shared"}), variant(), hpa())
    told = kubectl.wait("mv", "kws-en", "Degraded", "True", "NotAutoscalable")
    assert "HorizontalPodAutoscaler 'kws-en'" in told["message"]

    def refused() -> bool:
        conditions = kubectl.get("hpa", "kws-en").get("status", {}).get("conditions", ())
        return "InvalidSelector" in {one["reason"] for one in conditions}

    kubectl.wait_for(refused, "its own controller says that it cannot work", HPA_SECONDS)
    kubectl("delete", "hpa/kws-en")
    kubectl.wait_for(
        lambda: not kubectl.condition("mv", "kws-en", "Degraded"), "nothing is said of what is gone"
    )


def test_a_scaled_object_of_keda_may_be_set_upon_a_variant(control_plane: Cluster, kubectl: Kubectl) -> None:
    """Its published schema is here, and KEDA reaches the variant by `scale`, as an HPA does."""
    definition = ROOT / "tests/data/keda/keda.sh_scaledobjects.yaml"
    try:
        control_plane.define(definition)
        example = (EXAMPLES / "keda.yaml").read_text()
        strict = ("apply", "--dry-run=server", "--validate=strict", "-f", "-")
        kubectl.wait_for(lambda: kubectl(*strict, input=example), "the definition is served")
        with pytest.raises(ClusterError, match="maxReplicas"):
            kubectl(*strict, input=example.replace("maxReplicaCount", "maxReplicas"))
        target = yaml.safe_load(example)["spec"]["scaleTargetRef"]
        assert (target["apiVersion"], target["kind"]) == (API_VERSION, "ModelVariant")
    finally:
        control_plane.kubectl("delete", "-f", str(definition), "--wait=false")

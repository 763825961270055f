"""Every kind of source through the operator: its Secret, the loader in the pod, and an engine that hears."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.local import Cluster
from tests.cluster.operator.harness import Kubectl
from tests.cluster.weights.conftest import REPO, StartOperator, reference
from tests.cluster.weights.hearing import heard
from tests.support import s3
from tests.support.gcs import Buckets
from tests.support.oci import ImageRegistry, docker_config, gzipped
from tests.support.origin import Origin
from tests.support.recordings import GO_FORWARD_WORDS
from tests.support.tls import Authority
from tests.unit.operator.samples import engine, variant

Model = Mapping[str, bytes]
LOGIN = ("robot", "pa55word-of-the-robot")
HEADERS = {"X-Api-Key": "k3y-of-the-origin"}


@dataclass(frozen=True, slots=True)
class Served:
    """The model at a place that opens to a Secret alone."""

    source: dict[str, Any]
    secret: dict[str, str]
    loader_env: dict[str, str] = field(default_factory=dict)
    authorities: str = ""


def from_s3(stack: ExitStack, cluster: Cluster, model: Model, folder: Path) -> Served:
    store = stack.enter_context(s3.s3_server(folder, host=_host(cluster)))
    store.put("models", {f"sphinx/{path}": body for path, body in model.items()})
    where = {"bucket": "models", "prefix": "sphinx", "endpointURL": store.url, "region": "us-east-1"}
    return Served(
        {"type": "S3", "s3": {**where, "credentialsSecretRef": {"name": "door"}}},
        {"AWS_ACCESS_KEY_ID": s3.ACCESS, "AWS_SECRET_ACCESS_KEY": s3.SECRET},
    )


def from_gcs(stack: ExitStack, cluster: Cluster, model: Model, _: Path) -> Served:
    buckets = stack.enter_context(Buckets(host=_host(cluster)))
    buckets.private = True
    buckets.files |= {f"models/sphinx/{path}": body for path, body in model.items()}
    gcs = {"bucket": "models", "prefix": "sphinx", "credentialsSecretRef": {"name": "door"}}
    emulator = {"STORAGE_EMULATOR_HOST": buckets.url}
    return Served({"type": "GCS", "gcs": gcs}, {"key.json": buckets.account()}, loader_env=emulator)


def from_oci(stack: ExitStack, cluster: Cluster, model: Model, folder: Path) -> Served:
    """A registry whose certificate no public authority has signed, as those of companies are."""
    folder.mkdir()
    authority = Authority(folder)
    registry = stack.enter_context(ImageRegistry(login=LOGIN, host=_host(cluster)))
    registry.put("models/sphinx", "1", [gzipped({f"model/{path}": body for path, body in model.items()})])
    authority.encrypt(registry)
    authority.encrypt(registry.store)
    image = f"{registry.address}/models/sphinx:1"
    oci = {"image": image, "path": "model", "pullSecretRef": {"name": "door"}}
    config = docker_config(registry.address, LOGIN)
    return Served({"type": "OCI", "oci": oci}, {".dockerconfigjson": config}, authorities=authority.pem)


def from_http(stack: ExitStack, cluster: Cluster, model: Model, _: Path) -> Served:
    archive = gzipped(dict(model)).body
    origin = stack.enter_context(Origin({"sphinx.tar.gz": archive}, host=_host(cluster)))
    origin.wanted_headers = HEADERS
    http = {"url": f"{origin.url}/sphinx.tar.gz", "sha256": hashlib.sha256(archive).hexdigest()}
    return Served({"type": "HTTP", "http": {**http, "headersSecretRef": {"name": "door"}}}, HEADERS)


def _host(cluster: Cluster) -> str:
    """This machine, as pods reach it."""
    return str(cluster.layout.addresses.host_address)


@pytest.fixture(params=[from_s3, from_gcs, from_oci, from_http])
def served(
    request: pytest.FixtureRequest, cluster: Cluster, model: dict[str, bytes], tmp_path: Path
) -> Iterator[Served]:
    with ExitStack() as stack:
        yield request.param(stack, cluster, model, tmp_path / "server")


@pytest.mark.req("S2-14")
def test_a_model_comes_from_its_source_by_its_secret_and_hears(
    served: Served, kubectl: Kubectl, start_operator: StartOperator
) -> None:
    operator = start_operator(served.authorities, **served.loader_env)
    workload: dict[str, Any] = {"image": reference("pocketsphinx"), "imagePullPolicy": "Never"}
    source = {**served.source, "format": "Sphinx"}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "door", "labels": {"roundhouse.dev/credential": "weights"}},
        "stringData": served.secret,
    }
    kubectl.apply(
        secret,
        engine("sphinx", workload=workload),
        variant("one", on="sphinx", source=source, engineModelName=REPO),
    )
    kubectl.wait("mv", "one", "Ready", "True", "Serving", seconds=240)
    assert heard(kubectl, "roundhouse.dev/variant=one") == GO_FORWARD_WORDS
    said = kubectl("get", "mv,pods", "-o", "yaml") + operator.log.read_text()
    assert not [secret for secret in served.secret.values() if secret in said]

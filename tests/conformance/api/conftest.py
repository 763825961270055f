"""The API server of the table."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest
from kubernetes.client import ApiClient, Configuration
from kubernetes.config import load_kube_config

from tests.cluster.local import Cluster
from tests.conformance.api.table import Shelf


@pytest.fixture(scope="module")
def shelf(control_plane: Cluster) -> Iterator[Shelf]:
    """A namespace of a module's own; names in the table and of examples are distinct within a kind."""
    namespace = f"test-{secrets.token_hex(4)}"
    control_plane.kubectl("create", "namespace", namespace)
    configuration = Configuration()
    load_kube_config(  # type: ignore[no-untyped-call]  # the client is typed in part
        config_file=str(control_plane.kubeconfig), client_configuration=configuration
    )
    with ApiClient(configuration) as client:
        yield Shelf(client, namespace)
    control_plane.kubectl("delete", "namespace", namespace, "--wait=false")

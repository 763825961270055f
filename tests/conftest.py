"""Fixtures that need a cluster. They start one on first use and end what they started.

Nothing is imported or looked for before a test asks, so unit tests run on a machine that has none of it.

Numbers: the control plane is 2 and the full cluster 1, both shifted by ROUNDHOUSE_TEST_CLUSTER_BASE. Of
several workers beside each other each has clusters of its own, four numbers further on. What another run of
tests has is left to it, and the first number that is free is taken.
ROUNDHOUSE_KEEP_CLUSTER=1 leaves them running for the next run.
"""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.second_chance import (  # noqa: F401 - hooks
    pytest_collection_modifyitems,
    pytest_configure,
    pytest_sessionfinish,
    pytest_terminal_summary,
)

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler import LoadFileScheduling

    from tests.cluster.local import Cluster
    from tests.cluster.local.layout import Mode

CRDS = Path(__file__).parents[1] / "crds"
NUMBERS_PER_WORKER = 4
FUZZ = int(os.environ.get("FUZZ", "0"))

# A property test is bounded by its examples: how long one takes says how loaded the machine is. They are the
# same in each run, so that a change is judged by what it changed; `make fuzz` draws new ones.
settings.register_profile("same", deadline=None, derandomize=True, database=None)
settings.register_profile("new", deadline=None, max_examples=max(FUZZ, 1))
settings.load_profile("new" if FUZZ else "same")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: "Producer") -> "LoadFileScheduling | None":
    """Workers beside each other share the clusters out among them, where they are dealt whole files."""
    from tests.scheduling import ByCluster  # noqa: PLC0415 - see the module's docstring

    return ByCluster(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.fixture(scope="session")
def control_plane() -> "Iterator[Cluster]":
    """API server, controllers, scheduler and fake nodes; no kubelet. Holds the project's CRDs."""
    yield from _cluster(2, "control-plane")


@pytest.fixture(scope="session")
def cluster() -> "Iterator[Cluster]":
    """A whole cluster with one real node. Holds the project's CRDs."""
    yield from _cluster(1, "full")


@pytest.fixture
def namespace(request: pytest.FixtureRequest) -> Iterator[str]:
    """A new namespace in the cluster that the test uses: `cluster` if asked for, else `control_plane`."""
    name = "cluster" if "cluster" in request.fixturenames else "control_plane"
    used: Cluster = request.getfixturevalue(name)
    created = f"test-{secrets.token_hex(4)}"
    used.kubectl("create", "namespace", created)
    used.wait_for_service_account(created)
    yield created
    used.kubectl("delete", "namespace", created, "--wait=false")


def _cluster(number: int, mode: "Mode") -> "Iterator[Cluster]":
    from tests.cluster.local import for_tests  # noqa: PLC0415 - see the module's docstring

    number += int(os.environ.get("ROUNDHOUSE_TEST_CLUSTER_BASE", "0")) + NUMBERS_PER_WORKER * _worker()
    with for_tests(number, mode, keep=os.environ.get("ROUNDHOUSE_KEEP_CLUSTER") == "1") as started:
        crds = sorted(CRDS.glob("*.yaml"))
        if crds:
            started.define(*crds)
        yield started


def _worker() -> int:
    """Which of the workers of pytest-xdist this is; the first where there is but one process."""
    return int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))

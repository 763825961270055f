"""Clusters come up, stand side by side, survive bad luck, and leave the machine as it was."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.cluster.footprint import footprint
from tests.cluster.local import Cluster, ClusterError, down, lifecycle, start
from tests.cluster.local.addresses import addresses
from tests.cluster.local.build import ensure_binaries
from tests.cluster.local.claims import NOBODY, claimed, holder
from tests.cluster.local.identity import Identity
from tests.cluster.local.paths import repository_root, state_folder
from tests.support.waiting import wait_until

# The last numbers: nobody's demo and no fixture uses them.
ONE, OTHER = 14, 15

FOREIGN_ETCD = """
import socket, time
held = [socket.create_server(("", port)) for port in (2379, 2380, 6443, 10250)]
time.sleep(300)
"""


@pytest.fixture
def clean() -> Iterator[None]:
    """Takes down what the test brought up, whatever became of it, and checks that nothing is left.

    The numbers are the same in every run: one that comes meanwhile waits for its turn.
    """
    with ExitStack() as claims:

        def ours(number: int) -> bool:
            return holder(number) == NOBODY and claims.enter_context(claimed(number))

        for number in (ONE, OTHER):
            wait_until(partial(ours, number), seconds=200, what=f"no other tests use cluster {number}")
        before = footprint(ONE, OTHER)
        yield
        down(ONE)
        down(OTHER)
        assert before.changed_to(footprint(ONE, OTHER)) == {}


@contextmanager
def bring_up(number: int, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """`up` as a person runs it, ended by the test."""
    command = [sys.executable, "-m", "tests.cluster.local", "up", "--number", str(number), *arguments]
    process = subprocess.Popen(command, cwd=repository_root(), stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def kill_at(step: str, number: int) -> None:
    """Bring a whole cluster up and kill its first process as soon as the step is done."""
    with bring_up(number) as process:
        assert process.stderr
        for line in process.stderr:
            if f": {step} (" in line:
                break
        identity = Identity.read(state_folder(number) / "cluster.json")
        assert identity
        os.kill(identity.pid, signal.SIGKILL)
        rest = process.stderr.read()
        assert process.wait() == 1
        assert "Run `up` again" in rest


def test_two_whole_clusters_stand_side_by_side_beside_foreign_things(clean: None) -> None:
    with foreign_network(), foreign_etcd() as etcd:
        before = footprint(ONE, OTHER)
        one, other = start(ONE), start(OTHER)
        first = lifecycle.first_process(one.layout)
        assert start(ONE).kubeconfig == one.kubeconfig
        assert lifecycle.first_process(one.layout) == first, "what runs is found, not made anew"
        for cluster in (one, other):
            pods = cluster.kubectl("get", "pods", "-A", "-o", "jsonpath={.items[*].status.phase}")
            assert pods == "Running"
        cluster_ids = {
            c.kubectl("get", "ns", "kube-system", "-o", "jsonpath={.metadata.uid}") for c in (one, other)
        }
        assert len(cluster_ids) == 2
        # The comparison below means something: it sees a cluster that is there.
        seen = {"processes", "interfaces", "routes", "listeners", "cgroups", "folders"}
        assert set(before.changed_to(footprint(ONE, OTHER))) == seen

        down(ONE)
        assert other.kubectl("get", "node", "-o", "name").split() == ["node/node1"]
        down(OTHER)
        assert before.changed_to(footprint(ONE, OTHER)) == {}
        assert etcd.poll() is None


@contextmanager
def foreign_network() -> Iterator[None]:
    """A bridge and a packet filter table named as Kubernetes' own usually are."""
    subprocess.run(["ip", "link", "add", "cni0", "type", "bridge"], check=True)
    subprocess.run(["nft", "add", "table", "ip", "kube-proxy"], check=True)
    try:
        yield
    finally:
        subprocess.run(["nft", "delete", "table", "ip", "kube-proxy"], check=True)
        subprocess.run(["ip", "link", "delete", "cni0"], check=True)


@contextmanager
def foreign_etcd() -> Iterator["subprocess.Popen[bytes]"]:
    """Something that holds the ports of etcd, API server and kubelet on this machine."""
    process = subprocess.Popen([sys.executable, "-c", FOREIGN_ETCD])
    try:
        wait_until(lambda: _listens(2379), seconds=60, what="the foreign etcd listens")
        yield process
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("step", ["network", "kube-apiserver", "kubelet"])
def test_a_bring_up_that_was_killed_can_be_repeated_or_taken_down(clean: None, step: str) -> None:
    kill_at(step, ONE)
    assert lifecycle.find(ONE) is None
    if step == "kube-apiserver":
        assert start(ONE, "control-plane").kubectl("get", "--raw", "/readyz") == "ok"


def test_killing_the_command_leaves_the_cluster_to_the_next_command(clean: None) -> None:
    with bring_up(ONE, "--control-plane") as process:
        assert process.stderr
        process.stderr.readline()
    assert start(ONE, "control-plane").kubectl("get", "--raw", "/readyz") == "ok"


def test_a_component_that_dies_is_started_again(control_plane: Cluster) -> None:
    before, pid = restarts(control_plane, "kube-scheduler") or 0, process_of(control_plane, "kube-scheduler")
    os.kill(pid, signal.SIGKILL)
    wait_until(
        lambda: (restarts(control_plane, "kube-scheduler") or 0) > before,
        seconds=60,
        what="the scheduler runs again",
    )
    assert process_of(control_plane, "kube-scheduler") != pid


def test_a_machine_that_shuts_down_is_not_kept_waiting(clean: None) -> None:
    cluster = start(ONE, "control-plane")
    os.kill(lifecycle.first_process(cluster.layout), signal.SIGTERM)
    wait_until(lambda: lifecycle.find(ONE) is None, seconds=30, what="the cluster has ended")


def test_down_ends_what_a_test_left_in_the_fake_pods_network(clean: None) -> None:
    cluster = start(ONE, "control-plane")
    left = cluster.run_in_fake_pod_net([sys.executable, "-c", "import time; time.sleep(300)"])
    wait_until(lambda: in_network(cluster, left.pid), seconds=60, what="it is in the cluster's network")
    down(ONE)
    assert left.wait(timeout=100) == -signal.SIGKILL


def test_a_port_that_is_taken_is_told_with_its_holder(clean: None) -> None:
    port = addresses(ONE).api_port_on_host
    told = rf"port {port} .* held by .*\(pid {os.getpid()}\)(?s:.*)--number"
    with socket.create_server(("127.0.0.1", port)), pytest.raises(ClusterError, match=told):
        start(ONE, "control-plane")
    assert not state_folder(ONE).exists()


def test_an_address_that_is_taken_is_told_with_its_holder(clean: None) -> None:
    taken = f"{addresses(ONE).fake_pods[5]}/32"
    subprocess.run(["ip", "address", "add", taken, "dev", "lo"], check=True)
    try:
        with pytest.raises(ClusterError, match=rf"interface 'lo' holds {taken}"):
            start(ONE, "control-plane")
    finally:
        subprocess.run(["ip", "address", "delete", taken, "dev", "lo"], check=True)


def test_a_step_that_fails_says_which_and_why(
    clean: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ensure_binaries(lambda _: None)
    for binary in real.iterdir():
        (tmp_path / binary.name).symlink_to(binary)
    (tmp_path / "kube-apiserver").unlink()
    (tmp_path / "kube-apiserver").write_text("#!/bin/sh\necho flag provided but not defined >&2\nexit 2\n")
    (tmp_path / "kube-apiserver").chmod(0o755)
    monkeypatch.setattr(lifecycle, "ensure_binaries", lambda *_: tmp_path)
    with pytest.raises(
        ClusterError, match=r"'kube-apiserver' failed(?s:.*)flag provided but not defined"
    ) as failure:
        start(ONE, "control-plane")
    assert "run `up` again" in str(failure.value)


def test_a_cluster_that_tests_use_is_not_ended_by_others(control_plane: Cluster) -> None:
    number = str(control_plane.number)
    command = [sys.executable, "-m", "tests.cluster.local", "down", "--number", number]
    refused = subprocess.run(command, cwd=repository_root(), capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert f"cluster {number} is used by tests (process {os.getpid()})" in refused.stderr
    assert control_plane.kubectl("get", "--raw", "/readyz") == "ok"


def test_a_control_plane_is_not_taken_for_a_whole_cluster(control_plane: Cluster) -> None:
    with pytest.raises(ClusterError, match="runs as a control plane alone"):
        start(control_plane.number)


def process_of(cluster: Cluster, name: str) -> int:
    """The machine's number of a component's process: the supervisor knows only its own namespace's."""
    binary = cluster.layout.binary(name).encode()
    identity = Identity.read(cluster.layout.identity)
    assert identity
    for pid in identity.processes():
        if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(binary):
            return pid
    return 0


def restarts(cluster: Cluster, name: str) -> int | None:
    state = lifecycle.components(cluster.layout)[name]
    return state["restarts"] if state["pid"] else None


def in_network(cluster: Cluster, pid: int) -> bool:
    identity = Identity.read(cluster.layout.identity)
    return identity is not None and pid in identity.processes()

"""One's own cluster, named by ROUNDHOUSE_CONTEXT: used as it is and never brought up or taken down.

Decides which kubeconfig stands for it and keeps its forwarders; everything lies in one folder that `down`
removes.
"""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support.progress import Say

from .build import ensure_binaries
from .errors import ClusterError
from .exposing import service_port
from .identity import Identity
from .machine import check_port, port_holder
from .paths import cache_root, repository_root
from .pins import TOOL_NAMES
from .processes import kubectl, kubectl_json

VARIABLE = "ROUNDHOUSE_CONTEXT"


@dataclass(frozen=True, slots=True)
class ForeignCluster:
    """A kube context of the person's own, and the folder that keeps what this project made for it."""

    context: str
    folder: Path
    binaries: Path

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"


def named_context() -> str | None:
    return os.environ.get(VARIABLE) or None


def connect(context: str, say: Say) -> ForeignCluster:
    """Check that the cluster answers, and write a kubeconfig of that context alone."""
    cluster = _cluster(context, ensure_binaries(say, TOOL_NAMES))
    chosen = ("config", "view", "--minify", "--flatten", f"--context={context}")
    try:
        text = kubectl(cluster.binaries, None, *chosen)
        kubectl(
            cluster.binaries, None, f"--context={context}", "get", "--raw", "/readyz", "--request-timeout=15s"
        )
    except ClusterError as error:
        raise ClusterError(
            f"{VARIABLE} names the kube context {context!r}, which cannot be used: {error}\n"
            f"Check it with `kubectl --context {context} get nodes`, or unset {VARIABLE} for a local cluster."
        ) from error
    cluster.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    cluster.kubeconfig.touch(mode=0o600)
    cluster.kubeconfig.write_text(text)
    return cluster


def expose(cluster: ForeignCluster, namespace: str, service: str, port: int, target: str | None) -> str:
    """Keep a `kubectl port-forward` running from 127.0.0.1:`port`; a second call replaces the first."""
    found = kubectl_json(
        cluster.binaries, cluster.kubeconfig, "get", "service", service, "--namespace", namespace
    )
    number = service_port(found, target)
    record = cluster.folder / f"forward-{port}.json"
    _end(record)
    check_port(port, f"service {namespace}/{service}")
    command = [str(cluster.binaries / "kubectl"), f"--kubeconfig={cluster.kubeconfig}", "port-forward"]
    command += ["--address=127.0.0.1", f"--namespace={namespace}", f"service/{service}", f"{port}:{number}"]
    with (cluster.folder / f"forward-{port}.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.repeat", *command],
            cwd=repository_root(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    Identity.of_process(process.pid, network=0).write(record)
    return f"127.0.0.1:{port}"


def disconnect(context: str) -> bool:
    """End the forwarders and remove the folder. The cluster is left alone."""
    cluster = _cluster(context, Path())
    if not cluster.folder.exists():
        return False
    for record in cluster.folder.glob("forward-*.json"):
        _end(record)
    shutil.rmtree(cluster.folder)
    with suppress(OSError):
        cluster.folder.parent.rmdir()
    return True


def forwards(context: str) -> dict[int, str | None]:
    """Port → who listens on it now."""
    records = _cluster(context, Path()).folder.glob("forward-*.json")
    ports = sorted(int(record.stem.removeprefix("forward-")) for record in records)
    return {port: port_holder(port) for port in ports}


def _cluster(context: str, binaries: Path) -> ForeignCluster:
    # A context's name may hold anything, also slashes (EKS names are ARNs).
    name = hashlib.sha256(context.encode()).hexdigest()[:12]
    return ForeignCluster(context, cache_root() / "contexts" / name, binaries)


def _end(record: Path) -> None:
    identity = Identity.read(record)
    if identity and identity.alive:
        with suppress(ProcessLookupError):
            os.killpg(identity.pid, signal.SIGTERM)
    record.unlink(missing_ok=True)

"""The cluster that the demo works on: a local one, or the kube context that ROUNDHOUSE_CONTEXT names.

Decides how images reach it and how its gateway is reached; what is installed there is the same for both.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .steps import ROOT, DemoError, python, run

LOCAL_REGISTRY = "localhost/roundhouse"


@dataclass(frozen=True, slots=True)
class Target:
    """Where kubectl and helm go, where images come from, where the gateway answers. Local: no `context`."""

    environment: dict[str, str]
    registry: str
    url: str
    context: str = ""

    def kubectl(self, *arguments: str) -> str:
        return run(["kubectl", *arguments], environment=self.environment)

    def load(self, archives: Sequence[str]) -> None:
        """Make the images known to a local cluster; another pulls them from its registry."""
        if not self.context:
            python("tests.cluster.local", "load", *archives)


def find_target() -> Target:
    """The cluster to use, brought up first if it is a local one."""
    context = os.environ.get("ROUNDHOUSE_CONTEXT", "")
    return _foreign(context) if context else _local()


def _local() -> Target:
    from tests.cluster.local import start  # noqa: PLC0415 - nothing of a local cluster is wanted for a foreign one

    cluster = start(0, say=lambda line: print(f"  {line}", flush=True))
    return Target(cluster.environment, LOCAL_REGISTRY, cluster.gateway_url)


def _foreign(context: str) -> Target:
    registry = os.environ.get("ROUNDHOUSE_REGISTRY", "")
    if not registry:
        raise DemoError(
            f"ROUNDHOUSE_CONTEXT={context!r} is a cluster that cannot see this machine's images: push them "
            "with `make images PUSH=<registry>` and set ROUNDHOUSE_REGISTRY=<registry> as well"
        )
    kubeconfig = ROOT / "build/kubeconfig"
    kubeconfig.parent.mkdir(exist_ok=True)
    kubeconfig.write_text(run(["kubectl", "config", "view", "--minify", "--flatten", "--context", context]))
    kubeconfig.chmod(0o600)
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}
    return Target(environment, registry, "http://127.0.0.1:18080", context)


def archives() -> list[str]:
    """The image archives of this checkout."""
    return [str(Path(line)) for line in python("tests.images", "archives", quiet=True).split()]

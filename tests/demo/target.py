"""The cluster that the demo works on: a local one, or the kube context that ROUNDHOUSE_CONTEXT names.

Decides how images reach it; what is installed there, and how the gateway is reached, is the same for both.
"""

import os
import re
from dataclasses import dataclass

from .steps import DemoError, project, run

LOCAL_REGISTRY = "localhost/roundhouse"
EXPORT = re.compile(r"^export (\w+)=(.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Target:
    """Where kubectl and helm go, where images come from, where the gateway answers. Local: no `context`."""

    environment: dict[str, str]
    registry: str
    url: str
    context: str

    def kubectl(self, *arguments: str) -> str:
        return run(["kubectl", *arguments], environment=self.environment)


def find_target() -> Target:
    """The cluster to use, brought up first if it is a local one."""
    context = os.environ.get("ROUNDHOUSE_CONTEXT", "")
    registry = os.environ.get("ROUNDHOUSE_REGISTRY", "") if context else LOCAL_REGISTRY
    if not registry:
        raise DemoError(
            f"the cluster of context {context!r} cannot see this machine's images: push them with "
            "`make images PUSH=<registry>`, and set ROUNDHOUSE_REGISTRY=<registry> as well"
        )
    if not context:
        project("tests.cluster.local", "install")
    exports = dict(EXPORT.findall(project("tests.cluster.local", "up")))
    path = exports["PATH"].replace("$PATH", os.environ.get("PATH", os.defpath))
    environment = {**os.environ, "KUBECONFIG": exports["KUBECONFIG"], "PATH": path}
    return Target(environment, registry, exports["ROUNDHOUSE_URL"], context)

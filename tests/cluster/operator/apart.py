"""Stories beside each other: each in a namespace of its own, with an operator and a proxy of its own.

A story waits more than it works, so several at once take hardly longer than one.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.local import Cluster
from tests.cluster.operator.api import Api
from tests.cluster.operator.harness import Operator
from tests.cluster.operator.nursery import Nursery
from tests.cluster.operator.proxy import Proxy, proxied


@dataclass(frozen=True)
class Stage:
    """Where one story is told."""

    api: Api
    proxy: Proxy
    operator: Operator
    """Not started yet."""

    def doing(self) -> str:
        """For who reads of a failure."""
        return f"{self.operator.alive()=} {self.operator.gauges()}"


@dataclass(frozen=True)
class Apart:
    """Call `stage` from any thread."""

    cluster: Cluster
    nursery: Nursery
    folder: Path

    @contextmanager
    def stage(self) -> Iterator[Stage]:
        """What fails in it is told with the operator's last words."""
        namespace = f"test-{secrets.token_hex(4)}"
        self.cluster.kubectl("create", "namespace", namespace)
        self.cluster.wait_for_service_account(namespace)
        log = self.folder / f"{namespace}.log"
        operator = Operator(self.cluster, namespace, log, spawn=self.nursery.spawn)
        with proxied(self.cluster.kubeconfig) as proxy:
            config = proxy.write_kubeconfig(self.folder / f"{namespace}.kubeconfig")
            operator.environment["KUBECONFIG"] = str(config)
            try:
                yield Stage(Api(proxy.url, namespace), proxy, operator)
            except AssertionError as error:
                raise AssertionError(f"{error}\n{log.read_text()[-4000:]}") from error
            finally:
                if operator.alive():
                    operator.stop()
                self.cluster.kubectl("delete", "namespace", namespace, "--wait=false")

"""The way to the API server: where it is, how it is known, and as whom one asks.

In a pod that is the service account, which is three files' worth of reading and is read here: the kubernetes
package would bring 20 MB and a second of imports into every gateway for it. A kubeconfig, with its
certificates, plugins and clouds, is that package's, which is imported where there is one.
"""

import os
import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
# The kubelet replaces a token when a fifth of its time is left: ten minutes at the least.
TOKEN_SECONDS: Final = 60.0


class ClusterError(Exception):
    """The API server cannot be reached or refuses; the text says what to do. `status` 0: not an answer."""

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(text)
        self.status = status


class Access(Protocol):
    @property
    def host(self) -> str:
        """Scheme, name and port."""

    @property
    def ssl(self) -> ssl.SSLContext: ...

    @property
    def server_name(self) -> str | None:
        """The name that its certificate has to carry, where that is not the host's."""

    @property
    def proxy(self) -> str | None: ...

    async def authorization(self) -> str:
        """The header's value; empty where a certificate says who asks. `ClusterError`."""


class ServiceAccount:
    """Who a pod is to the API server."""

    server_name = None
    proxy = None

    def __init__(self, environment: Mapping[str, str], folder: Path) -> None:
        host = environment["KUBERNETES_SERVICE_HOST"]
        self.host = f"https://{f'[{host}]' if ':' in host else host}:{environment['KUBERNETES_SERVICE_PORT']}"
        self._token = folder / "token"
        self._header, self._read_at = "", float("-inf")
        authority = folder / "ca.crt"
        try:
            self.ssl = ssl.create_default_context(cafile=authority)
        except (OSError, ssl.SSLError) as error:
            raise no_way(f"{authority} cannot be read: {error}.") from error
        self._read()

    async def authorization(self) -> str:
        if time.monotonic() - self._read_at > TOKEN_SECONDS:
            self._read()
        return self._header

    def _read(self) -> None:
        """A few hundred bytes of memory that the kubelet mounts: not worth a thread."""
        try:
            token = self._token.read_text().strip()
        except OSError as error:
            raise no_way(f"{self._token} cannot be read: {error}.") from error
        if not token:
            raise no_way(f"{self._token} is empty.")
        self._header, self._read_at = f"Bearer {token}", time.monotonic()


async def find(environment: Mapping[str, str] = os.environ, folder: Path | None = None) -> Access:
    """By KUBECONFIG where it is set, by the pod's service account in a pod, else by ~/.kube/config.

    `ClusterError` where there is none, or what is there cannot be read.
    """
    if "KUBECONFIG" not in environment and "KUBERNETES_SERVICE_HOST" in environment:
        return ServiceAccount(environment, folder or SERVICE_ACCOUNT)
    from roundhouse_gateway import kubeconfig  # noqa: PLC0415 - what it imports takes 20 MB

    return await kubeconfig.load()


def no_way(why: str) -> ClusterError:
    return ClusterError(
        f"no way to the API server: {why} Set KUBECONFIG, or run in a pod with a service account."
    )

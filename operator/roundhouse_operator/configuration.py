"""Where the API server is and who we are: a kubeconfig, or the pod's service account."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Final

from kubernetes.aio import config as kubernetes_config
from kubernetes.aio.client import Configuration

from roundhouse_operator.errors import ConfigurationError

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TOKEN_SECONDS: Final = 30.0
"""How old a token may be that was read: kubelet writes a new one long before the old one ends."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What somebody else needs to talk to the same API server in the same name. Files, and one header."""

    server: str
    ca_file: str | None
    certificate_file: str | None
    key_file: str | None
    insecure: bool
    scheme: str | None
    token: str | None


@dataclass(slots=True)
class Token:
    """A file whose content changes. The clock is monotonic: one that jumps keeps no old token alive."""

    path: Path
    clock: Callable[[], float] = monotonic
    _value: str = ""
    _read_at: float = float("-inf")

    def read(self) -> str:
        """As the file has it, or had it a moment ago; while it cannot be read, as it last was."""
        now = self.clock()
        if now - self._read_at > TOKEN_SECONDS:
            try:
                self._value = self.path.read_text().strip() or self._value
            except OSError:
                if not self._value:
                    raise
            self._read_at = now
        return self._value


async def load_configuration() -> Configuration:
    """`KUBECONFIG` if it is set, else the pod's service account, else the user's default kubeconfig."""
    configuration = Configuration()
    configuration.connection_pool_maxsize = 0  # each watch holds one; workers bound the others
    try:
        if "KUBECONFIG" not in os.environ and SERVICE_ACCOUNT.exists():
            _of_pod(configuration)
        else:
            await kubernetes_config.load_kube_config(  # type: ignore[no-untyped-call]
                os.environ.get("KUBECONFIG"), client_configuration=configuration
            )
    except kubernetes_config.ConfigException as error:
        raise ConfigurationError(
            f"{error}: set KUBECONFIG, or run as a pod with a service account"
        ) from error
    return configuration


def _of_pod(configuration: Configuration) -> None:
    kubernetes_config.load_incluster_config(client_configuration=configuration, try_refresh_token=False)  # type: ignore[no-untyped-call]
    token = Token(SERVICE_ACCOUNT / "token")

    def refresh(into: Configuration) -> None:
        into.api_key["BearerToken"] = f"Bearer {token.read()}"

    configuration.refresh_api_key_hook = refresh  # type: ignore[assignment]  # of which it says None


async def authorization(configuration: Configuration) -> str | None:
    """The header's value, with a token that is fresh."""
    settings = (await configuration.auth_settings()).get("BearerToken")
    return settings["value"] if settings else None


async def credentials(configuration: Configuration) -> Credentials:
    scheme, _, token = (await authorization(configuration) or "").partition(" ")
    return Credentials(
        server=configuration.host,
        ca_file=configuration.ssl_ca_cert,
        certificate_file=configuration.cert_file,
        key_file=configuration.key_file,
        insecure=not configuration.verify_ssl,
        scheme=scheme or None,
        token=token or None,
    )

"""The way to the API server by a kubeconfig, as the kubernetes package reads it. For who is not in a pod."""

import ssl

from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.client.rest import RESTClientObject
from kubernetes.aio.config import load_kube_config
from kubernetes.aio.config.config_exception import ConfigException

from roundhouse_gateway.api_access import Access, no_way


class Kubeconfig:
    """An `Access` by what a kubeconfig says."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self.ssl: ssl.SSLContext = RESTClientObject(configuration).ssl_context
        self.host: str = configuration.host
        self.server_name: str | None = configuration.tls_server_name
        self.proxy: str | None = configuration.proxy

    async def authorization(self) -> str:
        settings = await self._configuration.auth_settings()
        return str(settings.get("BearerToken", {}).get("value") or "")


async def load() -> Access:
    """By KUBECONFIG where it is set, else by ~/.kube/config. `ClusterError`."""
    configuration = Configuration()
    try:
        await load_kube_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    except ConfigException as error:
        raise no_way(str(error)) from error
    return Kubeconfig(configuration)

"""The API server asked without kubectl, for what is asked over and over.

Each start of kubectl costs more processor time than the answer. What a person would type stays kubectl's.
"""

import base64
import http.client
import json
import ssl
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from .errors import ClusterError

Manifest = dict[str, Any]
_DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_SECONDS = 30
_LATER = (http.client.TOO_MANY_REQUESTS, http.client.SERVICE_UNAVAILABLE)
"""As an API server answers that has just started."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind as the API server serves it."""

    root: str
    """`/api/v1` or `/apis/<group>/<version>`."""
    plural: str
    kind: str
    namespaced: bool

    @property
    def api_version(self) -> str:
        return self.root.removeprefix("/apis/").removeprefix("/api/")

    def path(self, namespace: str, name: str = "") -> str:
        scope = f"/namespaces/{namespace}" if self.namespaced else ""
        return f"{self.root}{scope}/{self.plural}" + (f"/{name}" if name else "")


@dataclass(slots=True)
class ApiServer:
    """One API server, as the user of its kubeconfig. May be used by several threads."""

    host: str
    port: int
    tls: ssl.SSLContext
    _resources: dict[str, Resource] = field(default_factory=dict)

    def get(self, what: str, name: str, namespace: str) -> Manifest | None:
        """`what` in any of kubectl's words for one kind; None where there is no such object."""
        return self.read(self._resource(what).path(namespace, name))

    def since(self, what: str, name: str, namespace: str, version: str) -> list[Manifest]:
        """Each state that the object has been in after `version`, a resourceVersion, the newest last."""
        query = f"watch=true&timeoutSeconds=1&fieldSelector=metadata.name={name}&resourceVersion={version}"
        status, body = self._get(f"{self._resource(what).path(namespace)}?{query}", "application/json")
        if status != http.client.OK:
            raise ClusterError(f"a watch of {what} was answered {status}: {body[:500]!r}")
        return [json.loads(line)["object"] for line in body.splitlines()]

    def list(self, what: str, namespace: str, selector: str = "") -> list[Manifest]:
        """Of one kind or of several, by a comma between them; as kubectl gives them."""
        return [
            item for each in what.split(",") for item in self._list(self._resource(each), namespace, selector)
        ]

    def _list(self, resource: Resource, namespace: str, selector: str) -> Iterator[Manifest]:
        found = self.read(f"{resource.path(namespace)}?labelSelector={quote(selector)}")
        for item in (found or {}).get("items", ()):
            item["metadata"].pop("managedFields", None)
            yield {"apiVersion": resource.api_version, "kind": resource.kind, **item}

    def read(self, path: str, accept: str = "application/json") -> Manifest | None:
        """The answer to a GET; None to 404, ClusterError to whatever else is no answer.

        One that is told to come later does, as kubectl would, for half a minute.
        """
        deadline = time.monotonic() + _SECONDS
        while (answer := self._get(path, accept))[0] in _LATER and time.monotonic() < deadline:
            time.sleep(0.2)
        status, body = answer
        if status == http.client.NOT_FOUND:
            return None
        if status != http.client.OK:
            raise ClusterError(f"GET {path!r} was answered {status}: {body[:500]!r}")
        found: Manifest = json.loads(body)
        return found

    def _get(self, path: str, accept: str) -> tuple[int, bytes]:
        connection = http.client.HTTPSConnection(self.host, self.port, timeout=_SECONDS, context=self.tls)
        try:
            connection.request("GET", path, headers={"Accept": accept})
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            raise ClusterError(f"GET {path!r} got no answer: {error!r}") from error
        finally:
            connection.close()

    def _resource(self, what: str) -> Resource:
        if what not in self._resources:
            self._resources = self._discovered()
        try:
            return self._resources[what]
        except KeyError:
            raise ClusterError(f"the API server serves no {what!r}") from None

    def _discovered(self) -> dict[str, Resource]:
        """By plural, by singular and by short name, each also with its group; the first served has it."""
        found: dict[str, Resource] = {}
        for root in ("/api", "/apis"):
            for group in (self.read(root, _DISCOVERY) or {})["items"]:
                name = group["metadata"].get("name", "")
                for version in group["versions"]:
                    base = "/".join(part for part in (root, name, version["version"]) if part)
                    for one in version["resources"]:
                        made = Resource(
                            base, one["resource"], one["responseKind"]["kind"], one["scope"] == "Namespaced"
                        )
                        words = (one["resource"], one["singularResource"], *one.get("shortNames", ()))
                        for word in words:
                            found.setdefault(word, made)
                            found.setdefault(f"{word}.{name}", made)
        return found


def tls_context(cluster: Manifest, user: Manifest) -> ssl.SSLContext:
    """For a cluster and a user of a kubeconfig that holds its certificates itself."""
    context = ssl.create_default_context(
        cadata=base64.b64decode(cluster["certificate-authority-data"]).decode()
    )
    with tempfile.NamedTemporaryFile() as file:
        parts = (base64.b64decode(user[f"client-{part}-data"]) for part in ("certificate", "key"))
        file.write(b"\n".join(parts))
        file.flush()
        context.load_cert_chain(file.name)
    return context


def api_server(kubeconfig: Path) -> ApiServer:
    """That of a local cluster's kubeconfig, which is JSON."""
    return _of(kubeconfig.read_text())


@lru_cache(maxsize=8)
def _of(kubeconfig: str) -> ApiServer:
    config = json.loads(kubeconfig)
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    server = urlsplit(cluster["server"])
    return ApiServer(str(server.hostname), int(server.port or 443), tls_context(cluster, user))

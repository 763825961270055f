"""The API server without kubectl: as quick as a loop over a hundred runs wants it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

from roundhouse_operator.core.kinds import Kind
from tests.cluster.operator.proxy import DRIVER

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Api:
    """One namespace, through a proxy that does not meddle with it."""

    url: str
    namespace: str

    def get(self, kind: Kind, name: str) -> Manifest | None:
        try:
            return self._send("GET", kind, f"/{name}")
        except FileNotFoundError:
            return None

    def list(self, kind: Kind, selector: str = "") -> list[Manifest]:
        items: list[Manifest] = self._send("GET", kind, f"?labelSelector={selector}")["items"]
        return items

    def apply(self, kind: Kind, manifest: Manifest) -> Manifest:
        path = f"/{manifest['metadata']['name']}?fieldManager=test&force=true"
        return self._send("PATCH", kind, path, manifest, "application/apply-patch+yaml")

    def patch(self, kind: Kind, name: str, patch: Manifest) -> Manifest:
        return self._send("PATCH", kind, f"/{name}", patch, "application/merge-patch+json")

    def delete(self, kind: Kind, name: str) -> None:
        self._send("DELETE", kind, f"/{name}")

    def _send(
        self,
        method: str,
        kind: Kind,
        path: str,
        body: Manifest | None = None,
        content: str = "application/json",
    ) -> Manifest:
        base = f"/apis/{kind.api_version}" if kind.group else f"/api/{kind.version}"
        scope = f"/namespaces/{self.namespace}" if kind.namespaced else ""
        request = urllib.request.Request(  # noqa: S310  # to the test's own proxy
            f"{self.url}{base}{scope}/{kind.plural}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": content, DRIVER: "1"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
                found: Manifest = json.loads(answer.read())
                return found
        except urllib.error.HTTPError as error:
            if error.code == 404:
                raise FileNotFoundError(request.full_url) from error
            raise AssertionError(f"{method} {request.full_url}: {error.code} {error.read()!r}") from error

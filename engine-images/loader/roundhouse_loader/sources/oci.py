"""A directory of an image, or an artifact, of a container registry."""

import platform
from collections.abc import Mapping
from typing import Any, Final

from roundhouse_loader.failure import LoadError, Reason
from roundhouse_loader.listing import Listing, RemoteFile, safe_path
from roundhouse_loader.partial import Sink
from roundhouse_loader.source import OCI
from roundhouse_loader.web import RefusedError, Web

from . import manifest
from .reference import parse_reference
from .registry import Registry, find_login

_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}


class OCIFetcher:
    """Fetches the blobs of `place.image`; what they hold is unpacked when they are there."""

    def __init__(
        self, place: OCI, credentials: Mapping[str, str], web: Web, plain_http: frozenset[str]
    ) -> None:
        self._reference = parse_reference(place.image)
        self._inside = safe_path(place.path) if place.path else ""
        self._where = f"the image {place.image!r}"
        self._web = web
        login = find_login(credentials.get(".dockerconfigjson"), self._reference)
        self._registry = Registry(self._reference, self._reference.base(plain_http), login, web)

    def listing(self) -> Listing:
        version = self._reference.version
        # The revision is that of the index, so that machines of every kind can come back to it.
        said, revision = self._manifest(version, version if self._reference.is_pinned else "")
        if manifest.is_index(said):
            machine = platform.machine()
            chosen = manifest.choose_manifest(said, _ARCHITECTURES.get(machine, machine), self._where)
            said, _ = self._manifest(chosen, chosen)
        files, parts = manifest.layered(manifest.blobs(said, self._where))
        return Listing(revision, files, parts, self._inside)

    def fetch(self, file: RemoteFile, sink: Sink, /) -> None:
        url = f"{self._registry.address}/blobs/{file.remote}"
        try:
            self._registry.ask(lambda headers: self._web.download(url, sink, secret_headers=headers))
        except RefusedError as refused:
            raise self._explained(refused) from refused

    def _manifest(self, version: str, digest: str) -> tuple[dict[str, Any], str]:
        url = f"{self._registry.address}/manifests/{version}"
        accept = {"Accept": manifest.ACCEPT}
        try:
            body, _ = self._registry.ask(
                lambda headers: self._web.text(url, headers=accept, secret_headers=headers)
            )
        except RefusedError as refused:
            raise self._explained(refused) from refused
        return manifest.parse(body, self._where), manifest.check_digest(body, digest, self._where)

    def _explained(self, refused: RefusedError) -> LoadError:
        match refused.status:
            case 401 | 403:
                return LoadError(
                    Reason.UNAUTHORIZED,
                    f"the registry refuses {self._where} (status {refused.status}): it does not exist, or "
                    "the login may not read it; check the name, and the login in `pullSecretRef`",
                )
            case 404:
                return LoadError(
                    Reason.SOURCE_NOT_FOUND, f"the registry has not {self._where}; check `oci.image`"
                )
            case status:
                return LoadError(
                    Reason.SOURCE_UNREACHABLE,
                    f"the registry answered {status} for {self._where}",
                    retryable=True,
                )

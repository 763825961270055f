"""A container registry to pull from, as registries really are: tokens, logins, blobs on another host.

Images are put into it layer by layer, so that they can be what no honest tool would make.
"""

import base64
import gzip
import hashlib
import io
import json
import re
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self, cast
from urllib.parse import parse_qs

import zstandard
from typing_extensions import override

from .origin import Fault, Origin, OriginHandler, Seen

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
PATH = re.compile(r"/v2/(?P<repository>.+)/(?P<kind>manifests|blobs)/(?P<reference>[^/]+)")


@dataclass(frozen=True, slots=True)
class Symlink:
    target: str


@dataclass(frozen=True, slots=True)
class HardLink:
    target: str


Entry = bytes | Symlink | HardLink | None  # None: a folder


@dataclass(frozen=True, slots=True)
class Layer:
    """A blob as a manifest names it."""

    body: bytes
    media_type: str = LAYER
    annotations: dict[str, str] = field(default_factory=dict)


class ImageRegistry(Origin):
    """Serves images while its context is open. `login` is user and password, if it wants them."""

    def __init__(
        self,
        *,
        login: tuple[str, str] | None = None,
        scheme: Literal["Bearer", "Basic"] = "Bearer",
        host: str = "127.0.0.1",
    ) -> None:
        super().__init__(host=host)
        self.login = login
        self.scheme = scheme
        self.stored: dict[str, bytes] = {}
        """Manifests by `<repository>:<tag or digest>`."""
        self.tokens: list[str] = []
        self.token_lives = -1
        """After so many requests a token is stale; negative: never."""
        self.store = Origin(host=host)
        """Where blobs are redirected to."""

    @override
    def handler(self) -> type[OriginHandler]:
        return _RegistryHandler

    @override
    def __enter__(self) -> Self:
        self.store.__enter__()
        return super().__enter__()

    @override
    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self.store.__exit__()

    @property
    def address(self) -> str:
        return f"{self.host}:{self.server_port}"

    def put(self, repository: str, tag: str, layers: Sequence[Layer]) -> str:
        """Store an image under a tag; its digest."""
        described = []
        for layer in layers:
            name = hashlib.sha256(layer.body).hexdigest()
            self.store.files[name] = layer.body
            described.append(
                {
                    "mediaType": layer.media_type,
                    "digest": f"sha256:{name}",
                    "size": len(layer.body),
                    **({"annotations": layer.annotations} if layer.annotations else {}),
                }
            )
        config = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": "sha256:" + "0" * 64, "size": 2}
        return self._keep(
            repository,
            tag,
            {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": described},
        )

    def put_index(self, repository: str, tag: str, images: Mapping[str, str]) -> str:
        """Store an index of images, digests by platform (`linux/amd64`)."""
        manifests = []
        for platform, digest in images.items():
            system, _, machine = platform.partition("/")
            manifests.append(
                {"mediaType": MANIFEST, "digest": digest, "platform": {"os": system, "architecture": machine}}
            )
        return self._keep(repository, tag, {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests})

    def _keep(self, repository: str, tag: str, manifest: dict[str, Any]) -> str:
        body = json.dumps(manifest).encode()
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        self.stored[f"{repository}:{tag}"] = self.stored[f"{repository}:{digest}"] = body
        return digest


class _RegistryHandler(OriginHandler):
    @property
    def registry(self) -> ImageRegistry:
        return cast("ImageRegistry", self.server)

    @override
    def route(self, seen: Seen, fault: Fault) -> None:
        if seen.path == "/token":
            self._token(seen)
        elif self._may(seen):
            self._serve(seen)

    def _serve(self, seen: Seen) -> None:
        found = PATH.fullmatch(seen.path)
        if found is None:
            self.answer(404)
        elif found["kind"] == "blobs":
            name = found["reference"].removeprefix("sha256:")
            self.answer(307, headers={"Location": f"{self.registry.store.url}/{name}?X-Amz-Signature=5igned"})
        elif body := self.registry.stored.get(f"{found['repository']}:{found['reference']}"):
            kind = json.loads(body)["mediaType"]
            if kind not in seen.headers.get("accept", ""):
                self.answer(404)
            else:
                self.answer(200, body, kind=kind)
        else:
            self.answer(404, b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}')

    def _may(self, seen: Seen) -> bool:
        registry = self.registry
        given = seen.headers.get("authorization", "")
        if registry.login is None or (registry.scheme == "Basic" and given == _basic(registry.login)):
            return True
        if registry.scheme == "Bearer" and given.removeprefix("Bearer ") in registry.tokens[-1:]:
            registry.token_lives -= 1
            if registry.token_lives == 0:
                registry.tokens.append("stale")
            return True
        challenge = f'Bearer realm="{registry.url}/token",service="tests"'
        self.answer(
            401, headers={"WWW-Authenticate": 'Basic realm="x"' if registry.scheme == "Basic" else challenge}
        )
        return False

    def _token(self, seen: Seen) -> None:
        registry = self.registry
        assert registry.login is not None
        query = parse_qs(seen.query)
        if seen.headers.get("authorization") != _basic(registry.login) or "scope" not in query:
            self.answer(401)
            return
        token = f"token-{len(registry.tokens)}-of-the-registry"
        registry.tokens.append(token)
        self.answer(200, json.dumps({"token": token, "expires_in": 60}).encode(), kind="application/json")


def _basic(login: tuple[str, str]) -> str:
    return "Basic " + base64.b64encode(":".join(login).encode()).decode()


def tar(entries: Mapping[str, Entry]) -> bytes:
    """A tar of these, in this order, names as they are."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, entry in entries.items():
            member = tarfile.TarInfo(name)
            content = None
            match entry:
                case bytes():
                    member.size, content = len(entry), io.BytesIO(entry)
                case Symlink():
                    member.type, member.linkname = tarfile.SYMTYPE, entry.target
                case HardLink():
                    member.type, member.linkname = tarfile.LNKTYPE, entry.target
                case None:
                    member.type = tarfile.DIRTYPE
            archive.addfile(member, content)
    return out.getvalue()


def gzipped(entries: Mapping[str, Entry]) -> Layer:
    return Layer(gzip.compress(tar(entries), mtime=0), f"{LAYER}+gzip")


def zstded(entries: Mapping[str, Entry]) -> Layer:
    return Layer(zstandard.compress(tar(entries)), f"{LAYER}+zstd")


def docker_config(registry: str, login: tuple[str, str]) -> str:
    """A .dockerconfigjson with one login."""
    auth = base64.b64encode(":".join(login).encode()).decode()
    return json.dumps({"auths": {registry: {"auth": auth}}})

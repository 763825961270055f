"""An image reference taken apart: registry, repository, tag or digest. Pure."""

import re
from dataclasses import dataclass
from typing import Final

from roundhouse_loader.failure import LoadError, Reason

DOCKER_HUB: Final = "docker.io"
_REPOSITORY: Final = re.compile(
    r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*"
)
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_HOST: Final = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(?::[0-9]+)?")
_LOOPBACK: Final = re.compile(r"localhost|127\.\d+\.\d+\.\d+|\[::1\]")


@dataclass(frozen=True, slots=True)
class Reference:
    """`registry` as credentials name it; `version` is a tag, or a digest where one is given."""

    registry: str
    repository: str
    version: str

    @property
    def is_pinned(self) -> bool:
        return self.version.startswith("sha256:")

    def base(self, plain_http: frozenset[str]) -> str:
        """The address of the registry's API. Plain HTTP only to this very host, and where it is named."""
        if self.registry == DOCKER_HUB:
            return "https://registry-1.docker.io/v2"
        host = re.sub(r":\d+$", "", self.registry)
        plain = _LOOPBACK.fullmatch(host) or self.registry in plain_http
        return f"{'http' if plain else 'https'}://{self.registry}/v2"


def parse_reference(text: str) -> Reference:
    """`text` taken apart as container runtimes do; raises LoadError InvalidSource."""
    rest, at, digest = text.partition("@")
    first, slash, path = rest.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        registry, rest = first, path
    else:
        registry = DOCKER_HUB
        rest = rest if slash else f"library/{rest}"
    repository, colon, tag = rest.partition(":")
    if registry in {"index.docker.io", "registry-1.docker.io"}:
        registry = DOCKER_HUB
    sound = (
        _HOST.fullmatch(registry)
        and _REPOSITORY.fullmatch(repository)
        and (not colon or _TAG.fullmatch(tag))
        and (not at or _DIGEST.fullmatch(digest))
    )
    if not sound:
        raise LoadError(
            Reason.INVALID_SOURCE,
            f"oci.image is {text!r}; give registry/repository:tag or registry/repository@sha256:…",
        )
    return Reference(registry, repository, digest or tag or "latest")

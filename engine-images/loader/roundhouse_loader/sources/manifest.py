"""What a registry says of an image: which manifest is ours, which blobs it has, what each holds. Pure."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from roundhouse_loader.failure import LoadError, Reason
from roundhouse_loader.listing import Algorithm, Digest, Part, RemoteFile

INDEXES: Final = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MANIFESTS: Final = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
ACCEPT: Final = ", ".join((*MANIFESTS, *INDEXES))
_SHA256: Final = re.compile(r"sha256:([0-9a-f]{64})")
_TITLES: Final = ("org.opencontainers.image.title", "org.cncf.model.filepath")
_UNPACK: Final = "io.deis.oras.content.unpack"
_MODELPACK: Final = "application/vnd.cncf.model."


@dataclass(frozen=True, slots=True)
class Blob:
    """A layer of an image, or a file of an artifact."""

    file: RemoteFile
    part: Part


def parse(body: bytes, where: str) -> dict[str, Any]:
    try:
        said = json.loads(body)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise _invalid(where, "is no manifest")
    return said


def check_digest(body: bytes, wanted: str, where: str) -> str:
    """The digest of a manifest's bytes; raises LoadError where another one is wanted."""
    found = f"sha256:{hashlib.sha256(body).hexdigest()}"
    if wanted and wanted != found:
        raise LoadError(
            Reason.DIGEST_MISMATCH, f"{where}: the registry sent a manifest of digest {found} for {wanted}"
        )
    return found


def is_index(manifest: Mapping[str, Any]) -> bool:
    return isinstance(manifest.get("manifests"), list)


def choose_manifest(index: Mapping[str, Any], architecture: str, where: str) -> str:
    """The digest of the manifest for Linux on `architecture`, or of the only one that there is."""
    there = [each for each in index["manifests"] if isinstance(each, dict)]
    platforms = [_platform(each) for each in there]
    wanted = ("linux", architecture)
    fitting = [each for each, platform in zip(there, platforms, strict=True) if platform == wanted]
    if not fitting and len(there) == 1:
        fitting = there
    if not fitting:
        names = ", ".join(sorted({"/".join(platform) for platform in platforms})) or "none"
        raise LoadError(
            Reason.SOURCE_NOT_FOUND, f"{where} is there for {names}, and not for {'/'.join(wanted)}"
        )
    return _digest(fitting[0], where)


def blobs(manifest: Mapping[str, Any], where: str) -> list[Blob]:
    """The blobs of an image manifest in their order; raises LoadError where it is none."""
    layers = manifest.get("layers")
    if not isinstance(layers, list) or not layers:
        raise _invalid(where, "has no layers")
    return [_blob(layer, where) for layer in layers]


def _blob(layer: Mapping[str, Any], where: str) -> Blob:
    digest, size = _digest(layer, where), layer.get("size")
    if not isinstance(size, int) or size < 0:
        raise _invalid(where, f"names no size for the layer {digest}")
    name = digest.partition(":")[2]
    file = RemoteFile(name, size, digest, digest, Digest(Algorithm.SHA256, name))
    return Blob(file, _part(name, layer, where))


def _part(path: str, layer: Mapping[str, Any], where: str) -> Part:
    kind = str(layer.get("mediaType", ""))
    annotations = layer.get("annotations") or {}
    title = next((str(annotations[name]) for name in _TITLES if annotations.get(name)), "")
    # `oras push` calls every file a tar, and marks with an annotation of its own what really is one.
    packed = "tar" in kind and (
        kind.startswith(_MODELPACK) or not title or annotations.get(_UNPACK) == "true"
    )
    if packed:
        return Part(path, "layer")
    if title:
        return Part(path, "file", title)
    raise _invalid(where, f"has a layer of type {kind!r}, which is neither an archive nor a named file")


def _platform(descriptor: Mapping[str, Any]) -> tuple[str, str]:
    platform = descriptor.get("platform") or {}
    return str(platform.get("os", "unknown")), str(platform.get("architecture", "unknown"))


def _digest(descriptor: object, where: str) -> str:
    digest = descriptor.get("digest") if isinstance(descriptor, dict) else None
    if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
        raise _invalid(where, f"names the digest {digest!r}; only sha256 is known")
    return digest


def _invalid(where: str, problem: str) -> LoadError:
    return LoadError(Reason.INVALID_SOURCE, f"{where} {problem}; is it an image or artifact with weights?")


def layered(found: Sequence[Blob]) -> tuple[tuple[RemoteFile, ...], tuple[Part, ...]]:
    """The files to fetch, each once, and the parts in their order."""
    files = {blob.file.path: blob.file for blob in found}
    return tuple(files.values()), tuple(blob.part for blob in found)

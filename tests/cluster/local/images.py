"""Container images without a registry: packs a static binary as an archive, tells what an archive holds.

An OCI archive may be a folder in the same layout, which becomes a stream when it is loaded.
"""

import hashlib
import io
import json
import platform
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from .errors import ClusterError

_STREAM_BYTES = 1 << 20
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True)
class Archive:
    """What an archive calls its images, and a digest that changes with their content."""

    names: tuple[str, ...]
    digest: str


def pack(name: str, binary: Path, out: IO[bytes]) -> None:
    """Write a docker archive of an image that holds one static binary and runs it as its entry point."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        entry = tarfile.TarInfo(binary.name)
        entry.mode, entry.size = 0o755, binary.stat().st_size
        with binary.open("rb") as file:
            tar.addfile(entry, file)
    blob = layer.getvalue()
    config = {
        "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {"Entrypoint": [f"/{binary.name}"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(blob).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    members = {
        "config.json": json.dumps(config).encode(),
        "manifest.json": json.dumps(manifest).encode(),
        "layer.tar": blob,
    }
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path, data in members.items():
            info = tarfile.TarInfo(path)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def stream(folder: Path, out: IO[bytes], without: frozenset[str] = frozenset()) -> None:
    """Write the archive of a folder in OCI's layout, less the blobs of these digests."""
    with tarfile.open(fileobj=out, mode="w|", bufsize=_STREAM_BYTES) as tar:
        for path in sorted(folder.rglob("*"), reverse=True):
            if path.is_file() and f"sha256:{path.name}" not in without:
                tar.add(path, path.relative_to(folder))


def inspect(path: Path) -> Archive:
    """Read a docker or OCI archive's own list of contents."""
    try:
        if path.is_dir():
            return _oci((path / "index.json").read_bytes())
        with tarfile.open(path) as tar:
            members = {name.removeprefix("./"): name for name in tar.getnames()}
            if "manifest.json" in members:
                return _docker(tar, members)
            if "index.json" in members:
                return _oci(_read(tar, members["index.json"]))
    except (OSError, tarfile.TarError, ValueError, KeyError) as error:
        raise ClusterError(f"{str(path)!r} cannot be read as an image archive: {error}") from error
    raise ClusterError(
        f"{str(path)!r} is no image archive: it has neither manifest.json (docker) nor index.json (OCI)"
    )


def _docker(tar: tarfile.TarFile, members: dict[str, str]) -> Archive:
    listing = _read(tar, members["manifest.json"])
    images = json.loads(listing)
    digest = hashlib.sha256(listing)
    for image in images:
        # It names the layers by their digests, while the listing may call every configuration the same.
        digest.update(_read(tar, members[image["Config"]]))
    return Archive(tuple(tag for image in images for tag in image.get("RepoTags") or ()), digest.hexdigest())


def _oci(index: bytes) -> Archive:
    keys = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
    notes = [image.get("annotations", {}) for image in json.loads(index)["manifests"]]
    names = (next((note[key] for key in keys if key in note), None) for note in notes)
    return Archive(tuple(name for name in names if name), hashlib.sha256(index).hexdigest())


def _read(tar: tarfile.TarFile, member: str) -> bytes:
    file = tar.extractfile(member)
    if file is None:
        raise KeyError(f"{member!r} is no file")
    return file.read()

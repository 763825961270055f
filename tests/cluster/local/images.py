"""Container images without a registry: packs a static binary as an archive, tells what an archive holds."""

import hashlib
import io
import json
import platform
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from .errors import ClusterError

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


def inspect(path: Path) -> Archive:
    """Read a docker or OCI archive's own list of contents."""
    try:
        with tarfile.open(path) as tar:
            members = {name.removeprefix("./"): name for name in tar.getnames()}
            for listing in ("manifest.json", "index.json"):
                file = tar.extractfile(members[listing]) if listing in members else None
                if file:
                    return _archive(listing, file.read())
    except (OSError, tarfile.TarError, ValueError, KeyError) as error:
        raise ClusterError(f"{str(path)!r} cannot be read as an image archive: {error}") from error
    raise ClusterError(
        f"{str(path)!r} is no image archive: it holds neither manifest.json (docker) nor index.json (OCI)"
    )


def _archive(listing: str, text: bytes) -> Archive:
    content = json.loads(text)
    if listing == "manifest.json":
        names = tuple(tag for image in content for tag in image.get("RepoTags") or ())
    else:
        keys = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
        found = [image.get("annotations", {}) for image in content["manifests"]]
        names = tuple(
            name for notes in found if (name := next((notes[key] for key in keys if key in notes), None))
        )
    # The listing names configurations and layers by their digests, so it changes whenever they do.
    return Archive(names, hashlib.sha256(text).hexdigest())

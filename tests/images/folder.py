"""Images as they are kept: each a folder in OCI's layout, uncompressed, which stands by itself.

A layer that several of them have is one file with several names, so it takes its room once, and nobody needs
to know who has it when one of the folders goes.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from .store import Store

BLOBS = "blobs/sha256"
_TYPES = "application/vnd.oci.image"
_NAME = "io.containerd.image.name"


def write_folder(store: Store, reference: str, folder: Path, *, step: str) -> None:
    """The image that the store has by this name; the folder is there whole or not at all."""
    unfinished = store.folder / "tmp" / folder.name  # where the next build drops what a killed one left
    blobs = unfinished / BLOBS
    blobs.mkdir(parents=True)
    # buildah's own writer of OCI's layout compresses, which takes longer than all else of a build.
    store.buildah("push", "--disable-compression", reference, f"dir:{blobs}", step=step)
    told = json.loads((blobs / "manifest.json").read_text())
    for name in ("manifest.json", "version"):
        (blobs / name).unlink()
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{_TYPES}.manifest.v1+json",
        "config": told["config"] | {"mediaType": f"{_TYPES}.config.v1+json"},
        "layers": [layer | {"mediaType": f"{_TYPES}.layer.v1.tar"} for layer in told["layers"]],
    }
    body = json.dumps(manifest).encode()
    digest = hashlib.sha256(body).hexdigest()
    (blobs / digest).write_bytes(body)
    listed = {
        "mediaType": manifest["mediaType"],
        "digest": f"sha256:{digest}",
        "size": len(body),
        "annotations": {_NAME: reference},
    }
    (unfinished / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [listed]}))
    (unfinished / "oci-layout").write_text(json.dumps({"imageLayoutVersion": "1.0.0"}))
    _share(blobs, folder.parent)
    unfinished.rename(folder)


def _share(blobs: Path, folders: Path) -> None:
    """Take the files that another image has already."""
    for blob in blobs.iterdir():
        for theirs in folders.glob(f"*/{BLOBS}/{blob.name}"):
            shared = blob.with_suffix(".shared")
            os.link(theirs, shared)
            shared.replace(blob)
            break


def pull_folder(store: Store, folder: Path, *, step: str) -> str:
    """Take the image into the store; its id there."""
    # buildah makes a name of the path, and knows none that goes through a hidden folder.
    return store.buildah("pull", "--quiet", f"oci:{folder.name}", step=step, folder=folder.parent).split()[-1]


def read_manifest(folder: Path) -> dict[str, Any]:
    """OCI's manifest of the image in the folder, and under `name` how it is called."""
    [listed] = json.loads((folder / "index.json").read_text())["manifests"]
    manifest: dict[str, Any] = json.loads(blob(folder, listed["digest"]).read_text())
    return manifest | {"name": listed["annotations"][_NAME]}


def read_config(folder: Path) -> dict[str, Any]:
    """How the image's program is started: `Env`, `Entrypoint`, `User` and the like."""
    told: dict[str, Any] = json.loads(blob(folder, read_manifest(folder)["config"]["digest"]).read_text())
    return dict(told["config"])


def blob(folder: Path, digest: str) -> Path:
    return folder / BLOBS / digest.removeprefix("sha256:")


def megabytes(folder: Path) -> float:
    """All layers as they are unpacked, also those that are on disk for others already."""
    return sum(int(layer["size"]) for layer in read_manifest(folder)["layers"]) / 1e6

"""Reads a `.nemo` file: a tar archive of a model's configuration, its tokenizer's files and its weights.

Whether it is whole and of a kind that this engine serves is decided here, before NeMo's half minute of
imports; what its configuration may name, in `configuration`.
"""

import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, Final

from roundhouse_engine import ModelError, ModelSpec
from roundhouse_nemo.configuration import MODELS, read

_CONFIG: Final = "model_config.yaml"
_WEIGHTS: Final = "model_weights.ckpt"
_OF_OTHERS: Final = ("*.safetensors", "model.bin", "*.gguf", "*.onnx", "*.ckpt", "*.pt")
_SMALL_BYTES: Final = 512 << 20
"""All files but the weights together: of the largest tokenizers they are a few megabytes."""
_REMEDY: Final = "Fetch a file such as 'parakeet-tdt-0.6b-v2.nemo'."


@dataclass(frozen=True, slots=True)
class Archive:
    """An open file. `folder` holds what is in it beside the weights, while it is open."""

    file: Path
    config: dict[str, Any]
    class_name: str
    folder: Path
    weights: IO[bytes]
    weights_bytes: int

    @property
    def decodes_by(self) -> str:
        """`ctc` or `rnnt`."""
        return MODELS[self.class_name]


@contextmanager
def open_archive(model: ModelSpec) -> Iterator[Archive]:
    """The model's one file; raises `ModelError` for what is none, is damaged or cannot be served."""
    file = find(model)
    with TemporaryDirectory(prefix="nemo-") as folder:
        try:
            with tarfile.open(file) as tar:
                archive = _opened(model.name, file, tar, Path(folder))
                with archive.weights:
                    yield archive
        except (tarfile.TarError, EOFError, OSError) as error:
            raise ModelError(
                f"{model.name!r}: {str(file)!r} is no .nemo archive, or a damaged one ({error}). "
                "Fetch it again."
            ) from error


def find(model: ModelSpec) -> Path:
    """Raises `ModelError`."""
    name, path = model.name, model.path
    if path is None:
        raise ModelError(
            f"{name!r} has no path: this image brings no weights. Name a directory with a model. {_REMEDY}"
        )
    if not path.is_dir():
        raise ModelError(f"{name!r}: there is no directory {str(path)!r}; its weights were not fetched.")
    found = sorted(path.glob("*.nemo"))
    if len(found) > 1:
        raise ModelError(
            f"{name!r}: {str(path)!r} holds {', '.join(each.name for each in found)}: one model is served "
            "under a name. Let the source's `include` name one file."
        )
    if not found:
        other = next((each.name for kind in _OF_OTHERS for each in sorted(path.glob(kind))), None)
        holds = f" It holds {other!r}, which another engine reads." if other else ""
        raise ModelError(f"{name!r}: {str(path)!r} holds no .nemo file.{holds} {_REMEDY}")
    return found[0]


def _opened(name: str, file: Path, tar: tarfile.TarFile, folder: Path) -> Archive:
    members = {Path(member.name).name: member for member in tar.getmembers() if member.isfile()}
    if missing := [each for each in (_CONFIG, _WEIGHTS) if each not in members]:
        raise ModelError(
            f"{name!r}: {str(file)!r} lacks {' and '.join(missing)}, so it is no model of NeMo. {_REMEDY}"
        )
    weights = members.pop(_WEIGHTS)
    if sum(member.size for member in members.values()) > _SMALL_BYTES:
        raise ModelError(f"{name!r}: {str(file)!r} holds too much beside its weights to be a model.")
    for base, member in members.items():
        with (folder / base).open("wb") as out:  # by their last names, as the configuration knows them
            shutil.copyfileobj(_part(tar, member), out)
    class_name, config = read(name, file, (folder / _CONFIG).read_bytes())
    return Archive(file, config, class_name, folder, _seekable(tar, weights, folder), weights.size)


def _seekable(tar: tarfile.TarFile, weights: tarfile.TarInfo, folder: Path) -> IO[bytes]:
    """Weights are read where they lie; of a packed archive, as old models have, they are unpacked."""
    part = _part(tar, weights)
    if type(tar.fileobj).__name__ not in {"GzipFile", "BZ2File", "LZMAFile"}:
        return part
    unpacked = (folder / _WEIGHTS).open("w+b")
    shutil.copyfileobj(part, unpacked)
    unpacked.seek(0)
    return unpacked


def _part(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    part = tar.extractfile(member)
    assert part is not None  # noqa: S101 - a file, as was asked before
    return part

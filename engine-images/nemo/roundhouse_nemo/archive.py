"""Reads a `.nemo` file: a tar archive of a model's configuration, its tokenizer's files and its weights.

Whether it is whole and of a kind that this engine serves is decided here, before NeMo's half minute of
imports; what its configuration may name, in `configuration`.
"""

import errno
import gzip
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import IO, Any, Final

from roundhouse_engine import ModelError, ModelSpec
from roundhouse_nemo.configuration import MODELS, read

_CONFIG: Final = "model_config.yaml"
_WEIGHTS: Final = "model_weights.ckpt"
_OF_A_SECOND_MODEL: Final = "timestamps_asr_model_"
"""Canary may bring one that finds the times of words: as large as models are, and not served."""
_OF_OTHERS: Final = ("*.safetensors", "model.bin", "*.gguf", "*.onnx", "*.ckpt", "*.pt")
_CONFIG_BYTES: Final = 4 << 20
_SMALL_BYTES: Final = 64 << 20
"""All files but the weights together: of the largest tokenizers they are a few megabytes."""
_MOST_FILES: Final = 1000
_GZIP: Final = b"\x1f\x8b"
_UNPACKED_TIMES: Final = 4
"""Weights are packed to nine tenths: what grows to several times its size is made to fill a disk."""
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
        """`ctc`, `rnnt` or `aed`."""
        return MODELS[self.class_name]


@contextmanager
def open_archive(model: ModelSpec) -> Iterator[Archive]:
    """The model's one file; raises `ModelError` for what is none, is damaged or cannot be served."""
    file = find(model)
    try:
        with (
            TemporaryDirectory(prefix="nemo-") as folder,
            tarfile.open(_plain(model.name, file, Path(folder)), "r:") as tar,
        ):
            files = Path(folder) / "files"
            files.mkdir()
            archive = _opened(model.name, file, tar, files)
            with archive.weights:
                yield archive
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise ModelError(f"{model.name!r}: {_why(file, error)}") from error


def _why(file: Path, error: Exception) -> str:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return (
            f"{gettempdir()!r} has no room for what is unpacked of {str(file)!r}: give the pod more, or pack "
            "the file anew without gzip, so that its weights are read where they lie."
        )
    return f"{str(file)!r} is no .nemo archive, or a damaged one ({error}). Fetch it again."


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


def _plain(name: str, file: Path, folder: Path) -> Path:
    """The file, or what is packed in it, as old models are: so weights are read where they lie."""
    with file.open("rb") as start:
        if start.read(len(_GZIP)) != _GZIP:
            return file
    left = _UNPACKED_TIMES * file.stat().st_size + _SMALL_BYTES
    plain = folder / "unpacked.tar"
    with gzip.open(file) as packed, plain.open("wb") as out:
        while data := packed.read(1 << 20):
            left -= len(data)
            if left < 0:
                raise ModelError(
                    f"{name!r}: {str(file)!r} unpacks to more than {_UNPACKED_TIMES} times its size, as no "
                    f"model does. {_REMEDY}"
                )
            out.write(data)
    return plain


def _opened(name: str, file: Path, tar: tarfile.TarFile, folder: Path) -> Archive:
    members = _members(name, file, tar)
    weights = members.pop(_WEIGHTS)
    for base, member in members.items():
        with (folder / base).open("wb") as out:  # by their last names, as the configuration knows them
            shutil.copyfileobj(_part(tar, member), out)
    class_name, config = read(name, file, (folder / _CONFIG).read_bytes())
    return Archive(file, config, class_name, folder, _part(tar, weights), weights.size)


def _members(name: str, file: Path, tar: tarfile.TarFile) -> dict[str, tarfile.TarInfo]:
    """By their last names; no more of them, and none larger, than a model has."""
    members: dict[str, tarfile.TarInfo] = {}
    for count, member in enumerate(_listed(tar)):
        if count == _MOST_FILES:
            raise ModelError(f"{name!r}: {str(file)!r} holds too many files to be a model. {_REMEDY}")
        base = Path(member.name).name
        # What is sparse says to be larger than it is.
        if member.isfile() and not member.issparse() and not base.startswith(_OF_A_SECOND_MODEL):
            members[base] = member
    if missing := [each for each in (_CONFIG, _WEIGHTS) if each not in members]:
        raise ModelError(
            f"{name!r}: {str(file)!r} lacks {' and '.join(missing)}, so it is no model of NeMo. {_REMEDY}"
        )
    small = sum(member.size for base, member in members.items() if base != _WEIGHTS)
    if small > _SMALL_BYTES or members[_CONFIG].size > _CONFIG_BYTES:
        raise ModelError(
            f"{name!r}: {str(file)!r} holds too much beside its weights to be a model. {_REMEDY}"
        )
    return members


def _listed(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Its members; a number in a header that can be none (a size below zero, say) is told as other damage."""
    try:
        yield from tar
    except (ValueError, OverflowError) as error:
        raise tarfile.ReadError(str(error)) from error


def _part(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    part = tar.extractfile(member)
    assert part is not None  # noqa: S101 - a file, as was asked before
    return part

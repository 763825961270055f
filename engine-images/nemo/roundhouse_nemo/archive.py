"""Reads a `.nemo` file: a tar archive of a model's configuration, its tokenizer's files and its weights.

Whether it is whole and of a kind that this engine serves is decided here, before NeMo's half minute of
imports. Nothing of it runs: the configuration may name classes of NeMo's alone.
"""

import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, Final

import yaml

from roundhouse_engine import ModelError, ModelSpec

CLASSES: Final = {
    **dict.fromkeys(("EncDecCTCModel", "EncDecCTCModelBPE"), "ctc"),
    **dict.fromkeys(("EncDecRNNTModel", "EncDecRNNTBPEModel"), "rnnt"),
    **dict.fromkeys(("EncDecHybridRNNTCTCModel", "EncDecHybridRNNTCTCBPEModel"), "rnnt"),
}
"""NeMo's classes that are served, and what they decode by. TDT is RNNT that says how long a token lasts."""

_CONFIG: Final = "model_config.yaml"
_WEIGHTS: Final = "model_weights.ckpt"
_OF_NEMO: Final = "nemo.collections.asr.models."
_FOR_TRAINING: Final = ("train_ds", "validation_ds", "test_ds", "optim")
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
        return CLASSES[self.class_name]


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
    config = _config(name, file, folder / _CONFIG)
    kept = {key: value for key, value in config.items() if key not in _FOR_TRAINING}
    class_name = _class(name, file, config)
    return Archive(file, kept, class_name, folder, _seekable(tar, weights, folder), weights.size)


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


def _config(name: str, file: Path, path: Path) -> dict[str, Any]:
    try:
        said = yaml.safe_load(path.read_bytes())
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ModelError(f"{name!r}: the {_CONFIG} in {str(file)!r} is no YAML ({error}).") from error
    if not isinstance(said, dict):
        raise ModelError(f"{name!r}: the {_CONFIG} in {str(file)!r} holds no configuration.")
    return said


def _class(name: str, file: Path, config: dict[str, Any]) -> str:
    target = str(config.get("target") or "")
    class_name = target.rpartition(".")[2]
    if target.startswith(_OF_NEMO) and class_name in CLASSES:
        return class_name
    raise ModelError(
        f"{name!r}: {str(file)!r} is made for the class {target!r}. This engine serves NeMo's "
        f"{', '.join(CLASSES)}, and runs no code of others. {_REMEDY}"
    )

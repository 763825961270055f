"""What lies in a model's directory: whether it can be a model, and which of it may be read.

The library would fetch what is missing, unpickle what is no safetensors file and, asked to, run the
repository's own code; here a directory is complete and harmless, or refused, unless its source allows it.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from roundhouse_engine import ModelError, ModelSpec

_CONFIG: Final = "config.json"
_INDEX: Final = "model.safetensors.index.json"
_SAFE: Final = ".safetensors"
_TOKENIZER: Final = ("tokenizer.json",)
_OF_OTHERS: Final = ("*.gguf", "*.nemo", "model.bin", "*.onnx")


@dataclass(frozen=True, slots=True)
class Repository:
    name: str
    path: Path
    config: dict[str, Any]
    safetensors: bool
    """False for pickled weights, which the source allows."""
    remote_code: bool
    """Whether the repository's own code may run."""

    def json(self, name: str) -> dict[str, Any]:
        """What a file of it says; empty where there is none. Raises `ModelError`."""
        file = within(self.name, self.path, name)
        return _object(self.name, file) if file.is_file() else {}

    def objects(self, name: str) -> list[dict[str, Any]]:
        """A list of objects that a file of it holds; empty where there is none. Raises `ModelError`."""
        file = within(self.name, self.path, name)
        said = _json(self.name, file) if file.is_file() else []
        if not isinstance(said, list) or not all(isinstance(each, dict) for each in said):
            raise ModelError(f"{self.name!r}: {str(file)!r} holds no list of JSON objects. Fetch it again.")
        return said


def open_repository(
    model: ModelSpec, progress: Callable[[float], None], tokenizer: tuple[str, ...] = _TOKENIZER
) -> Repository:
    """Raises `ModelError` for what is no complete model that may be loaded.

    `tokenizer`: the files of which one must be there.
    """
    name, path = model.name, model.path
    if path is None:
        raise ModelError(
            f"{name!r} has no path: this image brings no weights. Name a directory with a model."
        )
    if not path.is_dir():
        raise ModelError(f"{name!r}: there is no directory {str(path)!r}; its weights were not fetched.")
    if not (path / _CONFIG).is_file():
        other = next((found.name for each in _OF_OTHERS for found in sorted(path.glob(each))), None)
        holds = f" It holds {other!r}, which another engine reads." if other else ""
        raise ModelError(f"{name!r}: {str(path)!r} holds no {_CONFIG}, so no model of transformers.{holds}")
    if not any((path / each).is_file() for each in tokenizer):
        raise ModelError(f"{name!r}: {str(path)!r} holds no {tokenizer[0]}: add it to what is fetched.")
    config = _object(name, path / _CONFIG)
    allowed = model.source.get("allow") or ()
    remote_code = "RemoteCode" in allowed
    if "auto_map" in config and "model_type" not in config and not remote_code:
        raise own_code(name)
    files = _weights(name, path)
    pickles = [file.name for file in files if file.suffix != _SAFE]
    if pickles and "UnsafeFormats" not in allowed:
        alone = " alone" if len(pickles) == len(files) else ""
        raise ModelError(
            f"{name!r} has pickled weights{alone} ({pickles[0]}), which can hold code. Take a source with "
            "safetensors, or `source.allow: [UnsafeFormats]` if you trust it."
        )
    _read_through(files, progress)
    return Repository(name, path, config, not pickles, remote_code)


def own_code(name: str) -> ModelError:
    return ModelError(
        f"{name!r} brings its own code, which is not run unless its source says `allow: [RemoteCode]`."
    )


def _weights(name: str, path: Path) -> list[Path]:
    """The files that the library will read: what an index names, whatever that is, or else what is there."""
    index = path / _INDEX
    if index.is_file():
        where = _object(name, index).get("weight_map")
        parts = sorted(set(map(str, where.values()))) if isinstance(where, dict) else []
        files = [within(name, path, part) for part in parts]
        if missing := [part for part, file in zip(parts, files, strict=True) if not file.is_file()]:
            raise ModelError(f"{name!r}: of the weights {', '.join(missing)} is missing. Fetch it again.")
        if files:
            return files
    if (path / "model.safetensors").is_file():
        return [path / "model.safetensors"]
    found = sorted(path.glob("pytorch_model*.bin"))
    if not found:
        raise ModelError(f"{name!r}: {str(path)!r} holds no weights (model.safetensors). Fetch it again.")
    return found


def within(name: str, path: Path, part: str) -> Path:
    """A file that another file names: none outside of the directory. Links out of it are a cache's own."""
    if Path(part).is_absolute() or ".." in Path(part).parts:
        raise ModelError(f"{name!r}: its files name {part!r}, which is outside of {str(path)!r}.")
    return path / part


def _object(name: str, file: Path) -> dict[str, Any]:
    said = _json(name, file)
    if not isinstance(said, dict):
        raise ModelError(f"{name!r}: {str(file)!r} holds no JSON object. Fetch it again.")
    return said


def _json(name: str, file: Path) -> Any:  # noqa: ANN401 - any JSON
    try:
        return json.loads(file.read_bytes())
    except (ValueError, OSError, RecursionError) as error:
        raise ModelError(f"{name!r}: {str(file)!r} cannot be read ({error}). Fetch it again.") from error


_PIECE_BYTES: Final = 16 << 20
_READ_PART: Final = 0.5


def _read_through(files: list[Path], progress: Callable[[float], None]) -> None:
    """Read the weights once, which brings them from a slow disk into memory and shows how far that is."""
    total, done = sum(file.stat().st_size for file in files), 0
    for file in files:
        try:
            with file.open("rb", buffering=0) as weights:
                while piece := weights.read(_PIECE_BYTES):
                    done += len(piece)
                    progress(_READ_PART * done / max(total, 1))
        except OSError as error:
            raise ModelError(f"{str(file)!r} cannot be read: {error.strerror}.") from error

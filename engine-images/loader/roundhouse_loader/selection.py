"""Which files of a source are fetched: the format's, none that runs code unless that is allowed. Pure.

Judged by name before a byte is fetched. A `.bin` may be CTranslate2's or a pickle, so `pickles` looks at the
bytes as well, after the download.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, Literal

from .failure import LoadError, Reason
from .source import Source, WeightFormat

Kind = WeightFormat | Literal["foreign"] | None
"""The format that a file's name tells; `foreign`: weights of a format that the API does not know."""

_PICKLES: Final = (".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".dill", ".mar")
# What transformers, diffusers, peft and audiocraft (`state_dict.bin`) pickle under the name `.bin`.
_PICKLED_BIN: Final = re.compile(
    r"(pytorch_model|diffusion_pytorch_model|adapter_model|training_args|optimizer|scheduler|rng_state"
    r"|(compression_)?state_dict)[^/]*\.bin"
)
_SUFFIXES: Final[dict[str, Kind]] = {
    ".safetensors": WeightFormat.SAFETENSORS,
    ".gguf": WeightFormat.GGUF,
    ".onnx": WeightFormat.ONNX,
    ".nemo": WeightFormat.NEMO,
    **dict.fromkeys(_PICKLES, WeightFormat.PYTORCH),
    **dict.fromkeys((".h5", ".keras", ".msgpack", ".ot", ".tflite", ".mlmodel", ".pb"), "foreign"),
}
_ONNX_DATA: Final = re.compile(r".*\.onnx[._]data(_\d+)?")
_UNSAFE: Final = frozenset({WeightFormat.PYTORCH, WeightFormat.NEMO})
# Formats that say which files belong to them; a source of another format, or of none, is taken whole.
_NARROWING: Final = frozenset(WeightFormat) - {WeightFormat.SPHINX, WeightFormat.OTHER}
_NAMES_SHOWN: Final = 3


@dataclass(frozen=True, slots=True)
class Choice:
    """The paths to fetch, and those left out because they could run code."""

    wanted: tuple[str, ...]
    left_out: tuple[str, ...] = ()


def choose(
    paths: Sequence[str], source: Source, include: Sequence[str] = (), *, by_format: bool = False
) -> Choice:
    """The files to fetch of `paths`; raises LoadError SourceNotFound or UnsafeFormat.

    `by_format` leaves out the weights of other formats, as repositories that hold several need it.
    """
    there = [path for path in paths if not path.rpartition("/")[2].startswith(".git")]
    named = [path for path in there if _included(path, include)]
    if not named:
        raise LoadError(Reason.SOURCE_NOT_FOUND, _nothing(there, include))
    code = () if source.remote_code else tuple(path for path in named if path.endswith(".py"))
    # Patterns are the user's own choice; only without them does the format say what is needed.
    narrowed = by_format and not include
    fitting = [path for path in named if _fits(path, source.format)] if narrowed else named
    kept = [path for path in fitting if path not in set(code)]
    unsafe = tuple(path for path in kept if not source.unsafe_formats and kind(path) in _UNSAFE)
    wanted = tuple(path for path in kept if path not in set(unsafe))
    if unsafe and not any(kind(path) for path in wanted):
        raise unsafe_format(unsafe)
    if not wanted:
        raise LoadError(Reason.SOURCE_NOT_FOUND, f"the source holds only {_few(code)}: no weights")
    return Choice(wanted, (*unsafe, *code))


def kind(path: str) -> Kind:
    """The format of weights that the name tells; None: no weights, or not to be told by the name."""
    name = path.rpartition("/")[2].lower()
    if _PICKLED_BIN.fullmatch(name):
        return WeightFormat.PYTORCH
    if name == "model.bin":
        return WeightFormat.CTRANSLATE2
    if name.startswith("openvino_"):
        return "foreign"
    if _ONNX_DATA.fullmatch(name):
        return WeightFormat.ONNX
    return _SUFFIXES.get(name[name.rfind(".") :]) if "." in name else None


def unsafe_format(paths: Sequence[str]) -> LoadError:
    return LoadError(
        Reason.UNSAFE_FORMAT,
        f"the weights are pickled, and a pickle can run any code when it is loaded: {_few(paths)}. Use "
        "Safetensors, leave them out with `include`, or take the risk: spec.source.allow [UnsafeFormats]",
    )


def _fits(path: str, wanted: WeightFormat | None) -> bool:
    found = kind(path)
    return found is None or wanted not in _NARROWING or found == wanted


def _included(path: str, include: Sequence[str]) -> bool:
    # As the Hub's own client matches: `*` also spans slashes, and a folder stands for all that is in it.
    patterns = (f"{pattern}*" if pattern.endswith("/") else pattern for pattern in include)
    return not include or any(fnmatchcase(path, pattern) for pattern in patterns)


def _nothing(there: Sequence[str], include: Sequence[str]) -> str:
    if not there:
        return "the source is there and holds no file; check `prefix`, `path` or `revision`"
    patterns = ", ".join(repr(pattern) for pattern in include)
    return f"no file of the source matches `include` ({patterns}); it holds {_few(there)}"


def _few(paths: Sequence[str]) -> str:
    shown = ", ".join(repr(path) for path in paths[:_NAMES_SHOWN])
    return shown if len(paths) <= _NAMES_SHOWN else f"{shown} and {len(paths) - _NAMES_SHOWN} more"

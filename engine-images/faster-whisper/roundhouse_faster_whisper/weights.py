"""Opens a model's directory: what must lie in it, how far the reading is, and why it cannot be opened.

The library would fetch what is missing from the Hub; here a directory is complete or refused.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

from faster_whisper import WhisperModel

from roundhouse_engine import ModelError
from roundhouse_engine.errors import memory_is_short
from roundhouse_faster_whisper.hardware import Hardware

_WEIGHTS: Final = "model.bin"
_NEEDED: Final = (_WEIGHTS, "config.json", "tokenizer.json")
_VOCABULARIES: Final = ("vocabulary.json", "vocabulary.txt")
"""Of the weights; the first that is there is read."""
BEGIN: Final = "<|startoftranscript|>"
"""The token that each transcript begins with."""
_UNTIMED: Final = "<|notimestamps|>"
"""The last one of Whisper's marks, after its languages."""
_OF_OTHERS: Final = (
    *("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"),
    *("*.gguf", "ggml-*.bin", "*.nemo", "*.pt"),
)
_REMEDY: Final = (
    "This engine reads Whisper models in CTranslate2's format, such as 'Systran/faster-whisper-base'; "
    "ct2-transformers-converter makes one of any other, with --copy_files tokenizer.json "
    "preprocessor_config.json."
)
_PIECE_BYTES: Final = 16 << 20
_READ_PART: Final = 0.8


def open_model(path: Path, hardware: Hardware, progress: Callable[[float], None]) -> WhisperModel:
    """The model that lies at `path`, on its device; raises `ModelError`."""
    check_files(path)
    _read_through(path / _WEIGHTS, lambda part: progress(part * _READ_PART))
    try:
        model = WhisperModel(
            str(path),
            device=hardware.device,
            compute_type=hardware.compute_type,
            cpu_threads=hardware.threads,
            num_workers=hardware.workers,
            local_files_only=True,
        )
    except Exception as error:  # the library, the tokenizer and the GPU each have their own kinds
        raise ModelError(_why(path, error, hardware.device)) from error
    _check_tokens(path, model)
    wanted, given = model.model.n_mels, model.feature_extractor.mel_filters.shape[0]
    if wanted != given:
        raise ModelError(
            f"{str(path)!r} wants sound in {wanted} bands, and its preprocessor_config.json says {given}, or "
            "is missing: add that file to what the variant downloads."
        )
    return model


def check_files(path: Path) -> None:
    """Raise `ModelError` where a file is missing, or the directory holds a model of another kind."""
    if not path.is_dir():
        raise ModelError(f"{str(path)!r} is no directory: the model was not downloaded to it.")
    missing = [name for name in _NEEDED if not (path / name).is_file()]
    if not missing:
        _check_json(path)
        return
    other = next((found.name for pattern in _OF_OTHERS for found in sorted(path.glob(pattern))), None)
    kind = f" It holds {other!r}, weights of another kind." if other and _WEIGHTS in missing else ""
    raise ModelError(
        f"{str(path)!r} holds no model for this engine: {', '.join(missing)} is missing.{kind} {_REMEDY}"
    )


def _check_json(path: Path) -> None:
    """The library takes a damaged preprocessor_config.json for none."""
    for name in ("config.json", "tokenizer.json", "preprocessor_config.json", _VOCABULARIES[0]):
        file = path / name
        if not file.is_file():
            continue
        try:
            json.loads(file.read_bytes())
        except (ValueError, OSError) as error:
            raise ModelError(f"{str(file)!r} cannot be read ({error}): download the model again.") from error


def _check_tokens(path: Path, model: WhisperModel) -> None:
    """Words are numbered by the tokenizer, and the weights' own vocabulary says which of them are marks.

    With numbers of another model each request would fail, or say other words than were spoken.
    """
    file = next(path / name for name in _VOCABULARIES if (path / name).is_file())
    text = file.read_text("utf-8", errors="replace")
    names = json.loads(text) if file.suffix == ".json" else text.split("\n")
    for token in (BEGIN, _UNTIMED):
        number = model.hf_tokenizer.token_to_id(token)
        if number is None or names[number : number + 1] != [token]:
            raise ModelError(
                f"{str(file)!r} and its tokenizer.json do not have the same number for {token}, so they are "
                "not of one Whisper model, or damaged: download both again."
            )


def _read_through(file: Path, progress: Callable[[float], None]) -> None:
    """Read the weights once, which brings them from a slow disk into memory and shows how far that is."""
    total, done = file.stat().st_size, 0
    try:
        with file.open("rb", buffering=0) as weights:
            while piece := weights.read(_PIECE_BYTES):
                done += len(piece)
                progress(done / max(total, 1))
    except OSError as error:
        raise ModelError(f"{str(file)!r} cannot be read: {error.strerror}.") from error


def _why(path: Path, error: Exception, device: str) -> str:
    said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if memory_is_short(error) and device == "cpu":
        return f"{str(path)!r} needs more memory than there is: give the pod more."
    if memory_is_short(error):
        return (
            f"{str(path)!r} does not fit on the GPU ({said}): free some of its memory, choose a larger one, "
            "or set ROUNDHOUSE_COMPUTE_TYPE=int8_float16."
        )
    return f"{str(path)!r} cannot be opened ({said}): it is damaged or no Whisper model. {_REMEDY}"

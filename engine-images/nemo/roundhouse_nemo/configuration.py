"""What of a `.nemo` file's configuration NeMo is shown, which makes an object of whatever it names.

NeMo's own list of what may be named goes by packages. Functions that write files and loaders that run code
lie in them, so a configuration is refused here unless all that it names is one of a few classes, spelt out.
What NeMo saves satisfies this.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from roundhouse_engine import ModelError

MODELS: Final = {
    **dict.fromkeys(("EncDecCTCModel", "EncDecCTCModelBPE"), "ctc"),
    **dict.fromkeys(("EncDecRNNTModel", "EncDecRNNTBPEModel"), "rnnt"),
    **dict.fromkeys(("EncDecHybridRNNTCTCModel", "EncDecHybridRNNTCTCBPEModel"), "rnnt"),
    "EncDecMultiTaskModel": "aed",
}
"""NeMo's classes that are served, and what they decode by. TDT is RNNT that says how long a token lasts.

AED is a decoder that looks at all that was encoded and writes token by token: Canary.
"""

PARTS: Final = (
    "AudioToMelSpectrogramPreprocessor",
    "ConformerEncoder",
    "ConvASRDecoder",
    "HATJoint",
    "MaskedPatchAugmentation",
    "RNNTDecoder",
    "RNNTJoint",
    "SampledRNNTJoint",
    "SpectrogramAugmentation",
    "StatelessTransducerDecoder",
)
"""Of `nemo.collections.asr.modules`: what a model may be made of."""

OF_CANARY: Final = (
    "nemo.collections.asr.modules.transformer.get_nemo_transformer",
    "nemo.collections.asr.modules.transformer.transformer_encoders.TransformerEncoder",
    "nemo.collections.asr.parts.submodules.token_classifier.TokenClassifier",
    "nemo.collections.common.losses.smoothed_cross_entropy.SmoothedCrossEntropyLoss",
    "nemo.collections.common.tokenizers.canary_tokenizer.CanaryBPETokenizer",
    "nemo.collections.common.tokenizers.canary_tokenizer.CanaryTokenizer",
)
"""What Canary is made of beside them."""

_OF_MODELS: Final = "nemo.collections.asr.models."
_OF_PARTS: Final = "nemo.collections.asr.modules."
_TARGETS: Final = frozenset({*(_OF_PARTS + part for part in PARTS), *OF_CANARY})
_FOR_TRAINING: Final = ("train_ds", "validation_ds", "test_ds", "optim", "multitask_metrics_cfg")
_TOKENIZER: Final = "custom_tokenizer"
_SECOND_MODEL: Final = "restore_timestamps_model"
"""Canary's setting for a model within the file that NeMo would load unseen."""
_NAMES_CODE: Final = frozenset({"cls", "target", _TOKENIZER, "pretrained_model_name", "trust_remote_code"})
_NAMES_A_FILE: Final = ("_path", "_file", "lm_model", "spe_tokenizer_vocab")
_OF_TOKENIZERS: Final = {"bpe": ("model_path", "vocab_path"), "wpe": ("vocab_path",)}
"""What NeMo looks for in a tokenizer's `dir`, unless its place in the archive is told."""
_OF_THE_ARCHIVE: Final = "nemo:"
_MOST_VALUES: Final = 300_000
"""Vocabularies are in it several times over; aliases of YAML can make far more of a few lines."""
_DEEPEST: Final = 32


def read(name: str, file: Path, text: bytes) -> tuple[str, dict[str, Any]]:
    """The class of the model and what NeMo may make it of; raises `ModelError`."""
    try:
        said = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise ModelError(f"{name!r}: the configuration in {str(file)!r} is no YAML ({error}).") from error
    if not isinstance(said, dict):
        raise ModelError(f"{name!r}: the configuration in {str(file)!r} is no mapping.")
    class_name = _class(name, file, said.pop("target", None))
    shown = {key: value for key, value in said.items() if key not in _FOR_TRAINING}
    if problem := _problem(shown):
        raise ModelError(
            f"{name!r}: the configuration in {str(file)!r} {problem}. It is not loaded, since it could run "
            "code or read other files. Fetch a model that NeMo saved, from a publisher you trust."
        )
    if MODELS[class_name] == "aed":
        shown[_SECOND_MODEL] = False
    return class_name, {"target": _OF_MODELS + class_name, **shown}


def _class(name: str, file: Path, target: object) -> str:
    class_name = str(target).rpartition(".")[2]
    if isinstance(target, str) and target.startswith(_OF_MODELS) and class_name in MODELS:
        return class_name
    raise ModelError(
        f"{name!r}: {str(file)!r} is made for the class {target!r}. This engine serves NeMo's "
        f"{', '.join(MODELS)}, and runs no code of others. Fetch a file such as 'parakeet-tdt-0.6b-v2.nemo'."
    )


def _problem(config: Mapping[str, Any]) -> str | None:
    """Why NeMo must not see it."""
    for count, (place, depth, key, value) in enumerate(_values(config, "", 0)):
        if count >= _MOST_VALUES or depth > _DEEPEST:
            return f"is larger than any model's, at {place[:200]!r}"
        if problem := _of_value(key, value) or _of_tokenizer(value):
            return f"{problem} at {place[:200]!r}"
    return None


def _values(node: object, place: str, depth: int) -> Iterator[tuple[str, int, object, object]]:
    """Each value below `node`, before what is in it: its place, depth and key (in a list: its number)."""
    match node:
        case Mapping():
            within: Iterable[tuple[object, object]] = node.items()
        case list() | tuple() | set():
            within = enumerate(node)
        case _:
            return
    for key, value in within:
        at = f"{place}.{key}" if place else str(key)
        yield at, depth, key, value
        yield from _values(value, at, depth + 1)


def _of_value(key: object, value: object) -> str | None:
    if isinstance(value, str) and "${" in value:
        return "leaves a value to be computed ('${')"
    if not isinstance(key, str):
        return None
    if key == "_target_":
        known = isinstance(value, str) and value in _TARGETS
        return None if known else f"names {str(value)[:200]!r}, which no model served here is made of,"
    if (key in _NAMES_CODE or (key.startswith("_") and key.endswith("_"))) and not _of_canary(key, value):
        return f"has the setting {key!r}"
    if key.endswith(_NAMES_A_FILE) and value and not _within_the_archive(value):
        return f"names the file {str(value)[:200]!r} outside of the archive"
    return None


def _of_tokenizer(value: object) -> str | None:
    if not isinstance(value, Mapping) or not value.get("dir"):
        return None
    wanted = _OF_TOKENIZERS.get(str(value.get("type")).lower(), ())
    missing = next((each for each in wanted if each not in value), None)
    return missing and f"names the folder {str(value['dir'])[:200]!r}, and no {missing!r} of the archive,"


def _of_canary(key: str, value: object) -> bool:
    """Whether it names one of Canary's tokenizers; what else is said there is looked at as well."""
    return key == _TOKENIZER and isinstance(value, Mapping) and value.get("_target_") in OF_CANARY


def _within_the_archive(value: object) -> bool:
    if not isinstance(value, str):
        return not isinstance(value, list | tuple)  # a number, or settings: each of them is looked at
    return value.startswith(_OF_THE_ARCHIVE) and "/" not in value

"""Loads a repository's model and tokenizer onto a device, whole or not at all.

What the library only warns of is an error here: weights that it would make up because the file has none.
"""

from dataclasses import dataclass
from typing import Any, Final

import torch
from transformers import AutoConfig, AutoTokenizer
from transformers.utils import logging

from roundhouse_engine import ModelError
from roundhouse_engine.errors import memory_is_short
from roundhouse_transformers.repository import Repository, own_code
from roundhouse_transformers.settings import Settings

_SAID: Final = 300
"""Characters of what the library says: of some mistakes it lists all kinds of models that it knows."""
_HUGE: Final = 1 << 24
"""What tokenizers say who know no limit is more."""
_POSITIONS_FROM_PADDING: Final = ("roberta", "camembert", "mpnet", "longformer")
"""Kinds of models that count positions from the padding's number on, so that fewer are left for tokens."""
_UNUSED: Final = ("pooler.",)
"""Weights that many repositories lack and that nothing here computes with."""


@dataclass(frozen=True, slots=True)
class Loaded:
    model: Any
    tokenizer: Any
    device: str
    limit_tokens: int | None
    """The longest text, with what the tokenizer adds."""


def load(repository: Repository, settings: Settings, kind: Any) -> Loaded:  # noqa: ANN401 - an Auto class
    """The model in the shape that `kind`, a class such as `AutoModel`, gives it; raises `ModelError`."""
    logging.disable_progress_bar()
    device = _device(settings)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    common = {"local_files_only": True, "trust_remote_code": repository.remote_code}
    name = repository.name
    try:
        tokenizer = AutoTokenizer.from_pretrained(repository.path, **common)
        model, about = kind.from_pretrained(
            repository.path,
            use_safetensors=repository.safetensors,
            dtype=_dtype(settings, device),
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are told below, by their names
            **common,
        )
        model = model.to(device).eval()
    except Exception as error:  # each library has its own kinds
        if memory_is_short(error):
            raise ModelError(f"{name!r} needs more memory than there is: give the pod more.") from error
        if "auto_map" in repository.config and "trust_remote_code" in str(error):
            raise own_code(name) from error
        at_fault = _against_config(repository, kind, common)
        said = _first_line(error) if at_fault is None else f"no model is as its config.json says: {at_fault}"
        raise ModelError(f"{name!r} cannot be loaded: {said}") from error
    _check_weights(name, kind, about)
    return Loaded(model, tokenizer, device, limit(repository, tokenizer, settings))


def _check_weights(name: str, kind: Any, about: dict[str, Any]) -> None:  # noqa: ANN401 - an Auto class
    if of_another := sorted(about["mismatched_keys"]):
        weight, stored, wanted = of_another[0]
        raise ModelError(
            f"{name!r} cannot be loaded: {len(of_another)} of its weights are of another size than its "
            f"config.json says, the first is {weight!r}: {list(stored)}, and not {list(wanted)}. One of the "
            "files is another model's: fetch both again."
        )
    lacking = sorted(key for key in about["missing_keys"] if not key.startswith(_UNUSED))
    if lacking:
        raise ModelError(
            f"{name!r} lacks {len(lacking)} weights that {kind.__name__} needs, the first is {lacking[0]!r}: "
            "it was made for another task, or its files are damaged."
        )


def pad_with_an_end(name: str, loaded: Loaded) -> None:
    """Where the tokenizer names no padding: any token will do that a mask leaves out. Raises `ModelError`."""
    tokenizer = loaded.tokenizer
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise ModelError(
                f"{name!r}: its tokenizer names no pad_token and no eos_token, to fill texts with."
            )
        tokenizer.pad_token = tokenizer.eos_token


def limit(repository: Repository, tokenizer: Any, settings: Settings) -> int | None:  # noqa: ANN401 - has no types
    """The least of what the model, the tokenizer and the settings say."""
    of_text = repository.config.get("text_config")
    config = of_text if isinstance(of_text, dict) and of_text else repository.config
    said = [settings.context_tokens, tokenizer.model_max_length]
    positions = config.get("max_position_embeddings")
    kind, padding = str(config.get("model_type")), config.get("pad_token_id")
    if isinstance(positions, int) and any(each in kind for each in _POSITIONS_FROM_PADDING):
        positions -= (padding if isinstance(padding, int) else 0) + 1
    said.append(positions)
    said.append(repository.json("sentence_bert_config.json").get("max_seq_length"))
    return min((each for each in said if isinstance(each, int) and 0 < each < _HUGE), default=None)


def _device(settings: Settings) -> str:
    there = torch.cuda.is_available()
    if settings.device == "cuda" and not there:
        raise ModelError(
            "ROUNDHOUSE_DEVICE is 'cuda', and no GPU is seen here: give the container one, or set 'cpu'."
        )
    return "cuda" if there and settings.device != "cpu" else "cpu"


def _dtype(settings: Settings, device: str) -> Any:  # noqa: ANN401 - torch has no types here
    if settings.dtype == "auto":
        return "auto" if device == "cuda" else torch.float32
    return getattr(torch, settings.dtype)


def _against_config(repository: Repository, kind: Any, common: dict[str, bool]) -> str | None:  # noqa: ANN401
    """What the library has against config.json without looking at a weight; None: nothing."""
    try:
        config = AutoConfig.from_pretrained(repository.path, **common)
        with torch.device("meta"):
            if hasattr(kind, "from_config"):
                kind.from_config(config, trust_remote_code=repository.remote_code)
            else:
                kind(config)
    except Exception as error:  # noqa: BLE001 - as above
        return (
            f"{' '.join(str(error).split())[:_SAID]} ({type(error).__name__}). Correct it, or fetch it again."
        )
    return None


def _first_line(error: Exception) -> str:
    said = str(error).strip()
    line = said.splitlines()[0] if said else "no reason was given"
    return f"{line} ({type(error).__name__}). Its files may be damaged: fetch them again."

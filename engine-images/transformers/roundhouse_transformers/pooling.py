"""How the vectors of a text's tokens become the text's one: as sentence-transformers lays it down in files.

`modules.json` names steps: the model, a pooling, layers over it, a normalisation. Those of other kinds are
refused, because vectors without them would be wrong and look right.
"""

from collections.abc import Callable
from typing import Any, Final

import torch
from safetensors.torch import load_file

from roundhouse_engine import ModelError
from roundhouse_transformers.repository import Repository, within

Layer = Callable[[Any], Any]
_OF_FILES: Final = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "last_token",
}
_NEWER: Final = {"mean": "mean", "cls": "cls", "lasttoken": "last_token"}
_ACTIVATIONS: Final[dict[str, Layer]] = {
    "torch.nn.modules.linear.Identity": lambda vectors: vectors,
    "torch.nn.modules.activation.Tanh": torch.tanh,
}


def pool(hidden: Any, mask: Any, how: str) -> Any:  # noqa: ANN401 - torch has no types here
    """From [texts, tokens, width] and the mask of the padding to [texts, width]."""
    if how == "cls":
        return hidden[:, 0]
    if how == "last_token":
        last = mask.shape[1] - 1 - mask.flip(1).argmax(1)
        return hidden[torch.arange(len(hidden), device=hidden.device), last]
    weights = mask.unsqueeze(-1).float()  # a sum of many is soon too large for float16
    return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)


def declared_pooling(repository: Repository) -> str | None:
    """What the repository says; None where it says nothing. Raises `ModelError`."""
    told = _steps(repository).get("Pooling")
    if told is None:
        return None
    config = repository.json(f"{told[0]}/config.json")
    newer = config.get("pooling_mode")
    ways = [way for field, way in _OF_FILES.items() if config.get(field)]
    if isinstance(newer, str):
        ways = [_NEWER[newer]] if newer in _NEWER else []
    if len(ways) != 1:
        raise ModelError(
            f"{repository.name!r} pools in a way that is not known here ({told[0]}/config.json). "
            "ROUNDHOUSE_POOLING names one of mean, cls and last_token."
        )
    return ways[0]


def layers(repository: Repository, device: str) -> list[Layer]:
    """The linear layers over the pooled vector, in order; raises `ModelError`."""
    return [_dense(repository, folder, device) for folder in _steps(repository).get("Dense", ())]


def _steps(repository: Repository) -> dict[str, list[str]]:
    """The folders of each kind of step."""
    found: dict[str, list[str]] = {}
    for step in repository.objects("modules.json"):
        kind = str(step.get("type", "")).rpartition(".")[2]
        if kind not in ("Transformer", "Pooling", "Dense", "Normalize"):
            raise ModelError(
                f"{repository.name!r} has a step {kind!r} in modules.json, which is not known here."
            )
        found.setdefault(kind, []).append(str(step.get("path", "")))
    return found


def _dense(repository: Repository, folder: str, device: str) -> Layer:
    file = within(repository.name, repository.path, f"{folder}/model.safetensors")
    config = repository.json(f"{folder}/config.json")
    name = config.get("activation_function", "")
    if not file.is_file() or name not in _ACTIVATIONS:
        raise ModelError(
            f"{repository.name!r}: {folder!r} must hold model.safetensors, and a config.json with an "
            f"activation_function of {', '.join(_ACTIVATIONS)}."
        )
    activation = _ACTIVATIONS[name]
    weights = load_file(file, device=device)
    weight, bias = weights["linear.weight"].float(), weights.get("linear.bias")
    bias = None if bias is None else bias.float()

    def dense(vectors: Any) -> Any:  # noqa: ANN401 - torch has no types here
        return activation(torch.nn.functional.linear(vectors, weight, bias))

    return dense

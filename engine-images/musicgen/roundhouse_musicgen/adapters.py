"""Adapters: matrices of low rank (LoRA) that change a model while one request is computed, in peft's format.

They are applied beside the layers that they change, so that the model's own weights stay as they are. An
adapter that no request can use is an error when the engine starts; one that was made for another model is the
error of the requests that ask for it there, because other models of the engine may be its own. Its matrices
are read again for the first request that names it, and stay while memory allows.
"""

import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import torch
from safetensors.torch import load_file

from roundhouse_engine import ModelError
from roundhouse_engine.errors import invalid
from roundhouse_musicgen.settings import AdapterSetting

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX: Final = "base_model.model."
_WITHIN: Final = ("", "decoder.")
"""What an adapter was trained on: all of a model, or its decoder alone."""
_NOT_SERVED: Final = (
    *("use_dora", "fan_in_fan_out", "modules_to_save", "rank_pattern", "alpha_pattern"),
    *("trainable_token_indices", "target_parameters", "lora_bias"),
)
"""Fields of the configuration that change what the matrices mean, where they say something."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a layer's output gains: `up @ down @ input`, times the adapter's scale."""

    down: Any
    """[rank, in]"""
    up: Any
    """[out, rank]"""
    scale: float


@dataclass(frozen=True, slots=True)
class Adapter:
    """`changes` by the names of layers, which differ between models."""

    name: str
    base: str
    strength: float
    changes: Mapping[str, Change]

    @property
    def held_bytes(self) -> int:
        return sum(int(each.down.nbytes + each.up.nbytes) for each in self.changes.values())

    def at(self, device: str, dtype: str) -> "Adapter":
        """The same where the model is, and of its kind of numbers."""
        kind = getattr(torch, dtype)
        moved = {
            name: Change(each.down.to(device, kind), each.up.to(device, kind), each.scale)
            for name, each in self.changes.items()
        }
        return Adapter(self.name, self.base, self.strength, moved)

    @contextlib.contextmanager
    def applied(self, model: Any, strength: float | None) -> Iterator[None]:  # noqa: ANN401 - torch's
        """While it is entered, the model computes with it; raises `EngineError` where it does not fit."""
        factor = self.strength if strength is None else strength
        layers = [(self._layer(model, name, change), change) for name, change in self.changes.items()]
        with contextlib.ExitStack() as taken_back:
            for layer, change in layers:
                taken_back.callback(layer.register_forward_hook(_hook(layer, change, factor)).remove)
            yield

    def _layer(self, model: Any, name: str, change: Change) -> Any:  # noqa: ANN401 - torch's
        for within in _WITHIN:
            with contextlib.suppress(AttributeError):
                layer = model.get_submodule(within + name)
                shape = (change.up.shape[0], change.down.shape[1])
                if isinstance(layer, torch.nn.Linear) and tuple(layer.weight.shape) == shape:
                    return layer
        why = f"it changes a layer {name!r} that the model has not, or not of that size"
        raise _does_not_fit(self.name, self.base, why)


@dataclass(frozen=True, slots=True)
class Known:
    """What is kept of an adapter that can be used: the model it was made for, and what it takes."""

    name: str
    base: str
    held_bytes: int

    def check_base(self, base: str | None) -> None:
        """Raises `EngineError` where the model's repository is known, and another one."""
        if base is not None and self.base and _short(base) != _short(self.base):
            raise _does_not_fit(self.name, self.base, f"this one is {base!r}")


def _does_not_fit(name: str, base: str, why: str) -> Exception:
    return invalid(
        f"The adapter {name!r} was made for another base model ({base!r}): {why}.",
        param="adapter",
        code="adapter_incompatible",
    )


def _short(repo: str) -> str:
    """Requests and files name a model with its author or without."""
    return repo.rstrip("/").rpartition("/")[2].lower()


def _hook(layer: Any, change: Change, factor: float) -> Any:  # noqa: ANN401 - torch's
    down, up = (each.to(layer.weight.device, layer.weight.dtype) for each in (change.down, change.up))
    scale = change.scale * factor

    def add(_layer: Any, inputs: tuple[Any, ...], output: Any) -> Any:  # noqa: ANN401 - torch's
        return output + (inputs[0] @ down.T) @ up.T * scale

    return add


def read_adapter(setting: AdapterSetting) -> Adapter:
    """Raises `ModelError`."""
    where = f"The adapter {setting.name!r}"
    config = _config(where, setting)
    if str(config.get("peft_type", "")).upper() != "LORA":
        raise ModelError(f"{where} is of peft's kind {config.get('peft_type')!r}; LORA is served here alone.")
    told = [field for field in _NOT_SERVED if config.get(field)]
    if config.get("bias", "none") != "none":
        told.append("bias")
    if told:
        raise ModelError(f"{where} needs {', '.join(told)} ({_CONFIG}), which are not served here.")
    alpha = config.get("lora_alpha")
    if not isinstance(alpha, int | float):
        raise ModelError(f"{where} has no number lora_alpha in its {_CONFIG}. Fetch it again.")
    root = bool(config.get("use_rslora"))
    changes = {
        name: Change(down, up, alpha / (math.sqrt(len(down)) if root else len(down)))
        for name, (down, up) in _pairs(where, _weights(where, setting)).items()
    }
    return Adapter(setting.name, str(config.get("base_model_name_or_path") or ""), setting.strength, changes)


@cache
def check(setting: AdapterSetting) -> Known:
    """Read the adapter to see that it can be used, once in a process; raises `ModelError`."""
    found = read_adapter(setting)
    return Known(found.name, found.base, found.held_bytes)


def _config(where: str, setting: AdapterSetting) -> dict[str, Any]:
    try:
        told = json.loads((setting.path / _CONFIG).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{where}: {_CONFIG} in {str(setting.path)!r} cannot be read ({error}).") from error
    if not isinstance(told, dict):
        raise ModelError(f"{where}: {_CONFIG} in {str(setting.path)!r} holds no JSON object.")
    return told


def _weights(where: str, setting: AdapterSetting) -> dict[str, Any]:
    """Of safetensors alone: pickles can hold code."""
    try:
        return dict(load_file(setting.path / _WEIGHTS))
    except MemoryError:
        raise
    except Exception as error:  # the library has kinds of its own
        raise ModelError(
            f"{where}: {_WEIGHTS} in {str(setting.path)!r} cannot be read ({error}). Fetch it again."
        ) from error


def _pairs(where: str, weights: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The two matrices of each layer; raises `ModelError` for anything else in the file."""
    found: dict[str, dict[str, Any]] = {}
    for key, matrix in weights.items():
        layer, _, rest = key.removeprefix(_PREFIX).rpartition(".lora_")
        side = rest.removesuffix(".weight").removesuffix(".default")
        if not layer or side not in ("A", "B") or matrix.ndim != 2:
            raise ModelError(f"{where} holds {key!r}, which is no matrix of a linear layer's LoRA.")
        found.setdefault(layer, {})[side] = matrix
    for layer, sides in found.items():
        if len(sides) != 2 or len(sides["A"]) != sides["B"].shape[1] or not len(sides["A"]):
            raise ModelError(f"{where} has no two matrices of one rank for {layer!r}. Fetch it again.")
    if not found:
        raise ModelError(f"{where} changes nothing: its {_WEIGHTS} is empty.")
    return {layer: (sides["A"], sides["B"]) for layer, sides in found.items()}

"""Where and how a model computes: chosen by what the container has, and by variables of its environment.

| variable | default |
|---|---|
| `ROUNDHOUSE_DEVICE` | `auto`: a GPU where there is one; or `cpu`, `cuda` |
| `ROUNDHOUSE_COMPUTE_TYPE` | `auto`: `int8` on a CPU, `float16` on a GPU; or a type that CTranslate2 knows |
| `OMP_NUM_THREADS` | the threads of one request on a CPU: the container's cores, at most 4 |
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import ctranslate2

from roundhouse_engine import ModelError
from roundhouse_engine.cores import available_cores

_DEVICES: Final = ("auto", "cpu", "cuda")
_TYPES: Final = (
    *("auto", "int8", "int8_float32", "int8_float16", "int8_bfloat16"),
    *("int16", "float16", "bfloat16", "float32"),
)

# More threads for one request than this gain little with models of this kind.
_THREADS: Final = 4


@dataclass(frozen=True, slots=True)
class Hardware:
    """`workers` compute side by side, each with so many `threads`; they share the weights."""

    device: str
    compute_type: str
    threads: int
    workers: int


def choose_hardware(environ: Mapping[str, str], capacity: int) -> Hardware:
    """For an engine that computes so many requests at once; raises `ModelError` for what is not here."""
    device = _one_of(environ, "ROUNDHOUSE_DEVICE", _DEVICES)
    compute_type = _one_of(environ, "ROUNDHOUSE_COMPUTE_TYPE", _TYPES)
    gpus = ctranslate2.get_cuda_device_count() if device != "cpu" else 0
    if device == "cuda" and not gpus:
        raise ModelError(
            "ROUNDHOUSE_DEVICE is 'cuda', and no GPU is seen here: give the container one, or set 'cpu'."
        )
    if device == "auto":
        device = "cuda" if gpus else "cpu"
    if compute_type == "auto":
        compute_type = "float16" if device == "cuda" else "int8"
    known = ctranslate2.get_supported_compute_types(device)
    if compute_type not in known:
        raise ModelError(
            f"ROUNDHOUSE_COMPUTE_TYPE is {compute_type!r}, which this {device} cannot compute with. "
            f"It can: {', '.join(sorted(known))}."
        )
    if device == "cuda":
        return Hardware(device, compute_type, 1, 1)
    cores = available_cores()
    told = environ.get("OMP_NUM_THREADS", "")
    threads = int(told) if told.isdigit() and int(told) else min(cores, _THREADS)
    return Hardware(device, compute_type, threads, max(min(cores // threads, capacity), 1))


def _one_of(environ: Mapping[str, str], name: str, known: tuple[str, ...]) -> str:
    value = environ.get(name, "").strip().lower() or "auto"
    if value not in known:
        raise ModelError(f"{name} must be one of {', '.join(known)}, not {value!r}.")
    return value

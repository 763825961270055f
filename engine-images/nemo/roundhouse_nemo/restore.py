"""Makes a model of an archive, whole or not at all. Imports NeMo, which takes half a minute.

NeMo's own `restore_from` changes the process's working directory and unpickles weights as torch's settings
say; here neither happens: weights are read where they lie, and what is no tensor in them is refused.
"""

import gc
import logging
import threading
import warnings
from collections.abc import Callable
from typing import IO, Any, Final

import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # dozens, of what lies in the library's dependencies
    from nemo.collections.asr import models as of_nemo
from omegaconf import OmegaConf, open_dict

from roundhouse_engine import ModelError
from roundhouse_engine.errors import memory_is_short
from roundhouse_nemo.archive import Archive
from roundhouse_nemo.settings import Settings

RATE: Final = 16_000
_LIBRARIES: Final = r"(nemo|torch|torchmetrics|lightning|pytorch_lightning|lhotse|librosa|numba|omegaconf)\b"
_one_at_a_time = threading.Lock()
"""Where a model's files lie NeMo keeps in a place that all models share."""

# What was imported stays. To look for garbage among it holds up all threads for 0.7 s, at each unload.
gc.collect()
gc.freeze()

logging.getLogger("nemo_logger").setLevel(logging.ERROR)
logging.getLogger("hydra.utils").setLevel(logging.CRITICAL)  # it takes what is a function for an error
warnings.filterwarnings("ignore", module=_LIBRARIES)


def restore(name: str, archive: Archive, settings: Settings, progress: Callable[[float], None]) -> Any:  # noqa: ANN401 - NeMo has no types
    """The model on its device, ready to compute; raises `ModelError`."""
    device = _device(settings)
    torch.set_num_threads(settings.threads)
    try:
        with _one_at_a_time:
            model = _build(archive)
            state = torch.load(_Counted(archive, progress), map_location="cpu", weights_only=True)
            model.load_state_dict(state, strict=True)
        model = model.to(device).eval().requires_grad_(False)
        _set_decoding(model, archive.decodes_by)
    except Exception as error:  # each library has its own kinds
        if memory_is_short(error):
            raise ModelError(f"{name!r} needs more memory than there is: give the pod more.") from error
        raise ModelError(
            f"{name!r}: {archive.file.name!r} cannot be loaded: {_first_line(error)} It may be "
            "damaged, or made by a NeMo that is too new or too old: fetch it again, or another."
        ) from error
    _check(name, model)
    return model


def _build(archive: Archive) -> Any:  # noqa: ANN401
    """The model as the configuration says, its weights not set yet."""
    kind = getattr(of_nemo, archive.class_name)
    config = OmegaConf.create(archive.config)
    OmegaConf.set_struct(config, True)
    kind._set_model_restore_state(is_being_restored=True, folder=str(archive.folder))  # noqa: SLF001 - as `restore_from` does
    try:
        return kind.from_config_dict(config)
    finally:
        kind._set_model_restore_state(is_being_restored=False)  # noqa: SLF001


def _set_decoding(model: Any, decodes_by: str) -> None:  # noqa: ANN401
    """The likeliest token at each place, of many recordings at once, with the times of words."""
    config = model.cfg.decoding.copy()
    if decodes_by == "aed":
        with open_dict(config):
            config.strategy = "beam"  # by which NeMo keeps what it computed for the tokens before
            config.beam = {**(config.get("beam") or {}), "beam_size": 1, "return_best_hypothesis": True}
        model.change_decoding_strategy(config)
        return
    with open_dict(config):
        config.strategy = "greedy_batch"
        config.compute_timestamps = True
        config[f"{decodes_by}_timestamp_type"] = "word"
        if decodes_by == "rnnt":
            config.fused_batch_size = -1
            # Where memory ends while graphs are made, NeMo goes on with those of before over freed memory.
            config.greedy = {**(config.get("greedy") or {}), "use_cuda_graph_decoder": False}
        else:
            config.preserve_alignments = True
    model.change_decoding_strategy(config, verbose=False)


def _check(name: str, model: Any) -> None:  # noqa: ANN401
    rate = model.cfg.preprocessor.sample_rate
    if rate != RATE:
        raise ModelError(f"{name!r} wants sound of {rate} samples a second; this engine has {RATE}.")
    if getattr(model.encoder, "subsampling_factor", None) is None:
        raise ModelError(
            f"{name!r} has an encoder of the kind {type(model.encoder).__name__}, which does not say how "
            "long its frames are: this engine serves those of Conformer's family."
        )


def _device(settings: Settings) -> str:
    there = torch.cuda.is_available()
    if settings.device == "cuda" and not there:
        raise ModelError(
            "ROUNDHOUSE_DEVICE is 'cuda', and no GPU is seen here: give the container one, or set 'cpu'."
        )
    return "cuda" if there and settings.device != "cpu" else "cpu"


class _Counted:
    """The weights, as `torch.load` reads them; tells how far that is."""

    def __init__(self, archive: Archive, progress: Callable[[float], None]) -> None:
        self._file: IO[bytes] = archive.weights
        self._bytes = archive.weights_bytes
        self._progress = progress
        self._done = 0
        self.seek, self.tell, self.readline = self._file.seek, self._file.tell, self._file.readline

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._done += len(data)
        self._progress(min(0.5 + 0.5 * self._done / max(self._bytes, 1), 1.0))
        return data


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{lines[0] if lines else 'no reason was given'} ({type(error).__name__})."

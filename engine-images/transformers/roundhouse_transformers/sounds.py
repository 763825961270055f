"""Sounds as Whisper's decoder hears them: bands of frequencies, and what the encoder makes of these."""

from collections.abc import Sequence
from typing import Any, Final

import torch
from transformers import WhisperFeatureExtractor

from roundhouse_engine import Cancellation, ModelError
from roundhouse_engine.together import Together
from roundhouse_transformers.loading import Loaded
from roundhouse_transformers.repository import Repository

RATE: Final = 16_000


class Sounds:
    """Several threads may encode at once."""

    def __init__(self, repository: Repository, loaded: Loaded, *, most: int, at_once: int) -> None:
        """`most` go through the encoder together. Raises `ModelError` where files say different things."""
        self._model, self._device = loaded.model, loaded.device
        self._features = _features(repository)
        self._together = Together[Any, torch.Tensor](self._encoded, most=most, at_once=at_once)

    def encode(self, samples: Any, cancellation: Cancellation) -> torch.Tensor:  # noqa: ANN401 - an array
        """Of at most half a minute at `RATE`, from -1 to 1, to [positions, width]."""
        cancellation.check()
        read = self._features(samples, sampling_rate=RATE, return_tensors="pt")["input_features"][0]
        return self._together(read, None, cancellation)

    def _encoded(self, sounds: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        """[bands, frames] each."""
        with torch.inference_mode():
            joined = torch.stack(list(sounds)).to(self._device, self._model.dtype)
            return list(self._model.model.encoder(joined).last_hidden_state)


def _features(repository: Repository) -> WhisperFeatureExtractor:
    """As all models of Whisper want the sound."""
    bands = int(repository.config.get("num_mel_bins") or 0)
    said = repository.json("preprocessor_config.json").get("feature_size", bands)
    if said != bands:
        raise ModelError(
            f"{repository.name!r} wants sound in {bands} bands, and its preprocessor_config.json has {said}. "
            "Fetch both again."
        )
    return WhisperFeatureExtractor(feature_size=bands)

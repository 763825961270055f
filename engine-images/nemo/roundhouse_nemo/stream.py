"""Listens while people speak, with models that are made for it: each piece of sound is encoded once.

Such an encoder looks back and a few frames ahead, and keeps in a cache what it needs of before. What it has
encoded so far is decoded on from the last token for what an utterance seems to say, and as a whole at its
end: what a recording of the same sound says, and when.
"""

import copy
import math
from collections.abc import Iterable
from typing import Any, Final

import torch
from omegaconf import open_dict
from typing_extensions import override

from roundhouse_engine import Cancellation, ModelError, Segment, SpeechOptions, Utterance, Window
from roundhouse_nemo.hearing import SHORTEST_SAMPLES, Hearing, as_sound
from roundhouse_nemo.restore import RATE

_STYLE: Final = "chunked_limited"
_BEFORE_FRAMES: Final = 4
"""Of sound that are computed again with new ones: a frame's window reaches into those before."""
_NORMALISED_BY_ALL: Final = ("per_feature", "all_features")


def live_of(name: str, hearing: Hearing, latency_ms: int | None) -> "Live | None":
    """None for a model that is not made for streams; raises `ModelError` for a latency that it has not."""
    if not _is_made_for_streams(hearing.model):
        return None
    if latency_ms is not None:
        _set_latency(name, hearing, latency_ms)
    return Live(hearing)


def _is_made_for_streams(model: Any) -> bool:  # noqa: ANN401 - NeMo has no types
    """No frame depends on sound that is far ahead, or on the whole of it."""
    encoder = model.encoder
    return (
        getattr(encoder, "att_context_style", None) == _STYLE
        and encoder.att_context_size[1] >= 0
        and model.cfg.preprocessor.normalize not in _NORMALISED_BY_ALL
    )


def _set_latency(name: str, hearing: Hearing, latency_ms: int) -> None:
    """The largest of the contexts that the model was made with, of those that fit."""
    encoder = hearing.model.encoder
    known = {
        round((size[1] + 1) * hearing.frame_seconds * 1000): list(size)
        for size in encoder.att_context_size_all
    }
    fitting = [each for each in known if each <= latency_ms]
    if not fitting:
        raise ModelError(
            f"ROUNDHOUSE_LATENCY_MS is {latency_ms}, and {name!r} hears at least {min(known)} ms before it "
            f"says more. It can: {', '.join(str(each) for each in sorted(known))}."
        )
    encoder.set_default_att_context_size(known[max(fitting)])


class Live:
    """What all streams of a model share."""

    def __init__(self, hearing: Hearing) -> None:
        self.hearing = hearing
        self.model = hearing.model
        self.model.encoder.setup_streaming_params()
        self.config = self.model.encoder.streaming_cfg
        self.hop = round(float(self.model.cfg.preprocessor.window_stride) * RATE)
        self.reach = round(float(self.model.cfg.preprocessor.window_size) * RATE)
        self.transducer = hasattr(self.model, "joint")
        self._decoding = self._without_times() if self.transducer else None

    def features(self, sound: torch.Tensor) -> torch.Tensor:
        """Of (bands, frames)."""
        length = torch.tensor([len(sound)], device=self.hearing.device)
        found, frames = self.model.preprocessor(
            input_signal=sound[None].to(self.hearing.device), length=length
        )
        wanted: torch.Tensor = found[0, :, : int(frames[0])]
        return wanted

    def go_on(self, encoded: torch.Tensor, before: Any) -> Any:  # noqa: ANN401
        """NeMo's hypothesis, after further frames (frames, features); `before` None at the beginning."""
        assert self._decoding is not None  # noqa: S101 - asked of a transducer
        return self._decoding.rnnt_decoder_predictions_tensor(
            encoder_output=encoded.T[None],
            encoded_lengths=torch.tensor([len(encoded)], device=self.hearing.device),
            return_hypotheses=True,
            partial_hypotheses=None if before is None else [before],
        )[0]

    def _without_times(self) -> Any:  # noqa: ANN401
        """A second decoder over the same weights: times of words end a hypothesis."""
        model, whole = self.model, self.model.decoding
        config = copy.deepcopy(model.cfg.decoding)
        with open_dict(config):
            config.compute_timestamps = False
        model.change_decoding_strategy(config, verbose=False)
        found, model.decoding = model.decoding, whole
        return found


class Streamed(Utterance):
    """An utterance of a model that is made for streams."""

    def __init__(self, live: Live, options: SpeechOptions, *, interim: bool) -> None:
        self._live = live
        self._options = options
        self._interim = interim
        self._samples = bytearray()
        self._features: list[torch.Tensor] = []
        self._known = 0
        """Frames of sound that are in `_features`."""
        self._at = 0
        """Those that are encoded."""
        self._encoded: list[torch.Tensor] = []
        self._cache: tuple[Any, ...] = live.model.encoder.get_initial_cache_state(batch_size=1)
        self._hypothesis: Any = None

    @override
    def feed(self, samples: bytes, cancellation: Cancellation) -> str | None:
        self._samples += samples
        with self._live.hearing.streaming():
            before = len(self._encoded)
            self._hear(cancellation, last=False)
            fresh = self._encoded[before:]
            if not fresh or not self._interim:
                return None
            return self._seems(torch.cat(fresh), cancellation)

    @override
    def finish(self, window: Window, cancellation: Cancellation) -> Iterable[Segment]:
        """What was fed may end after the window, with silence or with what begins the next one."""
        hearing = self._live.hearing
        beyond = len(self._samples) > len(window.samples)
        self._samples += window.samples[len(self._samples) :]
        self._samples += bytes(max(2 * SHORTEST_SAMPLES - len(self._samples), 0))
        with hearing.streaming():
            self._hear(cancellation, last=True)
            encoded = torch.cat(self._encoded)
        if beyond:
            encoded = encoded[: math.ceil(window.seconds / hearing.frame_seconds)]
        self.drop()
        return hearing.decode(encoded, cancellation).segments(window.start, words=self._options.words)

    @override
    def drop(self) -> None:
        self._samples.clear()
        self._features, self._encoded, self._hypothesis = [], [], None

    def _seems(self, fresh: torch.Tensor, cancellation: Cancellation) -> str:
        cancellation.check()
        if not self._live.transducer:
            return self._live.hearing.decode(torch.cat(self._encoded), cancellation).text
        self._hypothesis = self._live.go_on(fresh, self._hypothesis)
        return str(self._hypothesis.text)

    def _hear(self, cancellation: Cancellation, *, last: bool) -> None:
        """Encode what can be: pieces of the size that the model was made for, and at the end what is left."""
        self._measure(last=last)
        if not self._features:
            return
        features = torch.cat(self._features, 1)
        self._features = [features]
        while self._at < self._known and (last or self._at + self._size <= self._known):
            cancellation.check()
            self._step(features)

    @property
    def _size(self) -> int:
        return _of(self._live.config.chunk_size, first=self._at == 0)

    def _measure(self, *, last: bool) -> None:
        """Features of the new sound. A frame is final once sound goes on beyond its window's end."""
        live = self._live
        count = len(self._samples) // 2
        begin = max(self._known - _BEFORE_FRAMES, 0)
        sound = as_sound(bytes(self._samples[2 * begin * live.hop :]), shortest=0)
        final = count // live.hop if last else (count - live.reach) // live.hop
        if final > self._known:
            found = live.features(sound)[:, self._known - begin : final - begin]
            self._features.append(found)
            self._known += found.shape[1]

    def _step(self, features: torch.Tensor) -> None:
        config, first = self._live.config, self._at == 0
        end = min(self._at + self._size, self._known)
        cached = _of(config.pre_encode_cache_size, first=first)
        piece = features[:, max(self._at - cached, 0) : end]
        # Nothing before the beginning is no silence: what would reach there begins with the first again.
        early = first or self._at < cached
        again = sum(map(len, self._encoded)) if early else config.drop_extra_pre_encoded
        self._at += _of(config.shift_size, first=first)
        is_last = self._at >= self._known
        with torch.inference_mode():
            encoded, frames, *cache = self._live.model.encoder.cache_aware_stream_step(
                processed_signal=piece[None],
                processed_signal_length=torch.tensor([piece.shape[1]], device=piece.device),
                cache_last_channel=self._cache[0],
                cache_last_time=self._cache[1],
                cache_last_channel_len=self._cache[2],
                keep_all_outputs=is_last,
                drop_extra_pre_encoded=again,
            )
        self._cache = tuple(cache)
        self._encoded.append(encoded[0, :, : int(frames[0])].T)


def _of(size: Any, *, first: bool) -> int:  # noqa: ANN401
    """NeMo gives one number, or one for the first piece and one for the others."""
    return int(size if isinstance(size, int) else size[0 if first else 1])

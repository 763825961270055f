"""Samples to a file in one of OpenAI's formats of speech, by the encoders that PyAV brings.

The same samples become the same bytes: what containers would make up by chance is left out.
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import av
import numpy as np
from numpy.typing import NDArray

_BIT_RATE: Final = 192_000
"""Of both channels, where a format loses something: what is heard no more of music."""
_BLOCK: Final = 1 << 15
"""Samples of a channel between two looks at whether anybody waits."""


@dataclass(frozen=True, slots=True)
class _Format:
    """`rate`: the only one that the codec takes, if so."""

    container: str
    codec: str
    lossy: bool = False
    rate: int | None = None


_FORMATS: Final[Mapping[str, _Format]] = {
    "wav": _Format("wav", "pcm_s16le"),
    "mp3": _Format("mp3", "libmp3lame", lossy=True),
    "flac": _Format("flac", "flac"),
    "opus": _Format("ogg", "libopus", lossy=True, rate=48_000),
    "aac": _Format("adts", "aac", lossy=True),
    "pcm": _Format("s16le", "pcm_s16le"),
}


def encode(samples: NDArray[np.float32], rate: int, name: str, check: Callable[[], None]) -> bytes:
    """The file, of [channels, samples]; `check` is called between pieces, to end it by raising."""
    wanted = _FORMATS[name]
    pcm = np.round(np.clip(np.nan_to_num(samples), -1.0, 1.0) * 32767.0).astype("<i2")
    layout = "mono" if len(pcm) == 1 else "stereo"
    file = io.BytesIO()
    with av.open(file, "w", format=wanted.container, options={"fflags": "+bitexact"}) as container:
        stream: Any = container.add_stream(
            wanted.codec, rate=wanted.rate or _taken(wanted, rate), layout=layout
        )
        stream.codec_context.flags |= av.codec.context.Flags.bitexact
        if wanted.lossy:
            stream.bit_rate = _BIT_RATE * len(pcm) // 2
        for start in range(0, pcm.shape[1], _BLOCK):
            check()
            # Packed: the channels' samples by turns.
            block = np.ascontiguousarray(pcm[:, start : start + _BLOCK].T).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(block, format="s16", layout=layout)
            frame.sample_rate, frame.pts = rate, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def _taken(wanted: _Format, rate: int) -> int:
    """The next higher rate that the codec takes, or its highest."""
    rates = av.Codec(wanted.codec, "w").audio_rates or (rate,)
    return min((each for each in rates if each >= rate), default=max(rates))

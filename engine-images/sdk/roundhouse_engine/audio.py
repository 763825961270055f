"""Reads any recording as bounded blocks of mono 16-bit audio, and says plainly why one cannot be read.

A recording is looked through twice: `inspect` reads packets without decoding them, which is quick, so that a
file that is cut off, too long or empty is refused before any computing; `decode` then yields the samples.

A container that says how long it is and ends before that is cut off: refused, since half of an answer looks
like a whole one. One that says nothing of its length (a live recording) is taken as far as it goes.
"""

import re
from collections.abc import Iterator
from typing import BinaryIO, Final

import av
import av.error

from roundhouse_engine.errors import EngineError, invalid
from roundhouse_engine.handler import Cancellation
from roundhouse_engine.timeline import ESTIMATED, Timeline
from roundhouse_engine.tuning import Tuner
from roundhouse_engine.wav import RATES, UNKNOWN_LENGTH_FROM, Wav, as_frame, blocks, is_bare, read_wav

# Containers of audio. Playlists (hls, dash, concat) stay out: they name other files and addresses, which a
# stranger's upload must not make the engine read.
CONTAINERS: Final = (
    "3gp,aac,ac3,aiff,amr,ape,asf,au,avi,caf,dsf,dts,eac3,flac,flv,m4a,matroska,mov,mp2,mp3,mp4,mpeg,"
    "mpegts,ogg,tta,w64,wav,webm,wv,xwma"
)
_OPTIONS: Final = {"format_whitelist": CONTAINERS, "protocol_whitelist": "none"}

# Bare samples come in packets of any size, and of two kilobytes most of the time goes into packets. Whether
# they hide something else, as DTS on discs does, one packet of this size tells.
_OF_WAV: Final = {"max_size": "65536", "max_probe_packets": "1"}

BLOCK_SECONDS: Final = 1.0

_SLACK_SECONDS: Final = 0.25
_SLACK_PART: Final = 0.001

# Of an MP3's first frame. Tags may follow its last; from more on FFmpeg guesses the length from the size.
_COUNTS_FRAMES: Final = 1
_COUNTS_BYTES: Final = 2
_MORE_PART: Final = 16

_REMEDY: Final = "Send a whole file in a common format: wav, flac, mp3, m4a, ogg, opus or webm."


def inspect(file: BinaryIO, limit_seconds: float, cancellation: Cancellation) -> float:
    """The length in seconds, from a look through the whole file; raises `EngineError` 400 for a bad one."""
    if file.seek(0, 2) == 0:
        raise invalid("The uploaded file is empty: it has no bytes.", param="file", code="audio_empty")
    try:
        return _inspect(file, limit_seconds, cancellation)
    except (av.error.FFmpegError, ValueError) as error:
        raise unreadable(error) from error


def decode(
    file: BinaryIO, sample_rate: int, limit_seconds: float, cancellation: Cancellation
) -> Iterator[bytes]:
    """The recording as mono s16 blocks of at most a second; where nothing is to be had there is silence.

    Raises `EngineError` 400 if not one sample could be decoded, or more than the packets had promised.
    """
    block_bytes = round(sample_rate * BLOCK_SECONDS) * 2
    block = bytearray()
    decoded = False
    for chunk in _readable(_chunks(file, sample_rate, limit_seconds, cancellation)):
        decoded = True
        block += chunk
        while len(block) >= block_bytes:
            yield bytes(block[:block_bytes])
            del block[:block_bytes]
    if not decoded:
        raise unreadable(None)
    if block:
        yield bytes(block)


def _readable(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The chunks; what ends them before their end is the file's fault, and becomes its problem."""
    try:
        yield from chunks
    except (av.error.FFmpegError, ValueError) as error:
        raise unreadable(error) from error


def _chunks(
    file: BinaryIO, sample_rate: int, limit_seconds: float, cancellation: Cancellation
) -> Iterator[bytes]:
    """Decoded and resampled audio, in pieces as large as the file's packets, and silence where none is."""
    if (wav := read_wav(file)) is not None and is_bare(file, wav):
        yield from _bare(file, wav, sample_rate, cancellation)
        return
    with _opened(file) as container:
        line, tuner = Timeline(container), Tuner(sample_rate)
        for packet in container.demux(container.streams.audio[0]):
            cancellation.check()
            for frame in _frames(packet):
                if silence := line.place(frame.time, frame.samples / frame.sample_rate):
                    yield from tuner.flush()
                    yield from _silence(round(silence * sample_rate) * 2, sample_rate)
                yield from tuner.tune(frame)
            if line.end > limit_seconds + _SLACK_SECONDS + limit_seconds * _SLACK_PART:
                raise _too_long(limit_seconds)
        yield from tuner.flush()


def _bare(file: BinaryIO, wav: Wav, sample_rate: int, cancellation: Cancellation) -> Iterator[bytes]:
    tuner = Tuner(sample_rate)
    for block in blocks(file, wav):
        cancellation.check()
        yield from (block,) if wav.rate == sample_rate else tuner.tune(as_frame(block, wav.rate))
    yield from tuner.flush()


def _opened(file: BinaryIO) -> av.container.InputContainer:
    file.seek(0)
    head = file.read(12)
    file.seek(0)
    is_wav = head[:4] == b"RIFF" and head[8:] == b"WAVE"
    return av.open(file, "r", options=_OPTIONS | (_OF_WAV if is_wav else {}), metadata_errors="ignore")


def _frames(packet: "av.Packet[av.AudioStream]") -> list[av.AudioFrame]:
    try:
        return [frame for frame in packet.decode() if frame.samples and frame.sample_rate in RATES]
    except (av.error.FFmpegError, ValueError):
        return []  # a damaged packet; `decode` notices if there was nothing else


def _silence(size: int, sample_rate: int) -> Iterator[bytes]:
    second = sample_rate * 2
    for start in range(0, size, second):
        yield bytes(min(second, size - start))


def unreadable(error: Exception | None) -> EngineError:
    detail = f" ({error.strerror})" if isinstance(error, av.error.FFmpegError) else ""
    return invalid(
        f"The uploaded file is not audio that can be read, or it was cut off{detail}. {_REMEDY}",
        param="file",
        code="audio_unreadable",
    )


def _inspect(file: BinaryIO, limit_seconds: float, cancellation: Cancellation) -> float:
    cancellation.check()
    wav = read_wav(file)
    if wav is not None and wav.contradiction:
        raise _wrong_header("wav", wav.contradiction)
    if wav is not None and wav.data_bytes is None and not file.read(1):
        raise no_samples()
    written = None if wav is None else wav.seconds
    if wav is not None and written is not None and is_bare(file, wav):
        if written > limit_seconds:
            raise _too_long(limit_seconds)
        return written
    counted = _mp3_counts_frames(file)
    with _opened(file) as container:
        if not container.streams.audio:
            raise invalid(f"The uploaded file holds no audio. {_REMEDY}", param="file", code="audio_missing")
        stream = container.streams.audio[0]
        if stream.codec_context is None:  # a codec that the damaged header names and nobody knows
            raise unreadable(None)
        if stream.codec_context.sample_rate not in RATES:
            raise unreadable(None)
        declared = written
        if declared is None and (counted or container.format.name not in ESTIMATED):
            declared = _declared_seconds(container, stream)
        sound, whole = _found_seconds(container, stream, limit_seconds, cancellation)
        name = container.format.name.partition(",")[0]
    if declared is not None and declared - whole > _SLACK_SECONDS + declared * _SLACK_PART:
        raise _cut_off(name, declared, whole)
    if sound == 0:
        raise no_samples()
    return sound


def _found_seconds(
    container: av.container.InputContainer,
    stream: av.AudioStream,
    limit_seconds: float,
    cancellation: Cancellation,
) -> tuple[float, float]:
    """Where the sound ends, and where the last of all does: a picture may outlast it."""
    line, last = Timeline(container), 0.0
    bases: dict[int, float] = {}  # of streams that may begin on the way; fractions take their time
    for packet in container.demux():
        cancellation.check()
        index = packet.stream_index
        if index not in bases:
            bases[index] = float(packet.time_base or 0)
        if packet.size == 0 or packet.pts is None or not bases[index]:
            continue
        time, seconds = packet.pts * bases[index], (packet.duration or 0) * bases[index]
        last = max(last, time + seconds)
        if index == stream.index:
            line.place(time, seconds)
            if line.end > limit_seconds:
                raise _too_long(limit_seconds)
    whole = max(line.end, last - (container.start_time or 0) / av.time_base)
    return round(line.end, 6), round(whole, 6)  # of thousands of parts, the sum of their errors is no length


def _declared_seconds(container: av.container.InputContainer, stream: av.AudioStream) -> float | None:
    seconds = None
    if stream.duration is not None and stream.time_base is not None:
        seconds = float(stream.duration * stream.time_base)
    elif container.duration is not None:
        seconds = container.duration / av.time_base
    unknown = seconds is not None and seconds * (stream.bit_rate or 0) / 8 >= UNKNOWN_LENGTH_FROM
    return None if unknown else seconds


def _mp3_counts_frames(file: BinaryIO) -> bool:
    """Whether an MP3 counts its frames in its first one, as encoders that can seek back write.

    Not where more follows than it counts the bytes of: several in a row, of which it tells the first alone.
    """
    file.seek(0)
    head = file.read(10)
    begin = 0
    if head[:3] == b"ID3" and len(head) == 10:
        high, middle, low, lowest = head[6:]
        begin = 10 + (high << 21 | middle << 14 | low << 7 | lowest)
    file.seek(begin)
    frame = file.read(256)
    tag = re.search(rb"(?:Xing|Info)(....)", frame, re.DOTALL)
    if tag is None:
        return False
    flags = int.from_bytes(tag[1])
    place = tag.end() + 4 * (flags & _COUNTS_FRAMES)
    counted = int.from_bytes(frame[place : place + 4]) if flags & _COUNTS_BYTES else 0
    return not counted or file.seek(0, 2) - begin <= counted + counted // _MORE_PART


def no_samples() -> EngineError:
    return invalid("The uploaded file holds no samples of audio.", param="file", code="audio_empty")


def _too_long(limit_seconds: float) -> EngineError:
    return invalid(
        f"The recording is longer than this engine takes ({limit_seconds:g} s). Send it in parts.",
        param="file",
        code="audio_too_long",
    )


def _wrong_header(container: str, what: str) -> EngineError:
    return invalid(
        f"The uploaded file's {container} header is wrong: it tells of {what}. {_REMEDY}",
        param="file",
        code="audio_unreadable",
    )


def _cut_off(container: str, declared: float, found: float) -> EngineError:
    return invalid(
        f"The uploaded file is cut off: its {container} header announces {declared:.2f} s of audio, "
        f"{found:.2f} s are there. Send the whole file.",
        param="file",
        code="audio_cut_off",
    )

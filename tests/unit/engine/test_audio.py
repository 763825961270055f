"""Reading recordings: every common format, every way in which a file can be wrong."""

import contextlib
import io
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
import pytest

from roundhouse_engine import Cancellation, Cancelled
from roundhouse_engine.audio import BLOCK_SECONDS, decode, inspect
from roundhouse_engine.errors import EngineError, Problem
from tests.support.recordings import wav
from tests.unit.engine.encoding import RATE, SECONDS, encoded, melody, sox

HOUR = 3600.0


@dataclass(frozen=True)
class Encoding:
    id: str
    make: Callable[[], bytes]
    cut_is_noticed: bool = True


ENCODINGS = [
    Encoding("wav 44.1 kHz stereo", lambda: encoded("wav", "pcm_s16le", rate=44_100, layout="stereo")),
    Encoding("wav 24 bit", lambda: sox("-t", "wav", "-b", "24")),
    Encoding("wav 8 bit 8 kHz", lambda: sox("-t", "wav", "-b", "8", "-r", "8000")),
    Encoding(
        "wav float 96 kHz 6 channels", lambda: sox("-t", "wav", "-e", "float", "-c", "6", "-r", "96000")
    ),
    Encoding("wav mu-law", lambda: sox("-t", "wav", "-e", "u-law", "-r", "8000")),
    Encoding("flac", lambda: encoded("flac", "flac")),
    Encoding("mp3", lambda: encoded("mp3", "libmp3lame", rate=44_100, layout="stereo")),
    Encoding("m4a", lambda: encoded("ipod", "aac")),
    Encoding("webm", lambda: encoded("webm", "libopus")),
    Encoding("aiff", lambda: encoded("aiff", "pcm_s16be")),
    Encoding("ogg vorbis", lambda: sox("-t", "ogg")),  # in one page, so that a part of it is nothing
    # These say nothing of their length: as far as they go is all that there is.
    Encoding("ogg opus", lambda: encoded("ogg", "libopus"), cut_is_noticed=False),
    Encoding(
        "mp3 of a live source", lambda: encoded("mp3", "libmp3lame", seekable=False), cut_is_noticed=False
    ),
    Encoding(
        "webm of a live source", lambda: encoded("webm", "libopus", seekable=False), cut_is_noticed=False
    ),
    Encoding(
        "wav of a live source", lambda: encoded("wav", "pcm_s16le", seekable=False), cut_is_noticed=False
    ),
    Encoding("adts", lambda: encoded("adts", "aac"), cut_is_noticed=False),
]


def read(data: bytes, *, limit: float = HOUR) -> bytes:
    file = io.BytesIO(data)
    inspect(file, limit, Cancellation())
    return b"".join(decode(file, RATE, HOUR, Cancellation()))


def problem(data: bytes, *, limit: float = HOUR) -> Problem:
    with pytest.raises(EngineError) as caught:
        read(data, limit=limit)
    assert (caught.value.problem.status, caught.value.problem.param) == (400, "file")
    return caught.value.problem


def read_or_refuse(data: bytes) -> None:
    """Any error but the one that a client can understand fails the test."""
    with contextlib.suppress(EngineError):
        read(data)


@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda encoding: encoding.id)
def test_any_format_becomes_mono_16_bit_of_the_engines_rate(encoding: Encoding) -> None:
    data = encoding.make()
    samples = read(data)
    assert len(samples) / 2 / RATE == pytest.approx(SECONDS, abs=0.15)
    loud = [abs(value) for (value,) in struct.iter_unpack("<h", samples)]
    assert max(loud) > 4000
    assert inspect(io.BytesIO(data), HOUR, Cancellation()) == pytest.approx(SECONDS, abs=0.15)


@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda encoding: encoding.id)
def test_a_file_that_is_cut_off(encoding: Encoding) -> None:
    data = encoding.make()
    cut = data[: len(data) * 7 // 10]
    if encoding.cut_is_noticed:
        assert problem(cut).code in {"audio_cut_off", "audio_unreadable"}
    else:
        assert 0.3 * SECONDS < len(read(cut)) / 2 / RATE < 0.9 * SECONDS


def test_a_cut_off_wav_says_how_much_is_missing() -> None:
    found = problem(wav(melody())[: 44 + 2 * RATE])
    assert found.code == "audio_cut_off"
    assert "announces 4.00 s" in found.message
    assert "1.00 s are there" in found.message


def test_a_wav_whose_writer_left_the_length_open_is_read_to_its_end() -> None:
    data = bytearray(wav(melody()))
    data[40:44] = b"\xff\xff\xff\xff"
    assert len(read(bytes(data))) == len(melody())


@pytest.mark.parametrize("kept", [1, 100, 2000])
@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda encoding: encoding.id)
def test_the_first_bytes_of_a_file_alone_never_crash(encoding: Encoding, kept: int) -> None:
    read_or_refuse(encoding.make()[:kept])


def test_blocks_are_bounded() -> None:
    blocks = list(decode(io.BytesIO(wav(melody())), RATE, HOUR, Cancellation()))
    assert [len(block) for block in blocks] == [int(RATE * 2 * BLOCK_SECONDS)] * int(SECONDS)


@dataclass(frozen=True)
class NoAudio:
    id: str
    data: bytes
    code: str


NO_AUDIO = [
    NoAudio("empty", b"", "audio_empty"),
    NoAudio("text", b"this is no recording\n" * 100, "audio_unreadable"),
    NoAudio("json", b'{"audio": null}', "audio_unreadable"),
    NoAudio("wav header alone", wav(b""), "audio_empty"),
    NoAudio("half a wav header", wav(b"")[:30], "audio_unreadable"),
    NoAudio("zip", b"PK\x03\x04" + bytes(500), "audio_unreadable"),
    NoAudio("headerless samples", melody(), "audio_unreadable"),
]


@pytest.mark.parametrize("case", NO_AUDIO, ids=lambda case: case.id)
def test_what_is_no_audio_is_refused(case: NoAudio) -> None:
    assert problem(case.data).code == case.code


@pytest.mark.parametrize("seed", range(20))
def test_garbage_is_refused(seed: int) -> None:
    generator = random.Random(seed)  # noqa: S311 - no secret
    assert problem(generator.randbytes(generator.choice([10, 3000, 200_000]))).code == "audio_unreadable"


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("encoding", ENCODINGS[5:9], ids=lambda encoding: encoding.id)
def test_damage_inside_a_file_is_survived_or_refused(encoding: Encoding, seed: int) -> None:
    generator = random.Random(seed)  # noqa: S311
    data = bytearray(encoding.make())
    for _ in range(30):
        data[generator.randrange(len(data))] = generator.randrange(256)
    read_or_refuse(bytes(data))


@pytest.mark.parametrize(
    "playlist",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{path}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{path}'\n",
        "#EXTM3U\n{path}\n",
    ],
    ids=["hls", "concat", "m3u"],
)
def test_an_upload_cannot_make_the_engine_read_other_files(playlist: str, tmp_path: Path) -> None:
    path = tmp_path / "secret.wav"
    path.write_bytes(wav(melody()))
    assert problem(playlist.format(path=path).encode()).code == "audio_unreadable"


def test_a_recording_that_is_too_long_is_refused_before_it_is_decoded() -> None:
    found = problem(wav(melody()), limit=3)
    assert found.code == "audio_too_long"
    assert "3 s" in found.message


def test_a_header_that_makes_hours_of_a_few_samples() -> None:
    """Four samples a second: an hour in 28 kB, which one packet would blow up to a hundred megabytes."""
    assert problem(wav(bytes(28_800), rate_hertz=4), limit=2 * HOUR).code == "audio_unreadable"


def test_a_video_without_sound() -> None:
    out = io.BytesIO()
    with av.open(out, "w", format="matroska") as target:
        stream = target.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 32
        for _ in range(5):
            target.mux(stream.encode(av.VideoFrame(32, 32, "yuv420p")))
        target.mux(stream.encode(None))
    assert problem(out.getvalue()).code == "audio_missing"


def test_cancellation_stops_both_passes() -> None:
    cancelled = Cancellation()
    cancelled.cancel()
    with pytest.raises(Cancelled):
        inspect(io.BytesIO(wav(melody())), HOUR, cancelled)
    with pytest.raises(Cancelled):
        list(decode(io.BytesIO(wav(melody())), RATE, HOUR, cancelled))

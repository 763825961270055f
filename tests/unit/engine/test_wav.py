"""Bare samples are read as they lie, and become what FFmpeg makes of them; all else is FFmpeg's."""

import io
import struct

import av
import pytest
from typing_extensions import override

from roundhouse_engine import Cancellation
from roundhouse_engine.audio import decode, inspect
from roundhouse_engine.errors import EngineError
from roundhouse_engine.wav import RATES, is_bare, read_wav
from tests.support.recordings import wav
from tests.unit.engine.encoding import RATE, SECONDS, melody

HOUR = 3600.0
_RATES_AT = struct.calcsize("<4sI4s4sIHH")
_FORMAT_AT = struct.calcsize("<4sI4s4sI")
_BITS_AT = struct.calcsize("<4sI4s4sIHHIIH")


def read(data: bytes) -> tuple[float, bytes]:
    file = io.BytesIO(data)
    seconds = inspect(file, HOUR, Cancellation())
    return seconds, b"".join(decode(file, RATE, HOUR, Cancellation()))


def bare(data: bytes) -> bool:
    file = io.BytesIO(data)
    found = read_wav(file)
    return found is not None and is_bare(file, found)


def with_a_note_behind(data: bytes) -> bytes:
    """As editors write: FFmpeg reads these."""
    return data + struct.pack("<4sI4s", b"LIST", 4, b"INFO")


def changed(data: bytes, at: int, *fields: int, form: str) -> bytes:
    return data[:at] + struct.pack(form, *fields) + data[at + struct.calcsize(form) :]


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
def test_becomes_what_ffmpeg_makes_of_it(rate: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = wav(melody(), rate_hertz=rate)
    assert bare(data)
    assert not bare(with_a_note_behind(data))
    seconds, samples = read(with_a_note_behind(data))
    monkeypatch.setattr(av, "open", None)  # nobody asks it
    assert read(data)[1] == samples
    assert read(data)[0] == pytest.approx(seconds, abs=1e-6)


def test_the_same_samples_come_out_that_went_in() -> None:
    assert read(wav(melody())) == (SECONDS, melody())


def test_a_header_says_what_is_there() -> None:
    found = read_wav(io.BytesIO(wav(melody(), rate_hertz=8_000)))
    assert found is not None
    assert (found.codec, found.channels, found.rate, found.sample_bits) == (1, 1, 8_000, 16)
    assert found.seconds == pytest.approx(2 * SECONDS)
    assert read_wav(io.BytesIO(b"RIFF\0\0\0\0WAVEfmt ")) is None
    assert read_wav(io.BytesIO(b"ID3")) is None


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(wav(melody())[:-2], id="cut off"),
        pytest.param(
            changed(wav(melody()), _RATES_AT, 16_000, 1, form="<II"), id="a rate of bytes that lies"
        ),
        pytest.param(changed(wav(melody()), _RATES_AT, 10, 20, form="<II"), id="ten samples a second"),
        pytest.param(changed(wav(melody()), _RATES_AT, 2**31, 0, form="<II"), id="a rate beyond all"),
        pytest.param(changed(wav(melody()), _FORMAT_AT, 3, form="<H"), id="another codec"),
        pytest.param(changed(wav(melody()), _FORMAT_AT, 1, 2, form="<HH"), id="two channels"),
        pytest.param(wav(b""), id="empty"),
        pytest.param(b"RIFF", id="torn"),
    ],
)
def test_what_is_more_than_bare_samples_is_left_to_ffmpeg(data: bytes) -> None:
    assert not bare(data)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        pytest.param(changed(wav(melody()), _FORMAT_AT, 1, 0, form="<HH"), "no channel", id="no channels"),
        pytest.param(
            changed(wav(melody()), _BITS_AT, 7, form="<H"),
            "7 bits a sample, and 2 bytes for one of each channel",
            id="7 bits",
        ),
    ],
)
def test_a_header_that_no_samples_can_be_of_is_told_as_such(data: bytes, said: str) -> None:
    with pytest.raises(EngineError) as told:
        read(data)
    assert told.value.problem.code == "audio_unreadable"
    assert f"The uploaded file's wav header is wrong: it tells of {said}." in told.value.problem.message


def test_odd_headers_of_whole_samples_are_heard() -> None:
    twelve_bits = changed(wav(melody()), _BITS_AT, 12, form="<H")
    assert read(twelve_bits)[0] == pytest.approx(SECONDS)
    undescribed = wav(melody()).replace(b"fmt ", b"junk")
    with pytest.raises(EngineError, match="is not audio that can be read"):
        read(undescribed)


def of_rate(rate: int, channels: int) -> bytes:
    frame = 2 * channels
    return changed(wav(melody()), _FORMAT_AT, 1, channels, rate, rate * frame, frame, form="<HHIIH")


@pytest.mark.parametrize("channels", [1, 2])
def test_a_rate_beyond_all_is_refused_before_there_is_a_filter_for_it(channels: int) -> None:
    """From a hundred million to sixteen thousand it takes a gigabyte and seconds, for the first sample."""
    read(of_rate(RATES[-1], channels))
    for rate in (RATES[-1] + 1, 100_000_007):
        with pytest.raises(EngineError) as refused:
            read(of_rate(rate, channels))
        assert refused.value.problem.code == "audio_unreadable"


class Counted(io.BytesIO):
    reads = 0

    @override
    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        return super().read(size)


def test_a_header_that_does_not_end_is_left_off() -> None:
    """Nobody could stop who walks through a gigabyte of it."""
    recording = wav(melody())
    file = Counted(recording[:12] + b"junk\0\0\0\0" * 100_000 + recording[12:])
    with pytest.raises(EngineError) as refused:
        inspect(file, HOUR, Cancellation())
    assert refused.value.problem.code == "audio_unreadable"
    assert file.reads < 10_000
    assert read(recording[:12] + b"junk\0\0\0\0" * 100 + recording[12:])[0] == SECONDS


def test_too_long_is_refused_by_the_header_alone() -> None:
    with pytest.raises(EngineError) as refused:
        inspect(io.BytesIO(wav(melody())), SECONDS / 2, Cancellation())
    assert refused.value.problem.code == "audio_too_long"

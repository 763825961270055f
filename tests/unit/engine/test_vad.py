"""Cutting a stream into windows of speech."""

import wave
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from roundhouse_engine import Cancellation, Cancelled, Window
from roundhouse_engine.vad import FRAME_SECONDS, EnergyDetector, cut, frames
from tests.support.recordings import TEST_DATA

RATE = 16_000


def tone(seconds: float, amplitude: int = 8000) -> bytes:
    at = np.arange(round(seconds * RATE))
    # Rough like a voice: a plain sine is as steady as background.
    samples = np.sin(at * 0.1) * amplitude * (0.6 + 0.4 * np.sin(at * 0.002))
    return bytes(samples.astype("<i2").tobytes())


def noise(seconds: float, amplitude: int = 30) -> bytes:
    return np.random.default_rng(1).normal(0, amplitude, round(seconds * RATE)).astype("<i2").tobytes()


def silence(seconds: float) -> bytes:
    return bytes(round(seconds * RATE) * 2)


def windows(audio: bytes, *, longest: float = 30, block: int = 32_000) -> list[Window]:
    blocks = (audio[at : at + block] for at in range(0, len(audio), block))
    return list(cut(blocks, RATE, EnergyDetector(), longest, Cancellation()))


@pytest.mark.parametrize(
    "background", [silence(5), noise(5), noise(60, 500)], ids=["digital silence", "noise", "loud noise"]
)
def test_without_speech_there_is_no_window(background: bytes) -> None:
    assert windows(background) == []


@pytest.mark.parametrize("pause", [silence, noise], ids=["digital silence", "noise"])
def test_each_utterance_is_a_window_that_holds_it_whole(pause: object) -> None:
    between = silence if pause is silence else noise
    found = windows(between(2) + tone(1) + between(2) + tone(1.5) + between(2))
    assert [window.sample_rate for window in found] == [RATE, RATE]
    for window, (begin, end) in zip(found, [(2, 3), (5, 6.5)], strict=True):
        assert begin - 0.7 <= window.start <= begin
        assert end <= window.start + window.seconds <= end + 0.7


def read_aloud() -> NDArray[np.float64]:
    """A sentence from a book after a second of nothing, as loud as it was recorded: about 62 dB."""
    with wave.open(str(TEST_DATA / "librivox/sense_and_sensibility_01_austen_64kb-0930.wav")) as recording:
        said = recording.readframes(recording.getnframes())
    return np.frombuffer(silence(1) + said, "<i2").astype(float)


def coloured(size: int, power: float) -> NDArray[np.float64]:
    """Noise whose power falls so with the frequency: 0 is white, 1 is pink. Its loudness is 0 dB."""
    spectrum = np.fft.rfft(np.random.default_rng(1).normal(size=size))
    found = np.fft.irfft(spectrum / np.maximum(np.arange(len(spectrum)), 1) ** (power / 2), size)
    return np.asarray(found / found.std())


@pytest.mark.parametrize(
    ("decibels", "power", "loud"),
    [(20, 0, 1.0), (5, 0, 1.0), (5, 1, 1.0), (0, 1, 1.0), (20, 0, 0.01), (5, 0, 0.1), (5, 0, 0.03)],
    ids=["some noise", "white noise", "pink noise", "as loud as speech", "soft", "soft in noise", "far away"],
)
def test_speech_in_noise_and_soft_speech_are_heard(decibels: float, power: float, loud: float) -> None:
    said = read_aloud()
    level = np.sqrt(np.mean(said[RATE:] ** 2)) / 10 ** (decibels / 20)
    mixed = (said + level * coloured(len(said), power)) * loud
    found = windows(np.clip(mixed, -32768, 32767).astype("<i2").tobytes())
    heard = sum(
        min(window.start + window.seconds, len(said) / RATE) - max(window.start, 1) for window in found
    )
    assert heard > 0.9 * (len(said) / RATE - 1)


def test_speech_without_a_pause_is_cut_at_the_limit_and_nothing_is_lost() -> None:
    audio = tone(25)
    found = windows(audio, longest=10)
    assert all(window.seconds <= 10 + FRAME_SECONDS for window in found)
    assert b"".join(window.samples for window in found) == audio


def test_speech_up_to_the_last_sample_and_shorter_than_a_frame_at_the_end() -> None:
    audio = silence(1) + tone(0.5) + tone(0.013)
    (window,) = windows(audio)
    assert audio.endswith(window.samples)


def test_cancellation_stops_the_cutting() -> None:
    cancellation = Cancellation()

    def endless() -> Iterator[bytes]:
        while True:
            yield silence(1)
            cancellation.cancel()

    with pytest.raises(Cancelled):
        list(cut(endless(), RATE, EnergyDetector(), 30, cancellation))


@given(st.lists(st.binary(max_size=50), max_size=20), st.integers(1, 17))
def test_frames_are_the_blocks_in_another_size(blocks: list[bytes], size: int) -> None:
    found = list(frames(blocks, size))
    assert b"".join(found) == b"".join(blocks)
    assert all(len(frame) == size for frame in found[:-1])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(1, 60)), max_size=12),
    st.floats(0.6, 3),
    st.integers(500, 40_000),
)
def test_windows_are_pieces_of_the_recording_in_order(
    parts: list[tuple[bool, int]], longest: float, block: int
) -> None:
    """Whatever is heard: right place, no overlap, never longer than the limit."""
    audio = b"".join((tone if speech else silence)(count * FRAME_SECONDS) for speech, count in parts)
    end = 0
    for window in windows(audio, longest=longest, block=block):
        start = round(window.start * RATE) * 2
        assert start >= end
        assert audio[start : start + len(window.samples)] == window.samples
        assert window.seconds <= max(longest, 0.6) + FRAME_SECONDS
        end = start + len(window.samples)

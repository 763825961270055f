"""What is heard of recordings that are not one even stretch of one channel: when, and how loud."""

import io
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from roundhouse_engine import Cancellation
from roundhouse_engine.audio import decode, inspect
from roundhouse_engine.errors import EngineError
from tests.unit.engine.encoding import RATE, SECONDS, encoded, melody

LIMIT = 60.0
Sound = NDArray[np.float32]


def heard(data: bytes, *, limit: float = LIMIT) -> Sound:
    """From -1 to 1, once the look through the file says as much."""
    file = io.BytesIO(data)
    seconds = inspect(file, limit, Cancellation())
    samples = np.frombuffer(b"".join(decode(file, RATE, limit, Cancellation())), "<i2")
    assert seconds == pytest.approx(len(samples) / RATE, abs=0.15)
    return samples.astype(np.float32) / np.float32(32768)


def spoken_seconds(sound: Sound) -> tuple[float, float]:
    """Where the first and the last loud sample are."""
    loud = np.flatnonzero(np.abs(sound) > 0.05)
    return float(loud[0]) / RATE, float(loud[-1] + 1) / RATE


def film(container: str, picture_seconds: float, *, sound_from: float = 0.0) -> bytes:
    """A picture, and the melody from some second of it on."""
    out = io.BytesIO()
    codec = {"mp4": "aac", "avi": "libmp3lame"}.get(container, "libopus")
    with av.open(out, "w", format=container) as target:
        screen = target.add_stream("libvpx" if container == "webm" else "mpeg4", rate=10)
        screen.width = screen.height = 64
        screen.pix_fmt = "yuv420p"
        voice = target.add_stream(codec, rate=48_000, layout="mono")
        assert isinstance(screen, av.VideoStream)
        assert isinstance(voice, av.AudioStream)
        packets = []
        for number in range(round(picture_seconds * 10)):
            picture = av.VideoFrame(64, 64, "yuv420p")
            picture.pts, picture.time_base = number, Fraction(1, 10)
            packets += screen.encode(picture)
        samples = np.repeat(np.frombuffer(melody(), "<i2"), 3)
        for start in range(0, len(samples), 960):
            frame = av.AudioFrame.from_ndarray(
                samples[None, start : start + 960], format="s16", layout="mono"
            )
            frame.sample_rate, frame.time_base = 48_000, Fraction(1, 48_000)
            frame.pts = start + round(sound_from * 48_000)
            packets += voice.encode(frame)
        packets += [*screen.encode(None), *voice.encode(None)]
        for packet in sorted(packets, key=lambda each: (each.dts or 0) * (each.time_base or 0)):
            target.mux(packet)
    return out.getvalue()


def without(data: bytes, start: float, end: float) -> bytes:
    """The sound of a webm, of which no packets were sent for some seconds."""
    out = io.BytesIO()
    with av.open(io.BytesIO(data), "r") as source, av.open(out, "w", format="webm") as target:
        stream = target.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(source.streams.audio[0]):
            if packet.pts is not None and not start <= float(packet.pts * (packet.time_base or 0)) < end:
                packet.stream = stream
                target.mux(packet)
    return out.getvalue()


def channels(*sounds: Sound) -> bytes:
    """A WAV that does not say what its channels stand for, as recorders write it."""
    out = io.BytesIO()
    samples = np.stack(sounds, axis=1)
    count = len(sounds)
    body = (samples * 32767).astype("<i2").tobytes()
    head = b"fmt " + b"".join(
        value.to_bytes(size, "little")
        for value, size in (
            (16, 4),
            (1, 2),
            (count, 2),
            (RATE, 4),
            (RATE * count * 2, 4),
            (count * 2, 2),
            (16, 2),
        )
    )
    data = b"data" + len(body).to_bytes(4, "little") + body
    out.write(b"RIFF" + (4 + len(head) + len(data)).to_bytes(4, "little") + b"WAVE" + head + data)
    return out.getvalue()


def voice() -> Sound:
    return np.frombuffer(melody(), "<i2").astype(np.float32) / np.float32(32768)


def loudness(sound: Sound) -> float:
    return float(np.sqrt(np.mean(sound * sound)))


@pytest.mark.parametrize("container", ["matroska", "webm", "mp4", "avi"])
def test_a_video_whose_picture_outlasts_its_sound_is_whole(container: str) -> None:
    assert spoken_seconds(heard(film(container, SECONDS + 3))) == pytest.approx((0, SECONDS), abs=0.15)


@pytest.mark.parametrize("container", ["matroska", "webm", "mp4"])  # an avi does not say it
def test_sound_that_begins_after_the_picture_has_its_time(container: str) -> None:
    found = spoken_seconds(heard(film(container, SECONDS, sound_from=2)))
    assert found == pytest.approx((2, 2 + SECONDS), abs=0.15)


def test_a_video_that_is_cut_off_is_refused_still() -> None:
    data = film("matroska", SECONDS + 3)
    with pytest.raises(EngineError, match="cut off"):
        heard(data[: len(data) // 2])


def test_what_was_not_sent_is_silence() -> None:
    found = heard(without(film("webm", SECONDS), 1, 2.5))
    assert len(found) / RATE == pytest.approx(SECONDS, abs=0.1)
    assert spoken_seconds(found) == pytest.approx((0, SECONDS), abs=0.15)
    assert loudness(found[round(1.2 * RATE) : round(2.4 * RATE)]) < 0.001


def test_sound_whose_kind_changes_on_the_way_is_heard_to_its_end() -> None:
    first = encoded("adts", "aac", rate=16_000)
    data = first + encoded("adts", "aac", rate=48_000, layout="stereo")
    found = b"".join(decode(io.BytesIO(data), RATE, LIMIT, Cancellation()))
    assert len(found) / 2 / RATE == pytest.approx(2 * SECONDS, abs=0.3)


def test_recordings_one_behind_the_other_are_as_long_as_all_of_them() -> None:
    data = encoded("ogg", "libopus") * 3
    assert len(heard(data)) / RATE == pytest.approx(3 * SECONDS, abs=0.1)
    with pytest.raises(EngineError, match="longer than"):
        heard(data, limit=2 * SECONDS)


@pytest.mark.parametrize("rates", [(16_000, 44_100), (44_100, 16_000)], ids=str)
def test_mp3s_one_behind_the_other_are_heard_though_the_first_counts_its_own_frames_alone(
    rates: tuple[int, int],
) -> None:
    parts = [encoded("mp3", "libmp3lame", rate=rate) for rate in rates]
    begin, end = spoken_seconds(heard(b"".join(parts)))
    assert end - begin == pytest.approx(2 * SECONDS, abs=0.3)
    with pytest.raises(EngineError, match="cut off"):
        heard(parts[0][: len(parts[0]) // 2])


def test_more_than_the_packets_had_promised_is_refused_while_it_is_decoded() -> None:
    """Bare streams are measured by the first frame's rate."""
    data = encoded("adts", "aac", rate=48_000)[:2000] + encoded("adts", "aac", rate=16_000)
    seconds = inspect(io.BytesIO(data), LIMIT, Cancellation())
    assert seconds < SECONDS / 2
    with pytest.raises(EngineError, match="longer than"):
        list(decode(io.BytesIO(data), RATE, seconds, Cancellation()))


@pytest.mark.parametrize("count", [2, 3, 4, 6, 8, 9, 16, 32])
def test_who_speaks_on_one_of_many_channels_is_as_loud_as_alone(count: int) -> None:
    noise = np.random.default_rng(1).normal(0, 0.001, len(voice())).astype(np.float32)
    for place in {0, count // 2, count - 1}:
        sounds = [voice() if number == place else noise for number in range(count)]
        assert loudness(heard(channels(*sounds))) == pytest.approx(loudness(voice()), rel=0.05)


@pytest.mark.parametrize("signs", [(1, 1), (1, -1), (1, -1, 1, -1, 1, 1)])
def test_channels_that_are_alike_or_swing_against_each_other(signs: tuple[int, ...]) -> None:
    found = heard(channels(*(sign * voice() for sign in signs)))
    assert loudness(found) == pytest.approx(loudness(voice()), rel=0.02)


def test_two_who_speak_in_turns_on_channels_of_their_own() -> None:
    half = len(voice()) // 2
    first, second = voice(), voice()
    first[half:] = 0
    second[:half] = 0
    found = heard(channels(first, second))
    for part in (slice(0, half), slice(half, None)):
        assert loudness(found[part]) == pytest.approx(loudness(voice()[part]), rel=0.05)
    assert max(abs(right - left) for left, right in pairwise(found.tolist())) < 0.1, "no click"


def test_speech_beside_a_louder_noise_is_no_softer_than_it_need_be() -> None:
    """As in the mean of both, that is: what is loud may be the hum of a broken plug."""
    noise = np.random.default_rng(2).normal(0, 0.3, len(voice())).astype(np.float32)
    quiet = voice() * np.float32(0.1)
    found = heard(channels(quiet, np.clip(noise, -1, 1)))
    part = float(np.dot(found[: len(quiet)], quiet[: len(found)]) / np.dot(quiet, quiet))
    assert part > 0.5
    with_current = heard(channels(quiet, np.full(len(voice()), 0.9, np.float32)))
    assert loudness(np.asarray(with_current - with_current.mean(), np.float32)) == pytest.approx(
        loudness(quiet), rel=0.05
    )


def test_a_channel_that_turns_against_the_other_is_turned_back_without_a_click() -> None:
    second = voice()
    half = len(second) // 2
    turn = half + int(np.abs(second[half : half + 500]).argmin())  # where the sound itself makes no step
    second[turn:] *= -1
    found = heard(channels(voice(), second))
    assert loudness(found[turn + RATE :]) == pytest.approx(loudness(voice()[turn + RATE :]), rel=0.05)
    assert max(abs(right - left) for left, right in pairwise(found.tolist())) < 0.1

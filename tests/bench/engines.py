"""What the engines reach over HTTP, against their libraries called directly."""

import json
import tempfile
import time
import wave
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Final

from roundhouse_faster_whisper.hardware import choose_hardware
from tests.bench.faster_whisper import CLIP_SECONDS, CLIPS
from tests.bench.figure import Figure, Result
from tests.bench.library import library
from tests.bench.machine import cpu_seconds
from tests.bench.wyoming import wyoming
from tests.conformance.engine.running import FASTER_WHISPER, POCKETSPHINX, Engine, running
from tests.support.recordings import TEST_DATA, wav
from tests.support.waiting import wait_until
from tests.support.whisper import Whisper, make_whisper

SPEECH_SECONDS: Final = 10
ROUNDS: Final = 5
STARTS: Final = 3
IDLE_SECONDS: Final = 10
_RATE: Final = 16_000
_BOOK: Final = "librivox/sense_and_sensibility_01_austen_64kb-{}.wav"
_DIRECT: Final = "the library directly"
_PEER: Final = "wyoming-faster-whisper"

SPEED: Final = Figure(
    "engines", "pocketsphinx, 10 s of speech over HTTP", "x real", "higher", against=_DIRECT, aim=0.95
)
START: Final = Figure("engines", "pocketsphinx, start to ready", "s", "lower", against=_DIRECT)
IDLE: Final = Figure("engines", "pocketsphinx, idle", "% of core", "lower", aim=1)
WHISPER_SPEED: Final = Figure(
    "engines", "faster-whisper, 20 s of speech over HTTP", "x real", "higher", against=_DIRECT, aim=0.95
)
WHISPER_CLIPS: Final = Figure(
    "engines",
    "faster-whisper, eight clips at once",
    "clips/s",
    "higher",
    against="the library's batched pipeline",
    aim=1,
)
PEER_SPEED: Final = Figure(
    "engines", "faster-whisper, 20 s of speech, beside a peer", "x real", "higher", against=_PEER, aim=1
)
PEER_CLIPS: Final = Figure(
    "engines", "faster-whisper, eight clips at once, beside a peer", "clips/s", "higher", against=_PEER, aim=1
)
FIGURES: Final = (SPEED, START, IDLE, WHISPER_SPEED, WHISPER_CLIPS, PEER_SPEED, PEER_CLIPS)


def measure() -> Iterator[Result]:
    samples = _speech()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "speech.raw"
        path.write_bytes(samples)
        yield _speed(folder, path, wav(samples))
        yield _start(folder, path)
        with _ready(folder) as (engine, _):
            yield _idle(engine)
        yield from _whisper(folder)


def _speed(folder: Path, path: Path, audio: bytes) -> Result:
    """Each hears the recording once before it counts."""
    over_http, direct = [], []
    with _ready(folder) as (engine, _), library("pocketsphinx", path) as alone:
        for number in range(ROUNDS + 1):
            seconds = _transcribe(engine, audio)
            directly, words = alone.transcribe()
            assert words, "the library heard nothing"
            if number:
                over_http.append(SPEECH_SECONDS / seconds)
                direct.append(SPEECH_SECONDS / directly)
    return Result(SPEED, median(over_http), median(direct))


def _transcribe(engine: Engine, audio: bytes) -> float:
    began = time.monotonic()
    answer = engine.post(audio, model="english")
    seconds = time.monotonic() - began
    assert answer.status == 200, answer.body
    assert answer.json["text"], "the engine heard nothing"
    return seconds


def _whisper(folder: Path) -> Iterator[Result]:
    """A model of base's size with random weights but for the words that it says, in turns with the library.

    Each round goes through both; the first does not count.
    """
    said = [f"word{number}" for number in range(12)]
    sized = Whisper(says=said, width=512, layers=6, heads=8, text_tokens=50_000)
    model = make_whisper(folder / "whisper", sized)
    path = folder / "speech-20.raw"
    samples = (_speech() * 2)[: round(CLIPS * CLIP_SECONDS * _RATE) * 2]
    path.write_bytes(samples)
    clip_bytes = round(CLIP_SECONDS * _RATE) * 2
    clips = [samples[number * clip_bytes : (number + 1) * clip_bytes] for number in range(CLIPS)]
    threads = choose_hardware({"ROUNDHOUSE_DEVICE": "cpu"}, 1).threads
    told = {
        "ROUNDHOUSE_MODELS": json.dumps(
            [{"name": "m", "path": str(model), "source": {"type": "HuggingFace"}}]
        ),
        "ROUNDHOUSE_DEVICE": "cpu",
        "ROUNDHOUSE_CAPACITY": str(CLIPS),
    }
    over_http, direct, at_once, batched = [], [], [], []
    peer_speech, peer_clips = [], []
    with (
        running(FASTER_WHISPER, folder, **told) as engine,
        library("faster_whisper", model, path) as alone,
        wyoming(folder, model, threads) as peer,
        ThreadPoolExecutor(CLIPS) as clients,
    ):
        engine.until_ready()
        for _ in range(ROUNDS + 1):
            over_http.append(_taken(lambda: [_heard(engine, wav(samples))]))
            direct.append(alone.transcribe()[0])
            at_once.append(_taken(lambda: list(clients.map(lambda clip: _heard(engine, wav(clip)), clips))))
            batched.append(alone.transcribe("batch")[0])
            if peer is not None:
                peer_speech.append(_taken(lambda: [peer.transcribe(samples)]))
                peer_clips.append(_taken(lambda: list(clients.map(peer.transcribe, clips))))
    seconds = CLIPS * CLIP_SECONDS
    yield Result(WHISPER_SPEED, seconds / median(over_http[1:]), seconds / median(direct[1:]))
    yield Result(WHISPER_CLIPS, CLIPS / median(at_once[1:]), CLIPS / median(batched[1:]))
    if peer is not None:
        yield Result(PEER_SPEED, seconds / median(over_http[1:]), seconds / median(peer_speech[1:]))
        yield Result(PEER_CLIPS, CLIPS / median(at_once[1:]), CLIPS / median(peer_clips[1:]))


def _heard(engine: Engine, audio: bytes) -> str:
    answer = engine.post(audio, language="en")
    assert answer.status == 200, answer.body
    return str(answer.json["text"])


def _taken(work: Callable[[], Sequence[str]]) -> float:
    began = time.monotonic()
    texts = work()
    seconds = time.monotonic() - began
    assert all(text.startswith("word0 word1") for text in texts), texts
    return seconds


def _start(folder: Path, path: Path) -> Result:
    ours, direct = [], []
    for _ in range(STARTS):
        with _ready(folder) as (_, seconds):
            ours.append(seconds)
        with library("pocketsphinx", path) as alone:
            direct.append(alone.ready_seconds)
    return Result(START, median(ours), median(direct))


def _idle(engine: Engine) -> Result:
    before, began = cpu_seconds(engine.process.pid), time.monotonic()
    time.sleep(IDLE_SECONDS)
    used = cpu_seconds(engine.process.pid) - before
    return Result(IDLE, 100 * used / (time.monotonic() - began))


@contextmanager
def _ready(folder: Path) -> Iterator[tuple[Engine, float]]:
    """PocketSphinx with one slot, and the seconds from its start until it was ready."""
    began = time.monotonic()
    with running(POCKETSPHINX, folder, MODELS="english", ROUNDHOUSE_CAPACITY="1") as engine:
        wait_until(lambda: engine.ready, seconds=60, what="the engine is ready", every=0.01)
        yield engine, time.monotonic() - began


def _speech() -> bytes:
    """A volunteer reading a book, two sentences cut to length: nearly no pauses that could be left out."""
    samples = b""
    for number in ("0870", "0930"):
        with wave.open(str(TEST_DATA / _BOOK.format(number))) as recording:
            assert recording.getparams()[:3] == (1, 2, _RATE), recording.getparams()
            samples += recording.readframes(recording.getnframes())
    wanted = SPEECH_SECONDS * _RATE * 2
    assert len(samples) >= wanted, "the recordings are shorter than they were"
    return samples[:wanted]

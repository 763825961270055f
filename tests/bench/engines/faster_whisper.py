"""faster-whisper over HTTP, with a model of base's size, against the library and a server of others.

The model has random weights but for the dozen words that it says of any sound.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Final

from roundhouse_faster_whisper.hardware import choose_hardware
from tests.bench.engines.basics import basics, eight_at_once, stops
from tests.bench.engines.live import first_word, later
from tests.bench.engines.making import SPOKEN_WORDS, made
from tests.bench.engines.pair import Pair, Subject, idle, in_turns, left_recording, start, stop, taken, up
from tests.bench.engines.speech import CLIP_SECONDS, CLIPS, clips, speech, spoken_live
from tests.bench.engines.wyoming import WYOMING_NAME, Wyoming, wyoming
from tests.bench.figure import Figure, Result
from tests.conformance.engine.running import Engine
from tests.support.recordings import wav

_SECONDS: Final = CLIPS * CLIP_SECONDS

BASICS: Final = basics("faster-whisper", "20 s of speech", "x real", start=2.0)
AT_ONCE: Final = eight_at_once("faster-whisper", "clips", "clips/s", against="the library's batched pipeline")
STOP: Final = stops("faster-whisper")
LATER: Final = first_word("faster-whisper")
PEER_SPEED: Final = Figure(
    "engines",
    "faster-whisper, 20 s of speech, beside a peer",
    "x real",
    "higher",
    WYOMING_NAME,
    budget=1,
    noise=0.05,
)
PEER_AT_ONCE: Final = Figure(
    "engines",
    "faster-whisper, eight clips at once, beside a peer",
    "clips/s",
    "higher",
    WYOMING_NAME,
    budget=1,
    noise=0.05,
)
FIGURES: Final = (*BASICS.all, AT_ONCE, LATER, STOP, PEER_SPEED, PEER_AT_ONCE)


def measure(folder: Path) -> Iterator[Result]:
    model, path = made("whisper", folder / "whisper"), folder / "speech.raw"
    path.write_bytes(speech(_SECONDS))
    variables = {"ROUNDHOUSE_DEVICE": "cpu", "ROUNDHOUSE_CAPACITY": str(CLIPS)}
    subject = Subject(("roundhouse_faster_whisper",), "faster_whisper", (model, path), model, variables)
    with up(subject, folder) as pair:
        yield start(BASICS.start, pair)
        threads = choose_hardware({"ROUNDHOUSE_DEVICE": "cpu"}, 1).threads
        with wyoming(folder, model, threads) as peer, ThreadPoolExecutor(CLIPS) as clients:
            yield from _speeds(pair, peer, clients)
        yield later(LATER, pair, spoken_live(), "live", model="m", language="en")
        yield idle(BASICS.idle, pair.engine)
        yield stop(
            STOP,
            pair.engine,
            lambda: left_recording(pair.engine, language="en"),
            in_turns(lambda: _step(pair))[0],
        )


def _speeds(pair: Pair, peer: Wyoming | None, clients: Executor) -> Iterator[Result]:
    """All in turns, one request and eight at once: of the engine, the library, and the peer where it is."""
    whole, parts = speech(_SECONDS), clips()
    works: list[Callable[[], float]] = [
        lambda: taken(lambda: _heard(pair.engine, whole)),
        pair.library.seconds,
        lambda: taken(lambda: list(clients.map(lambda clip: _heard(pair.engine, clip), parts))),
        lambda: pair.library.seconds("batch"),
    ]
    if peer is not None:
        works += [
            lambda: taken(lambda: _check(peer.transcribe(whole))),
            lambda: taken(lambda: list(map(_check, clients.map(peer.transcribe, parts)))),
        ]
    ours, library, ours_at_once, batch, *theirs = in_turns(*works)
    yield Result(BASICS.speed, _SECONDS / ours, _SECONDS / library)
    yield Result(AT_ONCE, CLIPS / ours_at_once, CLIPS / batch)
    if theirs:
        yield Result(PEER_SPEED, _SECONDS / ours, _SECONDS / theirs[0])
        yield Result(PEER_AT_ONCE, CLIPS / ours_at_once, CLIPS / theirs[1])


def _heard(engine: Engine, samples: bytes) -> None:
    answer = engine.post(wav(samples), language="en")
    assert answer.status == 200, answer.body
    _check(answer.json["text"])


def _check(text: str) -> None:
    assert text.startswith(" ".join(SPOKEN_WORDS[:2])), text


def _step(pair: Pair) -> float:
    return pair.library.seconds("step")

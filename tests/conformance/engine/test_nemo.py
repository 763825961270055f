"""NeMo over HTTP: tiny models of each kind that have learnt what four recordings say, Canary two.

One engine process for all of it, because each takes half a minute of a processor to import NeMo.
"""

import asyncio
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conformance.engine.holding import SPOOL, assert_nothing_stays
from tests.conformance.engine.nemo_engine import (
    LEAVES,
    OUT_OF_MEMORY,
    SECOND,
    models_folder,
    recordings,
    speech,
)
from tests.conformance.engine.nemo_served import Harmful, Served, repacked, weights_of
from tests.conformance.engine.odd_requests import FILES, requests
from tests.conformance.engine.running import TRANSCRIPTIONS, running
from tests.conformance.engine.stalling import assert_others_are_answered
from tests.conformance.engine.streaming import streaming
from tests.conformance.engine.test_long_recordings import peak_mib
from tests.support.recordings import GO_FORWARD_WORDS, WEATHER_WORDS, wav
from tests.support.torch_base import prepare_torch
from tests.support.waiting import wait_until
from tests.unit.engine.encoding import encode

ENGINE = ("-m", "tests.conformance.engine.nemo_engine")
KINDS = ("ctc", "rnnt", "tdt")
HYBRIDS = ("hybrid", "hybrid-live")
"""Of both, as parakeet-tdt_ctc-110m is, of which the one by CTC has learnt nothing."""
STREAMS = ("rnnt", "hybrid-live")
CANARY = "canary"
TRANSLATIONS = "/v1/audio/translations"
BAD_WEIGHTS = ("of-another", "with-code", "cut-off")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    prepare_torch()
    folder = tmp_path_factory.mktemp("nemo")
    told = {"ROUNDHOUSE_MODELS_FILE": str(folder / "models.json"), "MODELS": "", "OMP_NUM_THREADS": "1"}
    (folder / SPOOL).mkdir()
    told["TMPDIR"] = str(folder / SPOOL)  # where archives are unpacked, too
    with running(ENGINE, folder, **told) as engine:
        served = Served(engine, folder)
        served.want(1, *KINDS, *HYBRIDS, CANARY)
        served.until(*KINDS, *HYBRIDS, CANARY, state="ready")
        yield served


@pytest.mark.parametrize("kind", [*KINDS, *HYBRIDS])
def test_words_come_one_after_the_other_within_the_recording(kind: str, served: Served) -> None:
    samples = speech(*recordings())
    answer = served.engine.post(
        wav(samples), model=kind, response_format="verbose_json", **{"timestamp_granularities[]": "word"}
    )
    assert answer.status == 200, answer.body
    words = answer.json["words"]
    assert [word["word"] for word in words] == " ".join(recordings()).split()
    times = [time for word in words for time in (word["start"], word["end"])]
    assert times == sorted(times)
    assert 1.5 < times[0] < times[-1] < len(samples) / 32_000 - 2.0
    first_of_second = words[len(GO_FORWARD_WORDS.split())]
    assert first_of_second["start"] > 2.0 + len(recordings()[GO_FORWARD_WORDS]) / 32_000 + 2.0


def test_every_format_through_the_official_client(served: Served) -> None:
    file = ("a.wav", wav(speech(GO_FORWARD_WORDS, WEATHER_WORDS)))
    both = f"{GO_FORWARD_WORDS} {WEATHER_WORDS}"
    with served.engine.client as client:
        create = client.audio.transcriptions.create
        assert create(model="tdt", file=file).text == both
        verbose = create(model="tdt", file=file, response_format="verbose_json")
        assert [segment.text.strip() for segment in verbose.segments or ()] == [
            GO_FORWARD_WORDS,
            WEATHER_WORDS,
        ]
        srt = create(model="tdt", file=file, response_format="srt")
        assert str(srt).count(" --> ") == 2
        *deltas, done = create(model="tdt", file=file, stream=True)
    assert [event.delta for event in deltas] == [GO_FORWARD_WORDS, f" {WEATHER_WORDS}"]  # type: ignore[union-attr]
    assert done.text == both  # type: ignore[union-attr]


def test_clips_at_once_are_heard_together_and_each_answered(served: Served) -> None:
    said = [(GO_FORWARD_WORDS,), (WEATHER_WORDS,), (WEATHER_WORDS, GO_FORWARD_WORDS), (GO_FORWARD_WORDS,) * 2]

    def ask(at: int) -> Any:
        return served.engine.post(wav(speech(*said[at % 4])), model=KINDS[at // 4]).json["text"]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(ask, range(12)))
    assert found == [" ".join(words) for words in said] * 3


@pytest.mark.parametrize(
    ("file", "code"),
    [
        (b"this is no audio at all" * 100, "audio_unreadable"),
        (wav(speech(GO_FORWARD_WORDS))[:30_000], "audio_cut_off"),
        (b"", "audio_empty"),
    ],
)
def test_bad_input_is_told_and_the_engine_goes_on(file: bytes, code: str, served: Served) -> None:
    answer = served.engine.post(file, model="ctc")
    assert (answer.status, answer.error["code"], answer.error["param"]) == (400, code, "file")
    assert served.engine.post(wav(speech(GO_FORWARD_WORDS)), model="ctc").json["text"] == GO_FORWARD_WORDS


def test_what_is_refused_or_left_in_the_middle_leaves_nothing_behind(served: Served) -> None:
    engine, sound = served.engine, wav(speech(GO_FORWARD_WORDS))

    def ask() -> None:
        for kind in (*KINDS, CANARY):
            for file, told in ((b"no audio" * 9, {}), (sound[:30_000], {}), (sound, {"language": "xx"})):
                assert engine.post(file, model=kind, **told).status == 400
            assert engine.post(sound, model=kind, language="en", prompt=OUT_OF_MEMORY).status == 503
        with engine.started(wav(speech(*[WEATHER_WORDS] * 40) * 8), model="tdt"):
            pass
        wait_until(lambda: engine.metric("slots_computing") == 0, seconds=30, what="it stops", every=0.02)
        assert engine.post(sound, model="ctc").json["text"] == GO_FORWARD_WORDS

    assert_nothing_stays(engine, ask, mebibytes=48)


def test_odd_requests_are_answered_or_refused_in_words(served: Served) -> None:
    @settings(max_examples=40)
    @given(file=FILES, fields=requests(*KINDS, CANARY), path=st.sampled_from([TRANSCRIPTIONS, TRANSLATIONS]))
    def ask(file: bytes | None, fields: dict[str, str], path: str) -> None:
        answer = served.engine.post(file, path=path, **fields)
        assert answer.status == 200 or 400 <= answer.status < 500, answer.body
        assert b"engine_failure" not in answer.body
        if answer.status != 200:
            assert {"message", "param", "code"} <= answer.error.keys(), answer.body

    ask()
    assert served.engine.post(wav(speech(GO_FORWARD_WORDS)), model="ctc").json["text"] == GO_FORWARD_WORDS


@pytest.mark.parametrize("kind", ["ctc", CANARY])
def test_a_request_that_memory_does_not_hold_fails_alone(kind: str, served: Served) -> None:
    sound = wav(speech(WEATHER_WORDS))
    answer = served.engine.post(sound, model=kind, language="en", prompt=OUT_OF_MEMORY)
    assert (answer.status, answer.error["code"]) == (503, "out_of_memory")
    assert served.engine.post(sound, model=kind, language="en").json["text"] == WEATHER_WORDS


def test_no_transducer_makes_cuda_graphs(served: Served) -> None:
    """What a GPU's memory does not hold when one is made leaves the one of before, over freed memory.

    Those that stream have a second decoder.
    """
    for kind, count in {"ctc": 0, "tdt": 1, "rnnt": 2, "hybrid": 1, "hybrid-live": 2}.items():
        assert f"{kind}: {count} transducers without CUDA graphs" in served.engine.logged


def test_each_model_is_warm_before_anybody_asks(served: Served) -> None:
    decoders = {"ctc": ["decoder"], CANARY: ["transf_decoder"]}
    for kind in (*KINDS, *HYBRIDS, CANARY):
        _, _, told = served.engine.logged.partition(f"{kind} is warm: ")
        parts = told.partition(".")[0].split(", ")
        assert {"preprocessor", "encoder", *decoders.get(kind, ["decoder", "joint"])} <= set(parts), kind


@pytest.mark.parametrize("kind", ["ctc", CANARY])
def test_eight_channels_at_96_khz_are_heard(kind: str, served: Served) -> None:
    sound = encode(wav(speech(WEATHER_WORDS)), "wav", "pcm_f32le", rate=96_000, layout="7.1")
    assert served.engine.post(sound, model=kind, language="en").json["text"] == WEATHER_WORDS


@pytest.mark.parametrize("kind", KINDS)
def test_silence_says_nothing(kind: str, served: Served) -> None:
    assert served.engine.post(wav(SECOND * 4), model=kind).json["text"] == ""


@pytest.mark.parametrize("kind", [*KINDS, *HYBRIDS, CANARY])
async def test_what_is_heard_live_is_what_a_recording_says(kind: str, served: Served) -> None:
    samples = speech(GO_FORWARD_WORDS, WEATHER_WORDS)
    told = {"model": kind, "language": "en"}
    answer = served.engine.post(
        wav(samples), **told, response_format="verbose_json", **{"timestamp_granularities[]": "word"}
    )
    async with streaming(served.engine.port, told | {"word_timestamps": "true"}) as stream:
        await stream.send(samples, pace=4)
        await stream.say("end")
        assert (await stream.rest())[0] == 1000
    finals = [event for event in stream.seen if event.type == "transcript.final"]
    assert [event.text for event in finals] == [GO_FORWARD_WORDS, WEATHER_WORDS]
    said = [word for each in finals for word in each.words or ()]
    assert [word.text for word in said] == [word["word"] for word in answer.json["words"]]
    times = [time for word in said for time in (word.start, word.end)]
    recorded = [time for word in answer.json["words"] for time in (word["start"], word["end"])]
    assert times == pytest.approx(recorded, abs=0.02)
    partials = [event.text for event in stream.seen if event.type == "transcript.partial"]
    assert len(partials) >= 2
    if kind in STREAMS:  # what was encoded once stays; the others hear all of it anew
        assert all(
            any(text.startswith(each) for text in (GO_FORWARD_WORDS, WEATHER_WORDS)) for each in partials
        )


async def test_what_is_heard_live_is_each_clients_own_however_it_is_cut(served: Served) -> None:
    """In pieces of odd lengths, and the last word committed by hand; another goes in the middle of a word."""

    async def says(*words: str, pieces: int) -> list[str]:
        async with streaming(served.engine.port, {"model": "rnnt"}) as stream:
            samples = speech(*words)[: -3 * len(SECOND) + len(SECOND) // 3]
            await stream.send(samples, byte_rate=10 * pieces, pace=4)
            await stream.say("flush")
            await stream.until("flushed")
            found = [event.text for event in stream.seen if event.type == "transcript.final"]
            await stream.say("end")
            assert (await stream.rest())[0] == 1000
            return found

    async def goes() -> list[str]:
        async with streaming(served.engine.port, {"model": "rnnt"}) as stream:
            await stream.send(speech(WEATHER_WORDS)[: 5 * len(SECOND)], pace=4)
            await stream.until("transcript.partial")
            assert stream.socket.transport is not None
            stream.socket.transport.abort()
            return []

    orders = ((GO_FORWARD_WORDS, WEATHER_WORDS), (WEATHER_WORDS, GO_FORWARD_WORDS))
    found = await asyncio.gather(says(*orders[0], pieces=3207), goes(), says(*orders[1], pieces=1235))
    assert list(found) == [list(orders[0]), [], list(orders[1])]


def test_others_are_answered_while_it_computes(served: Served) -> None:
    said = (GO_FORWARD_WORDS, WEATHER_WORDS) * 10
    samples = speech(*said)

    def heard() -> None:
        assert served.engine.post(wav(samples), model="tdt").json["text"] == " ".join(said)

    assert_others_are_answered(served.engine, heard)


@pytest.mark.parametrize("kind", ["ctc", CANARY])
def test_no_step_is_begun_once_the_client_has_left(kind: str, served: Served) -> None:
    """It leaves within the first step of the first of four windows: each takes two."""
    engine, step = served.engine, f"{kind}: a step for who leaves"
    with engine.started(wav(speech(*[WEATHER_WORDS] * 4)), model=kind, language="en", prompt=LEAVES):
        wait_until(lambda: step in engine.logged, seconds=60, what="it computes", every=0.02)
    wait_until(lambda: engine.metric("slots_computing") == 0, seconds=60, what="it stops", every=0.02)
    assert engine.logged.count(step) == 1
    answer = engine.post(wav(speech(WEATHER_WORDS)), model=kind, language="en")
    assert answer.json["text"] == WEATHER_WORDS


def test_a_long_recording_takes_no_more_memory_than_a_short_one(served: Served) -> None:
    """Of a quarter of an hour the samples alone, as numbers, are 58 MB."""
    engine, pid = served.engine, served.engine.process.pid
    said = (GO_FORWARD_WORDS, WEATHER_WORDS) * 4
    samples = speech(*said)
    times = 16 * 60 * 32_000 // len(samples)
    assert engine.post(wav(samples), model="rnnt").json["text"] == " ".join(said)
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the most that it held is what it holds now
    before = peak_mib(pid)
    assert engine.post(wav(samples * times), model="rnnt").json["text"] == " ".join(said * times)
    assert peak_mib(pid) - before < 40


def test_canary_writes_what_it_is_told_to(served: Served) -> None:
    """What it was taught: in the language that is spoken, or in English: the words in reverse."""
    sound = wav(speech(GO_FORWARD_WORDS, WEATHER_WORDS))
    both = f"{GO_FORWARD_WORDS} {WEATHER_WORDS}"
    for language in ("en", "de"):
        answer = served.engine.post(sound, model=CANARY, language=language, response_format="verbose_json")
        assert (answer.status, answer.json["text"]) == (200, both), answer.body
    assert answer.json["language"] == "german"
    translated = served.engine.post(sound, path=TRANSLATIONS, model=CANARY, language="de")
    backwards = [" ".join(words.split()[::-1]) for words in (GO_FORWARD_WORDS, WEATHER_WORDS)]
    assert translated.json["text"] == " ".join(backwards)


def test_canarys_words_have_the_times_that_it_writes(served: Served) -> None:
    samples = speech(GO_FORWARD_WORDS, WEATHER_WORDS)
    told = {"language": "en", "response_format": "verbose_json", "timestamp_granularities[]": "word"}
    answer = served.engine.post(wav(samples), model=CANARY, **told)
    assert answer.status == 200, answer.body
    words = answer.json["words"]
    assert [word["word"] for word in words] == f"{GO_FORWARD_WORDS} {WEATHER_WORDS}".split()
    times = [time for word in words for time in (word["start"], word["end"])]
    assert times == sorted(times)
    assert 2.0 < times[0] < times[-1] < len(samples) / 32_000 - 2.0
    assert words[len(GO_FORWARD_WORDS.split())]["start"] - words[0]["end"] > 3.0, "behind the pause"


def test_canary_is_told_other_things_by_each_of_those_at_once(served: Served) -> None:
    said = {"en": GO_FORWARD_WORDS, "de": WEATHER_WORDS}

    def ask(at: int) -> tuple[str, str]:
        language = "en" if at % 2 else "de"
        path = TRANSLATIONS if at % 4 == 0 else "/v1/audio/transcriptions"
        answer = served.engine.post(wav(speech(said[language])), path=path, model=CANARY, language=language)
        words = said[language].split()
        return answer.json["text"], " ".join(words[::-1] if path == TRANSLATIONS else words)

    with ThreadPoolExecutor(4) as pool:
        for found, wanted in pool.map(ask, range(12)):
            assert found == wanted


@pytest.mark.parametrize(
    ("asked", "param", "code", "says"),
    [
        ({}, "language", "missing", "Send language, one of 'de' (german), 'en' (english)."),
        ({"language": "fr"}, "language", "unsupported_value", "only 'de' (german), 'en' (english)."),
        ({"language": "klingon"}, "language", "unsupported_value", "a known language such as 'en'"),
        ({"model": "ctc", "path": TRANSLATIONS}, "model", "unsupported_value", "'ctc' does not translate"),
    ],
)
def test_what_a_model_cannot_be_told_is_refused(
    asked: dict[str, str], param: str, code: str, says: str, served: Served
) -> None:
    answer = served.engine.post(wav(speech(WEATHER_WORDS)), **({"model": CANARY} | asked))
    assert (answer.status, answer.error["param"], answer.error["code"]) == (400, param, code)
    assert says in answer.error["message"]


def test_weights_that_do_not_fit_or_hold_code_are_refused(served: Served, tmp_path: Path) -> None:
    harm = tmp_path / "harm"
    whole = weights_of(models_folder() / "ctc/tiny.nemo")
    repacked(served.folder / "of-another", weights_of(models_folder() / "tdt/tiny.nemo"))
    repacked(served.folder / "with-code", pickle.dumps({"weights": Harmful(harm)}, protocol=2))
    repacked(served.folder / "cut-off", whole[: len(whole) // 2])
    served.want(2, *KINDS, *BAD_WEIGHTS)
    served.until(*BAD_WEIGHTS, state="failed")
    told = served.models
    assert "'of-another': 'tiny.nemo' cannot be loaded" in told["of-another"]["error"]
    assert "cannot be loaded" in told["with-code"]["error"]
    assert "cannot be loaded" in told["cut-off"]["error"]
    assert not harm.exists()
    assert served.engine.post(wav(speech(WEATHER_WORDS)), model="ctc").json["text"] == WEATHER_WORDS


def test_a_model_that_leaves_gives_its_weights_back_at_once(served: Served) -> None:
    served.want(3, "ctc", "rnnt")
    wait_until(lambda: "the weights are" in served.engine.logged, seconds=60, what="tdt leaves", every=0.1)
    assert "the weights are gone" in served.engine.logged
    assert "the weights are still there" not in served.engine.logged
    assert served.engine.post(wav(speech(WEATHER_WORDS)), model="ctc").json["text"] == WEATHER_WORDS

"""Whisper's rules, in this process: windows in several goes, in batches, by chance, and given up halfway."""

import string
import threading
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from typing_extensions import override

from roundhouse_engine import Cancellation, Cancelled, SpeechOptions, Task, Window
from roundhouse_engine.errors import EngineError
from tests.conformance.engine.listening import BEGINS, CLIP_SECONDS, RATE, heard, loaded
from tests.conformance.engine.streaming import go_forward_samples
from tests.support.waiting import wait_until
from tests.support.whisper import Whisper

GO_SECONDS = 1.5
"""How far a model that breaks off comes at a time."""
PAIRS = tuple(map("".join, pairwise(string.ascii_lowercase)))
"""Words that do not seem garbled, as those do that come again."""


def test_who_is_gone_gets_no_further_token(making: ModuleType, tmp_path: Path) -> None:
    class Leaving(Cancellation):
        """A client that leaves while the fifth token is computed."""

        looks = 0

        @property
        @override
        def cancelled(self) -> bool:
            self.looks += 1
            if self.looks > 5:
                self.cancel()
            return super().cancelled

    with loaded(making.write_whisper(tmp_path / "m", Whisper(says=PAIRS, width=128))) as engine:
        passes = 0

        def count(*_: object) -> None:
            nonlocal passes
            passes += 1

        (text,) = heard(engine, SpeechOptions(language="en"))
        assert len(text.text.split()) == 25
        engine._listener._loaded.model.model.decoder.register_forward_hook(count)
        leaving = Leaving()
        with pytest.raises(Cancelled):
            heard(engine, SpeechOptions(language="en"), cancellation=leaving)
        assert 1 < passes < 8, "of 27 that the answer takes"


def test_where_the_model_breaks_off_it_is_asked_again(making: ModuleType, tmp_path: Path) -> None:
    """It writes times up to 1.5 s, of which the last begins a sentence that it does not write."""
    with loaded(making.write_whisper(tmp_path / "m", Whisper(breaks_off=True))) as engine:
        found = heard(engine, SpeechOptions(words=True))
    assert [(each.start, each.end) for each in found] == [(3.0, 4.0), (4.5, 5.5)]
    assert [word.start for each in found for word in each.words] == [3.0, 3.5, 4.5, 5.0]


def test_a_window_is_read_to_its_end_however_often_the_model_breaks_off(
    making: ModuleType, tmp_path: Path
) -> None:
    times = 7
    goes = int((times * CLIP_SECONDS - 0.5) / GO_SECONDS) + 1
    with loaded(making.write_whisper(tmp_path / "m", Whisper(breaks_off=True))) as engine:
        found = heard(engine, SpeechOptions(language="en"), times=times)
    assert goes > 8
    assert [each.start for each in found] == pytest.approx([BEGINS + GO_SECONDS * go for go in range(goes)])


def test_what_is_left_out_of_a_window_is_told(
    making: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a model that hardly comes on."""
    from roundhouse_transformers import listener  # noqa: PLC0415 - see `making`

    monkeypatch.setattr(listener, "_SHORT_SECONDS", 2 * GO_SECONDS)
    with loaded(making.write_whisper(tmp_path / "m", Whisper(breaks_off=True))) as engine:
        assert len(heard(engine, SpeechOptions(language="en"), times=7)) == 8
    left = 7 * CLIP_SECONDS - 8 * GO_SECONDS
    assert f"the last {left:.1f} s of a window, from {BEGINS + 8 * GO_SECONDS:.1f} s of the" in caplog.text


@pytest.mark.parametrize("prompt", ["", "hello world " * 30], ids=["no prompt", "a long prompt"])
def test_an_answer_that_is_cut_is_read_on_from_its_last_sentence(
    prompt: str, making: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second sentence is longer than an answer may be, and than the room that a prompt leaves to it."""
    from roundhouse_transformers import decoding, listener  # noqa: PLC0415 - see `making`

    for module in (decoding, listener):
        monkeypatch.setattr(module, "LONGEST", 24)
    talkative = Whisper(breaks_off=True, further=PAIRS, width=128)
    with loaded(making.write_whisper(tmp_path / "m", talkative)) as engine:
        monkeypatch.setattr(engine._listener._decoder, "_room", 2 * 24)
        found = heard(engine, SpeechOptions(language="en", prompt=prompt))
    assert [(each.start, each.end, each.text) for each in found] == [
        (BEGINS, BEGINS + 1, " hello world"),
        (BEGINS + GO_SECONDS, BEGINS + GO_SECONDS + 1, " hello world"),
    ]


def test_an_answer_that_is_cut_before_any_time_is_told(
    making: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from roundhouse_transformers import decoding  # noqa: PLC0415 - see `making`

    monkeypatch.setattr(decoding, "LONGEST", 2)
    with loaded(making.write_whisper(tmp_path / "m")) as engine:
        assert [each.text for each in heard(engine, SpeechOptions(language="en"))] == [" hello"]
    assert "an answer was cut at 2 tokens" in caplog.text


def test_what_is_drawn_for_a_window_does_not_hang_on_its_batch(
    making: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from roundhouse_transformers import decoding  # noqa: PLC0415 - see `making`

    monkeypatch.setattr(decoding, "LONGEST", 12)
    samples = np.frombuffer(go_forward_samples(), "<i2").astype(np.float32) / 32768
    with loaded(making.write_whisper(tmp_path / "m", Whisper(sure=0.5))) as engine:
        listener = engine._listener
        opening = tuple(listener._vocabulary.opening("en", "transcribe", timed=True))
        sound = listener._sounds.encode(samples, Cancellation())
        asked = decoding.Decoding(sound, opening, 1.0, timed=True, cancellation=Cancellation())
        (alone,) = listener._decoder.decode([asked])
        assert len(set(alone.tokens)) > 3
        assert [each.tokens for each in listener._decoder.decode([asked] * 3)] == [alone.tokens] * 3


def test_a_gpu_that_has_no_memory_left_fails_the_request_alone(
    making: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch  # noqa: PLC0415 - see `making`

    def short(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    with loaded(making.write_whisper(tmp_path / "m")) as engine:
        listener = engine._listener
        for part, step in ((listener._sounds, "encode"), (listener._decoder, "language")):
            with monkeypatch.context() as patch:
                patch.setattr(part, step, short)
                with pytest.raises(EngineError) as refusal:
                    heard(engine)
            assert refusal.value.problem.code == "out_of_memory"
        assert heard(engine)


def test_a_test_that_fails_leaves_the_process_as_it_was(making: ModuleType, tmp_path: Path) -> None:
    import torch  # noqa: PLC0415 - see `making`

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(AssertionError), loaded(making.write_whisper(tmp_path)) as engine:
            raise AssertionError
        assert torch.get_num_threads() == 2
        assert not hasattr(engine, "_listener")
    finally:
        torch.set_num_threads(threads)


def test_where_nobody_speaks_nothing_is_made_up(
    making: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whisper's own rule: what the model is unsure of, and takes for no speech. Else it tries up to 1.0."""
    from roundhouse_transformers import decoding  # noqa: PLC0415 - see `making`

    monkeypatch.setattr(decoding, "LONGEST", 12)  # such models find no end
    with loaded(making.write_whisper(tmp_path / "m", Whisper(speech=False, sure=0.5))) as engine:
        assert heard(engine, SpeechOptions(language="en")) == []
    with loaded(making.write_whisper(tmp_path / "n", Whisper(sure=0.5))) as engine:
        found = heard(engine, SpeechOptions(language="en"))
        assert {each.temperature for each in found} == {1.0}
        assert heard(engine, SpeechOptions(language="en")) == found, "by the same chance"


def test_what_it_writes_is_what_the_library_writes(
    making: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With random weights, and one matrix for the words read and written, as all published models have it."""
    import torch  # noqa: PLC0415 - see `making`
    import transformers  # noqa: PLC0415

    from roundhouse_transformers import decoding  # noqa: PLC0415

    monkeypatch.setattr(decoding, "LONGEST", 40)
    path = making.write_whisper(tmp_path / "m")
    config = transformers.WhisperConfig.from_pretrained(path, tie_word_embeddings=True, init_std=0.3)
    torch.manual_seed(3)
    model = transformers.WhisperForConditionalGeneration(config).eval()
    model.generation_config = transformers.GenerationConfig.from_pretrained(path)
    model.save_pretrained(path)
    samples = np.frombuffer(go_forward_samples(), "<i2").astype(np.float32) / 32768
    with loaded(path) as engine:
        listener = engine._listener
        known = listener._vocabulary
        opening = tuple(known.opening("en", "transcribe", timed=True))
        heard = listener._sounds.encode(samples, Cancellation())
        asked = decoding.Decoding(heard, opening, 0.0, timed=True, cancellation=Cancellation())
        (found,) = listener._decoder.decode([asked])
    model.generation_config.suppress_tokens = list(known.suppressed)
    sound = transformers.WhisperFeatureExtractor()(samples, sampling_rate=RATE, return_tensors="pt")
    told = {"language": "en", "task": "transcribe", "return_timestamps": True, "max_new_tokens": 40}
    one = {"num_beams": 1, "do_sample": False, "force_unique_generate_call": True}
    wanted = model.generate(sound["input_features"], **one, **told)[0].tolist()
    assert len(set(wanted)) > 10
    assert [*opening, *found.tokens] == wanted


def test_a_language_that_the_model_has_no_token_for_is_refused(making: ModuleType, tmp_path: Path) -> None:
    """large-v3 brought Cantonese: those before it know none."""
    with loaded(making.write_whisper(tmp_path)) as engine, pytest.raises(EngineError, match="not 'yue'"):
        heard(engine, SpeechOptions(language="yue", task=Task.TRANSCRIBE))


def test_what_is_no_number_is_told_before_anything_is_drawn_of_it(making: ModuleType, tmp_path: Path) -> None:
    with loaded(making.write_whisper(tmp_path)) as engine:
        weight = engine._listener._loaded.model.model.decoder.layer_norm.weight
        weight.data.fill_(float("nan"))
        with pytest.raises(EngineError, match="computes what is no number"):
            heard(engine, SpeechOptions(language="en", temperature=1.0))


def test_nobody_is_decoded_while_others_are_encoded_who_come_along(
    making: ModuleType, tmp_path: Path
) -> None:
    """The first sound is held back until the three others wait for their turn."""
    with loaded(making.write_whisper(tmp_path)) as engine:
        sounds, decode = engine._listener._sounds, engine._listener._decode
        together, decoder = sounds._together, engine._listener._decoder
        encoded: list[int] = []
        before: list[int] = []

        def held(wanted: Any) -> Any:
            if not encoded:
                wait_until(lambda: together.waiting == 3, seconds=60, what="three wait", every=0.01)
            encoded.append(len(wanted))
            return sounds._encoded(wanted)

        def counted(decodings: Any) -> Any:
            before.append(sum(encoded))
            return decoder.decode(decodings)

        together._compute, together._at_once, decode._compute = held, 1, counted
        texts: list[str] = []
        asking = [
            threading.Thread(target=lambda: texts.extend(each.text for each in heard(engine)))
            for _ in range(4)
        ]
        for each in asking:
            each.start()
        for each in asking:
            each.join(120)
    assert encoded == [1] * 4, "a processor has no more to give"
    assert set(before) == {4}
    assert texts == [" hello world"] * 4


def test_windows_side_by_side_as_on_a_gpu_say_the_same_in_order(making: ModuleType, tmp_path: Path) -> None:
    with loaded(making.write_whisper(tmp_path)) as engine:
        assert engine._listener.ahead == 1, "a processor has no more to give"
        found = []
        for engine._listener.ahead in (1, 3):
            windows = (Window(10.0 * number, go_forward_samples(), RATE) for number in range(7))
            heard = engine.transcribe(windows, SpeechOptions(words=True), Cancellation())
            found.append([(each.start, each.end, each.text, each.words, each.language) for each in heard])
    assert found[0] == found[1]
    assert [start for start, *_ in found[0]] == [10.0 * number for number in range(7)]


@pytest.mark.parametrize("seed", range(3))
def test_the_path_through_a_table_is_the_cheapest(making: ModuleType, seed: int) -> None:
    from transformers.models.whisper.generation_whisper import _dynamic_time_warping  # noqa: PLC0415 - see `making`

    from roundhouse_transformers.alignment import first_columns  # noqa: PLC0415

    table = np.random.default_rng(seed).random((7, 40))
    rows, columns = _dynamic_time_warping(table)
    assert first_columns(table) == [int(columns[rows == row].min()) for row in range(7)]

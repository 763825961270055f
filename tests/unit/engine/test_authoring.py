"""What an engine's author can get wrong is told in words: before it serves, or with what is wrong."""

import io
import json
import math
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from typing_extensions import override

from roundhouse_engine import (
    Chat,
    Composition,
    Embedding,
    Finish,
    Isolation,
    ModelSpec,
    Music,
    Piece,
    Prompted,
    RealtimeSpeech,
    Rerank,
    Segment,
    Speech,
    ToolCall,
    Word,
)
from roundhouse_engine.ask import language_for
from roundhouse_engine.authoring import HandlerError, check_handler, heard
from roundhouse_engine.batch import compute_batch
from roundhouse_engine.errors import EngineError
from roundhouse_engine.events import Failed, LoadFailed, to_wire
from roundhouse_engine.handler import Cancellation, Handler
from roundhouse_engine.pipeline import compute, load
from roundhouse_engine.text_events import Composing, Embedded, Spoiled, TextAsk, TextWork
from roundhouse_faster_whisper.handler import FasterWhisper
from roundhouse_llama_cpp.chat import LlamaChat
from roundhouse_llama_cpp.embeddings import LlamaEmbeddings
from roundhouse_musicgen.handler import MusicGen
from roundhouse_nemo.handler import Nemo
from roundhouse_pocketsphinx.handler import PocketSphinx
from roundhouse_transformers.handlers import TransformersChat, TransformersEmbeddings, TransformersRerank
from roundhouse_transformers.speech import TransformersTranscriptions


class Good(Embedding):
    gives: Any = None

    @override
    def load(self, model: Any, progress: Any) -> None: ...

    @override
    def count_tokens(self, text: str) -> int:
        return len(text)

    @override
    def embed(self, texts: Any, cancellation: Any) -> Any:
        del cancellation
        return np.ones((len(texts), 3)) if self.gives is None else self.gives


class Talker(Chat):
    written: Any = ()

    @override
    def load(self, model: Any, progress: Any) -> None: ...

    @override
    def chat(self, conversation: Any, options: Any, cancellation: Any) -> Any:
        del conversation, options, cancellation
        return self.written


def varied(base: Any = Good, **members: Any) -> type[Handler]:
    return type("Toy", (base,), members)


async def coroutine(self: Any, texts: Any, cancellation: Any) -> None: ...


def generator(self: Any) -> Iterator[None]:
    yield


class Silent(Music):
    """Gives back what it is given."""

    gives: Any = None

    @override
    def load(self, model: Any, progress: Any) -> None: ...

    @override
    def limit_seconds(self) -> float:
        return 10.0

    @override
    def compose(self, prompt: Any, options: Any, progress: Any, cancellation: Any) -> Any:
        return self.gives


@pytest.mark.parametrize(
    "handler",
    [
        Good,
        Talker,
        Silent,
        type("Both", (Good, Rerank), {"score": lambda _self, _pairs, _cancellation: []}),
        FasterWhisper,
        LlamaChat,
        LlamaEmbeddings,
        MusicGen,
        Nemo,
        PocketSphinx,
        TransformersChat,
        TransformersEmbeddings,
        TransformersRerank,
        TransformersTranscriptions,
    ],
)
def test_a_class_that_can_serve_is_taken(handler: type[Handler]) -> None:
    check_handler(handler)


def test_languages_that_whisper_does_not_know_are_asked_for_by_their_codes() -> None:
    irish: Any = varied(PocketSphinx, languages={"ga", "haw"})
    check_handler(irish)
    assert [language_for(text, irish, "m") for text in ("ga", "ga-IE", "Hawaiian")] == ["ga", "ga", "haw"]
    with pytest.raises(EngineError, match="known language such as 'en'"):
        language_for("gd", irish, "m")


@pytest.mark.parametrize(
    ("handler", "said"),
    [
        (Good(), "takes the class"),
        (int, "has to extend one of Speech, Chat, Embedding, Rerank, Music"),
        (Handler, "has to extend one of"),
        (
            type("Toy", (Embedding,), {}),
            "lacks what every engine of its kind has: count_tokens, embed, load.",
        ),
        (varied(__init__=lambda _self, _size: None), "its __init__ wants some"),
        (varied(embed=coroutine), "Toy.embed is `async`"),
        (varied(warm_up=generator), "Toy.warm_up has a `yield`"),
        (
            type("Toy", (Talker, Good), {}),
            "Toy extends Chat and Embedding, and an engine is one of them",
        ),
        (
            varied(load=lambda _self, _model: None),
            "Toy.load is called with (self, model, progress) and takes",
        ),
        (varied(limit_tokens=512), "Toy.limit_tokens is a method"),
        (varied(capacity=0), "Toy.capacity must be a whole number from 1 on, not 0."),
        (varied(isolation="process"), "Toy.isolation must be Isolation.THREAD or Isolation.PROCESS"),
        (varied(imports="torch"), "must be a tuple of modules' names"),
        (varied(languages="en"), "Toy.languages must be a set of codes"),
        (
            varied(languages={"en", "english"}),
            "Toy.languages has 'english', which is no code of ISO 639-1",
        ),
        (varied(languages={"deu"}), "has 'deu', which is no code of ISO 639-1: write 'de'."),
        (varied(languages={"jp"}), "has 'jp', which is no code of ISO 639-1."),
        (
            type("Outer.Toy", (Good,), {"isolation": Isolation.PROCESS, "__qualname__": "made.<locals>.Toy"}),
            "must stand at the top level",
        ),
        (varied(RealtimeSpeech, load=lambda _self, _model, _progress: None), "lacks"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_could_never_serve_is_told_before_anything_is_loaded(handler: Any, said: str) -> None:
    with pytest.raises(HandlerError) as told:
        check_handler(handler)
    assert said in str(told.value)


class Panic(BaseException):
    """As pyo3's: what a library of Rust raises when it is broken."""


def panics(*_: object) -> None:
    raise Panic("index out of bounds")


def test_a_panic_while_it_loads_is_told_and_hangs_nobody() -> None:
    told: list[Any] = []
    assert load(varied(load=panics), (ModelSpec("m"),), told.append) == {}
    assert isinstance(told[-1], LoadFailed)
    assert "'m' cannot be loaded: Panic: index out of bounds" in told[-1].message
    assert load(varied(__init__=panics), (ModelSpec("m"),), told.append) == {}
    assert isinstance(told[-1], LoadFailed)


def embedded(handler: Embedding, *texts: str) -> list[Any]:
    file = io.BytesIO(json.dumps({"items": texts, "bounds": [None] * len(texts)}).encode())
    return list(compute_batch(handler, file, TextAsk("m", TextWork.EMBED), Cancellation()))


@pytest.mark.parametrize(
    ("gives", "said"),
    [
        (7, "Good.embed gave int, where a vector for each of 1 texts is wanted"),
        ([], "gave 0 vectors"),
        ([1.0], "gave list of 1, where"),
        (np.ones(1), "gave an array of the shape (1,)"),
        (np.ones((1, 2, 2)), "gave an array of the shape (1, 2, 2)"),
        (["abc"], "gave list of 1"),
    ],
    ids=str,
)
def test_an_answer_that_is_no_vectors_is_told(gives: Any, said: str) -> None:
    handler = Good()
    handler.gives = gives
    [spoiled] = embedded(handler, "a")
    assert isinstance(spoiled, Spoiled)
    assert spoiled.problem.status == 500
    assert said in spoiled.problem.message


def test_a_model_s_vectors_are_all_of_one_length() -> None:
    class Ragged(Good):
        @override
        def embed(self, texts: Any, cancellation: Any) -> Any:
            del cancellation
            return [[1.0] * len(text) for text in texts]

    found = embedded(Ragged(), "a", "ab")
    assert [one.index for one in found if isinstance(one, Embedded)] == [0]
    [spoiled] = [one for one in found if isinstance(one, Spoiled)]
    assert "gave vectors of different lengths, 1 and 2" in spoiled.problem.message


def test_a_count_that_is_no_number_fails_its_text_alone() -> None:
    class Counts(Good):
        @override
        def count_tokens(self, text: str) -> Any:
            return "three" if text == "bad" else 3

    kinds = {one.index: type(one) for one in embedded(Counts(), "bad", "good")}
    assert kinds == {0: Spoiled, 1: Embedded}


def talked(*written: Any) -> list[Any]:
    handler = Talker()
    handler.written = written[0] if len(written) == 1 and isinstance(written[0], str) else written
    told: dict[str, Any] = {
        "messages": [],
        "tools": [],
        "tool_choice": None,
        "parallel_tool_calls": None,
        "options": {"stop": []},
    }
    file = io.BytesIO(json.dumps(told).encode())
    return list(compute(handler, file, TextAsk("m", TextWork.CHAT), Cancellation()))


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (("a text",), "Talker.chat gave str: yield Prompted, Piece and Finish"),
        ((Prompted(1), b"a"), "Talker.chat yielded bytes: wanted are Prompted, Piece and Finish"),
        ((Prompted(1), Piece(None)), "yielded Piece(text=None"),  # type: ignore[arg-type]
        ((Piece("a", tokens=-5),), "yielded Piece(text='a', tokens=-5"),
        ((Piece(tool_calls=(ToolCall(np.int64(0)),)),), "tool_calls=(ToolCall(index="),  # type: ignore[arg-type]
        ((Piece(tool_calls=(ToolCall(0, {"a": 1}),)),), "arguments={'a': 1}"),  # type: ignore[arg-type]
        ((Piece(tool_calls=("call",)),), "tool_calls=('call',)"),  # type: ignore[arg-type]
        ((Piece(tool_calls=None),), "tool_calls=None"),  # type: ignore[arg-type]
        ((Piece("a"), Finish("because")), "yielded Finish(reason='because'"),  # type: ignore[arg-type]
        ((Piece("a"), Finish(tokens="two")), "yielded Finish(reason="),  # type: ignore[arg-type]
        ((Prompted(1, cached="one"),), "yielded Prompted(tokens=1, cached='one'"),  # type: ignore[arg-type]
    ],
    ids=str,
)
def test_what_is_no_piece_of_writing_is_told(written: tuple[Any, ...], said: str) -> None:
    last = talked(*written)[-1]
    assert isinstance(last, Failed)
    assert said in last.problem.message


def test_halves_of_characters_are_sent_as_what_can_be() -> None:
    call = ToolCall(0, '{"a": "\ud83d"}', "1", "f")
    written = (Prompted(1), Piece("a\ud83d"), Piece(tool_calls=(call,)), Finish())
    pieces = [one for one in talked(*written) if isinstance(one, Piece)]
    assert pieces == [Piece("a?"), Piece(tool_calls=(ToolCall(0, '{"a": "?"}', "1", "f"),))]


def composing(handler: Music) -> list[Any]:
    told = {"prompt": "a", "duration_seconds": 1.0, "format": "wav", "options": {"seed": 1}}
    with tempfile.TemporaryFile() as file:
        file.write(json.dumps(told).encode())
        file.flush()
        return list(compute(handler, file, TextAsk("m", TextWork.COMPOSE), Cancellation()))


NOWHERE: Any = math.nan
WORDS: Any = ("go",)


@pytest.mark.parametrize(
    ("gives", "said"),
    [
        (None, "gave NoneType: yield a Segment"),
        ("words", "gave str: yield a Segment"),
        (["words"], "yielded str: wanted are Segments"),
        ([Segment(0.0, 1.0, b"a")], "text=b'a'.*: b'a' is no text"),  # type: ignore[arg-type]
        ([Segment(0.0, 1.0, "a", language=b"en")], "b'en' is no text"),  # type: ignore[arg-type]
        ([Segment(0.0, NOWHERE, "a")], "a segment's time is not a number"),
        ([Segment(0.0, "one", "a")], "must be real number, not str"),  # type: ignore[arg-type]
        ([Segment(0.0, 1.0, "go", WORDS)], "'str' object has no attribute"),
    ],
    ids=str,
)
def test_what_is_no_segment_is_told(gives: Any, said: str) -> None:
    with pytest.raises(EngineError, match=rf"PocketSphinx\.transcribe .*{said}"):
        list(heard(PocketSphinx(), "transcribe", gives, 1.0))


@pytest.mark.parametrize(
    ("gives", "said"),
    [
        (None, "Silent.compose gave NoneType, where a Composition is wanted"),
        (Composition([[0.0]], 8000), "gave samples as list of 1, where an array"),  # type: ignore[arg-type]
        (Composition(np.zeros(9, np.float32), 8000), "gave samples as an array of the shape (9,), where"),
        (Composition(np.zeros((3, 9), np.float32), 8000), "of the shape (3, 9), where an array of [channels"),
    ],
    ids=str,
)
def test_what_is_no_music_is_told(gives: Any, said: str) -> None:
    handler = Silent()
    handler.gives = gives
    last = composing(handler)[-1]
    assert isinstance(last, Failed)
    assert said in last.problem.message


def test_segments_pass_and_none_ends_before_it_begins() -> None:
    def found() -> Iterator[Segment]:
        yield Segment(0.0, 1.0, "go", (Word("go", 0.5, 0.25),))
        yield Segment(5.0, 1.0, "on")

    speech: Speech = PocketSphinx()
    assert list(heard(speech, "transcribe", found(), 2.8)) == [
        Segment(0.0, 1.0, "go", (Word("go", 0.5, 0.5),)),
        Segment(2.8, 2.8, "on"),
    ]


@pytest.mark.parametrize("part", ["x", None, math.nan], ids=str)
def test_what_is_no_part_of_a_load_is_no_fault_of_its_files(part: Any) -> None:
    def loading(_self: Any, _model: Any, progress: Any) -> None:
        progress(part)

    told: list[Any] = []
    assert load(varied(load=loading), (ModelSpec("m"),), told.append) == {}
    wanted = f"The engine's own code is at fault: Toy.load called progress({part!r}), where a number from 0"
    assert isinstance(told[-1], LoadFailed)
    assert told[-1].message.startswith(wanted)


def test_parts_of_libraries_and_beyond_the_end_are_told_as_plain_ones() -> None:
    class Steps(Silent):
        @override
        def compose(self, prompt: Any, options: Any, progress: Any, cancellation: Any) -> Any:
            for part in (np.float32(0.5), 7):
                progress(part)
            return Composition(np.zeros((1, 800), np.float32), np.int64(8000), np.int64(3))  # type: ignore[arg-type]

    *steps, composed, _ = composing(Steps())
    assert steps == [Composing(0.5), Composing(1.0)]
    for event in (*steps, composed):
        assert json.dumps(to_wire(event))


def test_what_is_no_part_of_a_composition_is_told() -> None:
    class Lost(Silent):
        @override
        def compose(self, prompt: Any, options: Any, progress: Any, cancellation: Any) -> Any:
            progress("x")

    last = composing(Lost())[-1]
    assert isinstance(last, Failed)
    assert "Lost.compose called progress('x'), where a number from 0 to 1 is wanted" in last.problem.message

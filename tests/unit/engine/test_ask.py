"""Form fields: what is understood, what is refused, and with which field named."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import pytest
from typing_extensions import override

from roundhouse_engine import Cancellation, ModelSpec, Segment, Speech, SpeechOptions, Window
from roundhouse_engine.ask import read_ask
from roundhouse_engine.errors import EngineError
from roundhouse_engine.formats import Granularity, ResponseFormat

Fields = dict[str, list[str]]


class Bilingual(Speech):
    languages: ClassVar[frozenset[str] | None] = frozenset({"en", "de"})
    word_timestamps = True

    @override
    def load(self, model: ModelSpec, progress: Callable[[float], None]) -> None: ...

    @override
    def transcribe(
        self, windows: Iterator[Window], options: SpeechOptions, cancellation: Cancellation
    ) -> Iterable[Segment]:
        return ()


class English(Bilingual):
    languages: ClassVar[frozenset[str] | None] = frozenset({"en"})


class Wordless(Bilingual):
    languages: ClassVar[frozenset[str] | None] = None
    word_timestamps = False


def test_defaults_are_openais() -> None:
    ask = read_ask({"model": ["m"]}, Bilingual, ["m"])
    assert (ask.response_format, ask.granularities, ask.stream) == (ResponseFormat.JSON, frozenset(), False)
    assert ask.options == SpeechOptions(language=None, prompt="", temperature=0.0, words=False)


def test_the_only_language_is_taken_where_none_is_named() -> None:
    assert read_ask({"model": ["m"]}, English, ["m"]).options.language == "en"


def test_granularities_come_with_and_without_brackets() -> None:
    fields = {"model": ["m"], "timestamp_granularities[]": ["word"], "timestamp_granularities": ["segment"]}
    ask = read_ask(fields, Bilingual, ["m"])
    assert ask.granularities == {Granularity.WORD, Granularity.SEGMENT}
    assert ask.options.words


def test_hotwords_come_by_two_names() -> None:
    fields = {
        "model": ["m"],
        "hotwords": ["Roundhouse, kopf"],
        "keywords[]": ["Whisper", " "],
        "keywords": ["x"],
    }
    assert read_ask(fields, Bilingual, ["m"]).options.hotwords == "Roundhouse, kopf, Whisper, x"


def test_fields_of_other_clients_are_left_alone() -> None:
    fields = {"model": ["m"], "include[]": ["logprobs"], "chunking_strategy": ["auto"], "user": ["u"]}
    assert read_ask(fields, Bilingual, ["m"]).model == "m"


def test_the_same_model_twice_is_no_contradiction() -> None:
    assert read_ask({"model": ["m", "m"]}, Bilingual, ["m"]).model == "m"


@dataclass(frozen=True)
class Refused:
    id: str
    fields: Fields
    param: str
    code: str
    says: str
    status: int = 400
    handler: type[Speech] = Bilingual


REFUSED = [
    Refused("no model", {}, "model", "missing", "Served here: 'one', 'two'"),
    Refused("blank model", {"model": [" "]}, "model", "missing", "missing"),
    Refused("unknown model", {"model": ["x"]}, "model", "model_not_found", "'x'", status=404),
    Refused("two models", {"model": ["one", "two"]}, "model", "invalid_value", "different values"),
    Refused("format", {"response_format": ["xml"]}, "response_format", "unsupported_value", "json, text"),
    Refused(
        "granularity",
        {"timestamp_granularities[]": ["char"]},
        "timestamp_granularities",
        "unsupported_value",
        "word, segment",
    ),
    Refused(
        "words of an engine without",
        {"timestamp_granularities[]": ["word"]},
        "timestamp_granularities",
        "unsupported_value",
        "no word timestamps",
        handler=Wordless,
    ),
    Refused("hot", {"temperature": ["1.5"]}, "temperature", "invalid_value", "0 to 1"),
    Refused("no number", {"temperature": ["warm"]}, "temperature", "invalid_value", "'warm'"),
    Refused("not a number", {"temperature": ["nan"]}, "temperature", "invalid_value", "'nan'"),
    Refused("stream", {"stream": ["maybe"]}, "stream", "invalid_value", "true or false"),
    Refused(
        "captions cannot stream",
        {"stream": ["true"], "response_format": ["srt"]},
        "response_format",
        "unsupported_value",
        "json or text",
    ),
    Refused("no language", {"language": ["xx"]}, "language", "unsupported_value", "'xx'"),
    Refused("other language", {"language": ["fr"]}, "language", "unsupported_value", "'de' (german)"),
]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.id)
def test_refused_with_the_field_named(case: Refused) -> None:
    fields = (
        case.fields if "model" in case.fields or case.param == "model" else {"model": ["one"]} | case.fields
    )
    with pytest.raises(EngineError) as caught:
        read_ask(fields, case.handler, ["one", "two"])
    problem = caught.value.problem
    assert (problem.status, problem.param, problem.code) == (case.status, case.param, case.code)
    assert problem.type == "invalid_request_error"
    assert case.says in problem.message

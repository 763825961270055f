"""Translation and speakers: what an engine does that can, and what one says that cannot."""

from collections.abc import Iterator

import openai
import pytest

from tests.conformance.engine.running import INTERPRETER, Engine, running, tones

# The client calls its own translations deprecated, because OpenAI's models are.
pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")


@pytest.fixture(scope="module")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with running(INTERPRETER, tmp_path_factory.mktemp("interpreter")) as engine:
        engine.until_ready()
        yield engine


@pytest.mark.req("S2-20")
def test_a_translation_is_english(interpreter: Engine) -> None:
    with interpreter.client as client:
        plain = client.audio.translations.create(model="m", file=("a.wav", tones(2)))
        assert plain.to_dict() == {"text": "sound sound"}
        verbose = client.audio.translations.create(
            model="m", file=("a.wav", tones(2)), response_format="verbose_json"
        )
        assert (verbose.language, verbose.text) == ("english", "sound sound")
        assert verbose.segments is not None
        assert len(verbose.segments) == 2


def test_speakers_are_told_apart(interpreter: Engine) -> None:
    with interpreter.client as client:
        answer = client.audio.transcriptions.create(
            model="m", file=("a.wav", tones(2)), response_format="diarized_json", chunking_strategy="auto"
        )
    assert [segment.speaker for segment in answer.segments] == ["A", "B"]
    assert answer.text == "A: Geräusch\nB: Geräusch"


def test_speakers_stand_in_verbose_json_where_they_are_asked_for(interpreter: Engine) -> None:
    asked = {"model": "m", "response_format": "verbose_json"}
    plain = interpreter.post(tones(2), **asked).json["segments"]
    told = interpreter.post(tones(2), **asked, diarization="true").json["segments"]
    assert ([each.get("speaker") for each in plain], [each["speaker"] for each in told]) == (
        [None, None],
        ["A", "B"],
    )


def test_who_can_do_neither_says_so(scripted: Engine) -> None:
    with scripted.client as client:
        with pytest.raises(openai.BadRequestError, match="does not translate") as untranslated:
            client.audio.translations.create(model="m", file=("a.wav", tones(1)))
        assert untranslated.value.param == "model"
        with pytest.raises(openai.BadRequestError, match="does not tell speakers apart") as together:
            client.audio.transcriptions.create(
                model="m", file=("a.wav", tones(1)), response_format="diarized_json"
            )
        assert together.value.param == "response_format"

"""What the engine of transformers makes of a request's numbers and variables, beside what the model does."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from roundhouse_engine import Cancellation, Cancelled, ModelError, TextOptions
from roundhouse_engine.errors import EngineError
from tests.support.torch_base import prepare_torch

prepare_torch()

import torch  # noqa: E402 - it loads only from here on
import transformers  # noqa: E402
from tokenizers import Tokenizer, models  # noqa: E402

from roundhouse_transformers import template as template_module  # noqa: E402
from roundhouse_transformers.loading import load  # noqa: E402
from roundhouse_transformers.repository import Repository  # noqa: E402
from roundhouse_transformers.sampling import Chances, Draw, chances  # noqa: E402
from roundhouse_transformers.settings import read_settings  # noqa: E402
from roundhouse_transformers.telling import Telling  # noqa: E402
from roundhouse_transformers.template import Template  # noqa: E402

SAID = [{"role": "user", "content": "a"}]


def drawn(scores: Any, temperature: float = 1.0, **told: Any) -> int:
    plain = {"top_p": 1.0, "top_k": 0, "frequency_penalty": 0.0, "presence_penalty": 0.0, "seed": 1}
    draw = Draw(Chances(temperature, **(plain | told)), 1, "cpu")
    return int(draw(torch.tensor([[1]]), torch.tensor([scores])).argmax())


@pytest.mark.parametrize("temperature", [0.0, 1e-5, 1e-3, 1.0, 2.0])
@pytest.mark.parametrize(
    "scores",
    [
        [0.0, 1e4, -1e4],
        [-1e4, 0.0, float("-inf")],
        [0.0, float("inf"), 0.0],
        [float("-inf"), -1e29, float("-inf")],
    ],
    ids=str,
)
def test_whatever_the_scores_are_the_likeliest_is_drawn(scores: list[float], temperature: float) -> None:
    assert drawn(scores, temperature) == 1


def test_scores_that_are_no_numbers_are_an_error() -> None:
    for temperature in (0.0, 1.0):
        with pytest.raises(EngineError, match="no numbers"):
            drawn([0.0, float("nan")], temperature)


@pytest.mark.parametrize("habit", [0.0, 1e-38, -1.0, float("nan")])
def test_a_models_own_temperature_that_is_none(habit: float) -> None:
    assert chances(TextOptions(), {"do_sample": True, "temperature": habit}).temperature == 0.0
    assert chances(TextOptions(temperature=1e-38), {}).temperature == 0.0


@pytest.mark.parametrize(("top_k", "meant"), [(-1, 0), (0, 0), (3, 3)])
def test_of_so_many_tokens(top_k: int, meant: int) -> None:
    assert chances(TextOptions(extensions={"top_k": top_k}), {}).top_k == meant


@pytest.fixture
def made() -> Callable[[str], Template]:
    def make(text: str) -> Template:
        unknown = "<unk>"
        words = Tokenizer(models.WordLevel({unknown: 0}, unknown))
        tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words, unk_token=unknown)
        tokenizer.chat_template = text
        return Template(tokenizer)

    return make


def test_a_template_is_filled_with_variables(made: Callable[[str], Template]) -> None:
    template = made("{{ messages[0].content }} {{ unk_token }} {{ thinks }} {{ add_generation_prompt }}")
    assert template.fill(SAID, {"thinks": False}, Cancellation()) == "a <unk> False True"
    assert template.fill(SAID, None, Cancellation()) == "a <unk>  True"


@pytest.mark.parametrize(
    "name",
    [
        *("chat_template", "tools", "documents", "conversation", "conversations", "messages", "self"),
        *("tokenize", "tokenizer_kwargs", "padding", "truncation", "max_length", "sanitize_control_tokens"),
        *("return_tensors", "return_dict", "return_assistant_tokens_mask"),
        *("add_generation_prompt", "continue_final_message"),
    ],
)
def test_what_is_no_variable_is_refused(made: Callable[[str], Template], name: str) -> None:
    with pytest.raises(EngineError, match=repr(name)) as caught:
        made("a").fill(SAID, {name: "b"}, Cancellation())
    assert (caught.value.problem.status, caught.value.problem.param) == (400, "chat_template_kwargs")


@pytest.mark.parametrize("value", [10**18, -(10**7), 1e300, float("nan"), [{"deep": [10**9]}]])
def test_a_number_that_a_single_step_would_stumble_over_is_refused(
    made: Callable[[str], Template], value: object
) -> None:
    with pytest.raises(EngineError, match="'n' to a number of more than 1,000,000") as caught:
        made("{{ 'x' * n }}").fill(SAID, {"n": value}, Cancellation())
    assert (caught.value.problem.status, caught.value.problem.param) == (400, "chat_template_kwargs")


def test_a_template_that_is_no_program_is_found_at_load(made: Callable[[str], Template]) -> None:
    with pytest.raises(ModelError, match=r"^'m': its template for conversations cannot be read, line 2: "):
        made("{{ messages }}\n{% for %}").check("m")
    made("{{ raise_exception('roles must alternate') }}{{ messages[7].content }}").check("m")


LOOPS = "{% for i in range(n) %}{% for j in range(n) %}{% endfor %}{% endfor %}"


def test_a_template_that_does_not_end_is_ended(
    made: Callable[[str], Template], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(template_module, "_SECONDS", 0.1)
    template = made(LOOPS)
    with pytest.raises(EngineError, match="was not filled with these messages after") as caught:
        template.fill(SAID, {"n": 99_999}, Cancellation())
    assert caught.value.problem.status == 400
    gone = Cancellation()
    gone.cancel()
    with pytest.raises(Cancelled):
        template.fill(SAID, {"n": 99_999}, gone)
    assert template.fill(SAID, {"n": 2}, Cancellation()) == ""


def test_a_long_conversation_takes_a_small_part_of_what_a_template_may(
    made: Callable[[str], Template],
) -> None:
    template = made("{% for m in messages %}{{ m.role }}: {{ m.content | trim }}\n{% endfor %}")
    template.fill(SAID, None, Cancellation())
    begun = time.thread_time()
    assert template.fill(SAID * 1000, None, Cancellation()).count("\n") == 1000
    assert time.thread_time() - begun < template_module._SECONDS / 10


@pytest.mark.parametrize(
    "text", ["{{ 1 // n }}", "{{ messages[7].content.x }}", "{{ raise_exception('no') }}"]
)
def test_what_a_template_stumbles_over_is_told(made: Callable[[str], Template], text: str) -> None:
    with pytest.raises(EngineError, match="cannot be filled") as caught:
        made(text).fill(SAID, {"n": 0}, Cancellation())
    assert (caught.value.problem.status, caught.value.problem.param) == (400, "messages")


def test_where_memory_is_short_a_model_that_loads_and_a_text_that_is_written_say_so(tmp_path: Path) -> None:
    """In torch's own words for processors, which have no exception of their own."""

    class Huge:
        @staticmethod
        def from_pretrained(*_: object, **__: object) -> Any:
            return torch.empty(1 << 50)

    repository = Repository("m", tmp_path, {}, safetensors=True, remote_code=False)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, "a"))
    )
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="'m' needs more memory than there is"):
        load(repository, read_settings({}), Huge)
    telling = Telling(Cancellation())
    telling.begin(lambda _: Huge.from_pretrained())
    with pytest.raises(EngineError) as refusal:
        telling.next()
    telling.leave()
    problem = refusal.value.problem
    assert (problem.status, problem.type, problem.code) == (503, "service_unavailable", "out_of_memory")
    assert problem.retry_after_seconds

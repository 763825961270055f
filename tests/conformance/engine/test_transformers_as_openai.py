"""What people send to OpenAI's chat with its own client, sent to the transformers engine."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.conformance.engine.conversations import said, tool
from tests.conformance.engine.running import Engine
from tests.conformance.engine.test_transformers import serving
from tests.conformance.engine.test_transformers_json import held_to
from tests.conformance.engine.test_transformers_tools import HERMES
from tests.support.torch_base import prepare_torch

WORDS = 'naïve 日本 🙂 e\u0301 "quoted"\n'


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    prepare_torch()
    from tests.support import tiny_models as tiny  # noqa: PLC0415 - torch loads only from here on

    folder = tmp_path_factory.mktemp("openai")
    models = {
        "m": tiny.write_speaker(folder / "m", ["I would", " rather not."], template=HERMES),
        "counts": tiny.write_writer(folder / "counts", ("assistant", "one", "two", "one"), ends=False),
    }
    with serving("chat", folder, **models) as engine:
        yield engine


def create(engine: Engine, messages: Any, **fields: Any) -> Any:
    with engine.client as client:
        told = {"model": "m", "temperature": 0, **fields}
        found = client.chat.completions.create(messages=messages, **told)
        return list(found) if fields.get("stream") else found


def test_an_answer_says_what_openais_does(engine: Engine) -> None:
    found = create(engine, said("a"), n=1, user="u", store=False, metadata={"a": "b"}, service_tier="auto")
    (choice,) = found.choices
    assert (found.object, found.model, found.id[:9]) == ("chat.completion", "m", "chatcmpl-")
    assert (choice.index, choice.finish_reason, choice.logprobs) == (0, "stop", None)
    message = choice.message
    assert (message.role, message.content, message.refusal) == ("assistant", "I would rather not.", None)
    assert found.usage.total_tokens == found.usage.prompt_tokens + found.usage.completion_tokens
    again = create(engine, [*said("a"), message.model_dump(), *said("b")])
    assert again.usage.prompt_tokens > found.usage.prompt_tokens, "what was answered can be sent back"


def test_usage_comes_last_and_only_where_it_is_asked_for(engine: Engine) -> None:
    plain = create(engine, said("a"), stream=True)
    assert all(chunk.usage is None and chunk.choices for chunk in plain)
    *chunks, last = create(engine, said("a"), stream=True, stream_options={"include_usage": True})
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)
    assert (last.choices, last.usage.completion_tokens) == ([], 3)
    assert {chunk.model for chunk in chunks} == {"m"}
    assert chunks[0].choices[0].delta.role == "assistant"


@pytest.mark.parametrize("stream", [False, True])
def test_characters_of_many_tokens_come_whole(engine: Engine, *, stream: bool) -> None:
    """Held to it, the model spells them byte by byte."""
    found = create(engine, said("a"), response_format=held_to({"const": WORDS}), stream=stream)
    if stream:
        parts = [chunk.choices[0].delta.content or "" for chunk in found]
        assert not any("\ufffd" in part for part in parts)
        text = "".join(parts)
    else:
        text = found.choices[0].message.content
    assert json.loads(text) == WORDS
    cut = create(engine, said("a"), response_format=held_to({"const": "日本"}), max_completion_tokens=6)
    assert (cut.choices[0].message.content, cut.choices[0].finish_reason) == ('"日', "length")


def test_a_developer_is_heard_as_the_system_where_the_template_knows_none(engine: Engine) -> None:
    """Templates leave out, without a word, what roles say that they do not know."""

    def prompted(role: str) -> Any:
        return create(engine, [*said("Be brief.", role=role), *said("a")]).usage.prompt_tokens

    assert prompted("developer") == prompted("system")


@pytest.mark.parametrize(
    "messages",
    [
        said(""),
        [*said("a"), *said("", role="assistant"), *said("b")],
        [{"role": "user", "content": [{"type": "text", "text": ""}]}],
        [{"role": "user", "name": "ann", "content": "a"}],
        [
            *said("a"),
            {
                "role": "assistant",
                "content": None,
                "refusal": None,
                "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
            },
            {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "done"}]},
        ],
    ],
    ids=["empty", "empty answer", "empty part", "name", "result"],
)
def test_messages_that_openai_takes(engine: Engine, messages: Any) -> None:
    assert create(engine, messages, tools=[tool("f")]).choices[0].message.content == "I would rather not."


def test_stops_limits_and_penalties(engine: Engine) -> None:
    stopped = create(engine, said("a"), stop=["never", " not"]).choices[0]
    assert (stopped.message.content, stopped.finish_reason) == ("I would rather", "stop")
    cut = create(engine, said("a"), max_tokens=99, max_completion_tokens=1).choices[0]
    assert (cut.message.content, cut.finish_reason) == ("I would", "length")

    def counted(**fields: Any) -> set[str]:
        text = create(engine, said("count"), model="counts", max_tokens=40, **fields)
        return set(text.choices[0].message.content.split())

    assert counted(presence_penalty=0.1) == counted()
    assert len(counted(frequency_penalty=2)) > len(counted())


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"reasoning_effort": "high"}, "reasoning_effort"),
        ({"verbosity": "low"}, "verbosity"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"modalities": ["audio"], "audio": {"voice": "a", "format": "wav"}}, "modalities"),
        ({"audio": {"voice": "a", "format": "wav"}}, "audio"),
        ({"function_call": "auto"}, "function_call"),
        ({"max_completion_tokens": 0}, "max_completion_tokens"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "response_format"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"messages": said("long " * 2000)}, "messages"),
    ],
    ids=str,
)
def test_what_would_change_the_answer_and_cannot_is_refused(engine: Engine, fields: Any, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        create(engine, **{"messages": said("a"), **fields})
    assert (refusal.value.param, refusal.value.type) == (param, "invalid_request_error")

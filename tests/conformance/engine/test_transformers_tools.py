"""Tools with the transformers engine: models that call them as their families do, and their templates."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conformance.engine.conversations import WRONG_MESSAGES, named, said, tool
from tests.conformance.engine.running import Engine
from tests.conformance.engine.test_transformers import CHAT, post, serving
from tests.support.gguf import TOOLS_TEMPLATE
from tests.support.torch_base import prepare_torch

HERMES = TOOLS_TEMPLATE.replace("<|im_start|>assistant:", "<says>")
MISTRAL = (
    "{% if tools %}[AVAILABLE_TOOLS]{{ tools | tojson }}{% endif %}{% for m in messages %}"
    "{% for call in m.tool_calls %}[TOOL_CALLS][{{ call | tojson }}]{% endfor %}{{ m.content }}{% endfor %}"
    "<says>"
)
CALL = ("<tool_call>", '\n{"name": "f",', ' "arguments"', ': {"a"', ': "x"}}\n', "</tool_call>")
PARAMETERS = {
    "type": "object",
    "properties": {"n": {"type": "integer", "minimum": 1, "maximum": 3}},
    "required": ["n"],
    "additionalProperties": False,
}
COUNT: Any = {"type": "function", "function": {"name": "count", "parameters": PARAMETERS}}


@pytest.fixture(scope="module")
def caller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    prepare_torch()
    from tests.support import tiny_models as tiny  # noqa: PLC0415 - torch loads only from here on

    folder = tmp_path_factory.mktemp("caller")
    hermes: dict[str, Any] = {"template": HERMES, "marks": ["<tool_call>", "</tool_call>"], "length": 2048}
    listed = ("[TOOL_CALLS]", '[{"name": "f", "arguments": {"a": "x"}}', ', {"name": "g", "arguments": {}}]')
    mistral: dict[str, Any] = {"template": MISTRAL, "marks": ["[TOOL_CALLS]"], "length": 2048}
    models = {
        "hermes": tiny.write_speaker(folder / "hermes", CALL, **hermes),
        "mistral": tiny.write_speaker(folder / "mistral", listed, **mistral),
        "talker": tiny.write_speaker(folder / "talker", ["I would", " rather not."], **hermes),
        "plain": tiny.write_speaker(folder / "plain", ["Hi."]),
    }
    with serving("chat", folder, **models) as engine:
        yield engine


def calls_of(answer: Any) -> list[tuple[str, str]]:
    calls = answer.json["choices"][0]["message"].get("tool_calls", ())
    return [(call["function"]["name"], call["function"]["arguments"]) for call in calls]


def ask(caller: Engine, model: str, **fields: Any) -> Any:
    return post(caller, CHAT, model=model, messages=said("a"), **{"temperature": 0, **fields})


@pytest.mark.parametrize(
    ("model", "choice"),
    [("hermes", "auto"), ("hermes", "required"), ("hermes", named("f")), ("mistral", "auto")],
    ids=str,
)
def test_the_model_calls_a_tool(caller: Engine, model: str, choice: Any) -> None:
    tools: list[Any] = [tool("f"), tool("g")]
    with caller.client as client:
        found = client.chat.completions.create(
            model=model,
            messages=said("a"),
            temperature=0,
            tools=tools,
            tool_choice=choice,
            parallel_tool_calls=False,
        )
    assert found.choices[0].finish_reason == "tool_calls"
    assert found.choices[0].message.content is None
    calls = found.choices[0].message.tool_calls
    assert calls is not None
    assert len(calls) == 1
    assert calls[0].type == "function"
    assert (calls[0].function.name, json.loads(calls[0].function.arguments)) == ("f", {"a": "x"})
    assert found.usage is not None
    assert found.usage.completion_tokens > 1


def test_several_calls_come_apart(caller: Engine) -> None:
    found = ask(caller, "mistral", tools=[tool("f"), tool("g")])
    assert calls_of(found) == [("f", '{"a": "x"}'), ("g", "{}")]
    ids = [call["id"] for call in found.json["choices"][0]["message"]["tool_calls"]]
    assert len(set(ids)) == 2


def test_a_stream_tells_the_call_in_parts(caller: Engine) -> None:
    tools: list[Any] = [COUNT, tool("f")]
    with (
        caller.client as client,
        client.chat.completions.create(
            model="hermes", messages=said("a"), temperature=0, tools=tools, stream=True
        ) as stream,
    ):
        choices = [chunk.choices[0] for chunk in stream]
    parts = [call for choice in choices for call in choice.delta.tool_calls or ()]
    told = [part.function for part in parts if part.function]
    assert "".join(part.name or "" for part in told) == "f"
    assert "".join(part.arguments or "" for part in told) == '{"a": "x"}'
    assert len([part.arguments for part in told if part.arguments]) > 1
    assert len([part.id for part in parts if part.id]) == 1
    assert choices[-1].finish_reason == "tool_calls"
    assert not any(choice.delta.content for choice in choices)


@pytest.mark.parametrize("fields", [{"tool_choice": "required"}, {"tool_choice": named("count")}], ids=str)
@pytest.mark.parametrize("model", ["talker", "hermes", "mistral"])
def test_who_would_rather_not_must_call_and_with_what_the_tool_takes(
    caller: Engine, model: str, fields: Any
) -> None:
    told = {"temperature": 1, "seed": 5, "parallel_tool_calls": False, "tools": [COUNT]} | fields
    found = ask(caller, model, **told)
    assert found.json["choices"][0]["finish_reason"] == "tool_calls"
    ((name, arguments),) = calls_of(found)
    assert name == "count"
    assert json.loads(arguments)["n"] in (1, 2, 3)


def test_none_and_no_tools_keep_it_from_calling(caller: Engine) -> None:
    for fields in ({"tools": [tool("f")], "tool_choice": "none"}, {}):
        choice = ask(caller, "hermes", **fields).json["choices"][0]
        assert choice["finish_reason"] == "stop"
        assert "tool_calls" not in choice["message"]


def test_a_call_of_a_tool_that_was_not_given_is_text(caller: Engine) -> None:
    choice = ask(caller, "hermes", tools=[tool("g")]).json["choices"][0]
    assert choice["message"]["content"].startswith('<tool_call>\n{"name": "f"')
    assert choice["finish_reason"] == "stop"


def test_the_tools_are_in_the_prompt_unless_none_is_to_be_called(caller: Engine) -> None:
    def prompted(**fields: Any) -> int:
        return int(ask(caller, "hermes", **fields).json["usage"]["prompt_tokens"])

    bare = prompted()
    assert prompted(tools=[COUNT]) > bare + 50
    assert prompted(tools=[COUNT], tool_choice="none") == bare
    assert prompted(tools=[COUNT, tool("f")]) > prompted(tools=[COUNT, tool("f")], tool_choice=named("count"))


@pytest.mark.parametrize("model", ["hermes", "mistral"])
def test_a_conversation_goes_on_after_a_call(caller: Engine, model: str) -> None:
    call = {"id": "123456789", "type": "function", "function": {"name": "f", "arguments": '{"a": "x"}'}}
    messages = [
        *said("a"),
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "123456789", "content": "done"},
    ]
    found = post(caller, CHAT, model=model, messages=messages, tools=[tool("f")])
    assert found.status == 200
    assert found.json["usage"]["prompt_tokens"] > 50


def test_an_answer_in_json_or_a_call(caller: Engine) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"const": "yes"}}}
    called = ask(caller, "hermes", tools=[tool("f")], response_format=wanted)
    assert [name for name, _ in calls_of(called)] == ["f"]
    answered = ask(caller, "hermes", tools=[tool("f")], tool_choice="none", response_format=wanted)
    assert answered.json["choices"][0]["message"]["content"] == '"yes"'


ODD = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "not": {}}}}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [tool("f")], "tool_choice": named("h")}, "tool_choice"),
        ({"tools": [tool("f")], "tool_choice": {"type": "allowed_tools"}}, "tool_choice"),
        ({"tools": [tool("f")], "tool_choice": "any"}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [tool("f")], "parallel_tool_calls": "no"}, "parallel_tool_calls"),
        ({"model": "plain", "tools": [tool("f")]}, "tools"),
        ({"tools": [ODD], "tool_choice": "required"}, "tools"),
        *(({"messages": messages}, "messages") for messages in WRONG_MESSAGES),
    ],
    ids=lambda value: str(value)[-60:],
)
def test_what_the_client_got_wrong_is_told(caller: Engine, fields: Any, param: str) -> None:
    found = post(caller, CHAT, **{"model": "hermes", "messages": said("a"), **fields})
    assert (found.status, found.error["param"]) == (400, param)

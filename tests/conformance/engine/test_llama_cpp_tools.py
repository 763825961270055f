"""Tools with llama.cpp, and a model whose template knows them: it calls one."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.conformance.engine.conversations import WRONG_MESSAGES, named, said, tool
from tests.conformance.engine.running import Engine
from tests.conformance.engine.test_llama_cpp import post, serving
from tests.support.gguf import TOOLS_TEMPLATE, write_model

CALL = '<tool_call>\n{"name": "f", "arguments": {"a": "x"}}\n</tool_call>'


@pytest.fixture(scope="module")
def caller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("caller")
    write_model(folder / "tiny.gguf", [CALL], template=TOOLS_TEMPLATE, context=1024)
    with serving("chat", folder, folder, ROUNDHOUSE_CAPACITY="1") as engine:
        engine.until_ready()
        yield engine


@pytest.mark.parametrize("choice", ["auto", "required", named("f")], ids=str)
def test_the_model_calls_a_tool(caller: Engine, choice: Any) -> None:
    tools: list[Any] = [tool("f"), tool("g")]
    with caller.client as client:
        found = client.chat.completions.create(
            model="m", messages=said("a"), temperature=0, tools=tools, tool_choice=choice
        )
    assert found.choices[0].finish_reason == "tool_calls"
    calls = found.choices[0].message.tool_calls
    assert calls is not None
    assert len(calls) == 1
    call = calls[0]
    assert call.type == "function"
    assert (call.function.name, call.function.arguments) == ("f", '{"a": "x"}')


def test_another_tool_that_is_named_keeps_it_from_the_one_it_likes(caller: Engine) -> None:
    tools = [tool("f"), tool("g")]
    found = post(caller, messages=said("a"), tools=tools, tool_choice=named("g"), max_tokens=20)
    assert found.status == 200
    calls = found.json["choices"][0]["message"].get("tool_calls", ())
    assert "f" not in [call["function"]["name"] for call in calls]


def test_a_stream_tells_the_call_in_parts(caller: Engine) -> None:
    tools: list[Any] = [tool("f")]
    with (
        caller.client as client,
        client.chat.completions.create(
            model="m", messages=said("a"), temperature=0, tools=tools, stream=True
        ) as stream,
    ):
        deltas = [chunk.choices[0].delta for chunk in stream]
    parts = [call.function for delta in deltas for call in delta.tool_calls or () if call.function]
    assert "".join(part.name or "" for part in parts) == "f"
    assert "".join(part.arguments or "" for part in parts) == '{"a": "x"}'


def test_a_conversation_goes_on_after_a_call(caller: Engine) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": "x"}'}}
    messages = [
        *said("a"),
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "done"},
    ]
    assert post(caller, messages=messages, tools=[tool("f")]).status == 200


def test_a_tool_that_is_not_there_cannot_be_named(caller: Engine) -> None:
    found = post(caller, messages=said("a"), tools=[tool("f")], tool_choice=named("h"))
    assert (found.status, found.error["param"]) == (400, "tool_choice")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        *(({"messages": messages}, "messages") for messages in WRONG_MESSAGES),
        ({"messages": said("a"), "top_k": "many"}, "top_k"),
        ({"messages": said("a"), "min_p": 2}, "min_p"),
        ({"messages": said("a"), "typical_p": []}, "typical_p"),
        ({"messages": said("a"), "repeat_penalty": 0}, "repeat_penalty"),
        ({"messages": said("a"), "chat_template_kwargs": "x"}, "chat_template_kwargs"),
        ({"messages": said("a"), "chat_template_kwargs": {"messages": []}}, "chat_template_kwargs"),
    ],
    ids=lambda value: str(value)[-50:],
)
def test_what_the_client_got_wrong_is_no_failure_of_the_engine(
    caller: Engine, fields: Any, param: str
) -> None:
    found = post(caller, **fields)
    assert (found.status, found.error["param"]) == (400, param)

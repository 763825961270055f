"""Tools of a conversation: what is none is refused by name, before any model sees it."""

from typing import Any

import pytest

from roundhouse_engine.chat_ask import read_chat, read_completion
from roundhouse_engine.errors import EngineError
from roundhouse_engine.json_body import Fields
from tests.conformance.engine.text_handlers import Caller

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def read(**fields: Any) -> Any:
    asked = {"model": "m", "messages": [{"role": "user", "content": "a"}]} | fields
    return read_chat(Fields(asked), Caller, ("m",)).told


def test_tools_are_passed_on_as_they_came() -> None:
    named = {"type": "function", "function": {"name": "f"}}
    told = read(tools=[TOOL], tool_choice=named)
    assert (told["tools"], told["tool_choice"]) == ([TOOL], "required")
    assert read(tools=[], tool_choice="auto")["tools"] == []


@pytest.mark.parametrize(
    ("fields", "param", "told"),
    [
        ({"tools": [1]}, "tools", "tools[0]"),
        ({"tools": "f"}, "tools", "list"),
        ({"tools": [TOOL, {"function": {"name": "f"}}]}, "tools", "tools[1]"),
        ({"tools": [TOOL, TOOL]}, "tools", "tools[1].function.name"),
        ({"tools": [{"type": "function"}]}, "tools", "name"),
        ({"tools": [{"type": "function", "function": {"name": 5}}]}, "tools", "name"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": 5}}]}, "tools", "schema"),
        ({"tools": [TOOL], "tool_choice": "maybe"}, "tool_choice", "'maybe'"),
        ({"tools": [TOOL], "tool_choice": [[0] * 1000]}, "tool_choice", "a list of 1"),
        ({"tool_choice": "required"}, "tool_choice", "no tools"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_what_is_no_tool_is_named(fields: Any, param: str, told: str) -> None:
    with pytest.raises(EngineError) as caught:
        read(**fields)
    assert (caught.value.problem.status, caught.value.problem.param) == (400, param)
    assert told in caught.value.problem.message


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"stream": True, "stream_options": {"include_usage": "x"}}, "stream_options.include_usage"),
        ({"response_format": {"type": 5}}, "response_format.type"),
        ({"response_format": {"type": "json_schema", "json_schema": "x"}}, "response_format.json_schema"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "tool", "content": "x", "tool_call_id": None}]}, "messages[0].tool_call_id"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_field_within_another_is_named_whole(fields: Any, param: str) -> None:
    with pytest.raises(EngineError) as caught:
        read(**fields)
    assert (caught.value.problem.status, caught.value.problem.param) == (400, param)
    assert caught.value.problem.message.startswith(param)


@pytest.mark.parametrize(
    ("said", "meant"), [(None, None), (0, 0.0), (1e-38, 0.0), (9e-6, 0.0), (1e-5, 1e-5), (2, 2.0)]
)
def test_a_temperature_that_nothing_can_be_divided_by_is_none(
    said: float | None, meant: float | None
) -> None:
    assert read(temperature=said)["options"]["temperature"] == meant


@pytest.mark.parametrize("stop", [0, False, {}, 1.5, [5], ""])
def test_what_is_no_stop_sequence_is_refused(stop: Any) -> None:
    with pytest.raises(EngineError, match="stop must be a text or a list") as caught:
        read(stop=stop)
    assert caught.value.problem.param == "stop"
    assert read(stop=None)["options"]["stop"] == read(stop=[])["options"]["stop"] == ()


def test_of_log_probabilities_it_tells_none() -> None:
    def completed(logprobs: object) -> None:
        read_completion(Fields({"model": "m", "prompt": "a", "logprobs": logprobs}), Caller, ("m",))

    completed(None)
    completed(False)
    for wanted in (0, 1):
        with pytest.raises(EngineError, match="leave out logprobs"):
            completed(wanted)


def test_what_is_null_is_not_said_to_be_missing() -> None:
    for message, said in (({}, "is missing"), ({"content": None}, "must not be null")):
        with pytest.raises(EngineError, match=rf"messages\[0\]\.content {said}\."):
            read(messages=[{"role": "user"} | message])

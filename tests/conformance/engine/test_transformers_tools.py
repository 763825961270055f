"""Tools with the transformers engine: models that call them as their families do, and their templates."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from roundhouse_engine import Cancellation
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
LLAMA = (
    '{% for t in tools %}"parameters": dictionary {{ t | tojson }}{% endfor %}'
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}<says>"
)
IN_JSON = ('{"name"', ': "f", "parameters"', ': {"a": "x"}}')
SPELT = ("Well. <tool", '_call>\n{"', 'name": "f", "arguments"', ': {"a"', ": 1}}", "\n</tool_call>")
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
        "llama": tiny.write_speaker(folder / "llama", IN_JSON, template=LLAMA, length=2048),
        "speller": tiny.write_speaker(folder / "speller", SPELT, template=HERMES, length=2048),
        "plain": tiny.write_speaker(folder / "plain", ["Hi."]),
        "thinker": tiny.write_speaker(folder / "thinker", ("I see.\n\n", *CALL, " So."), **hermes),
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


@pytest.mark.parametrize(
    ("stop", "wanted", "calls", "tokens"),
    [
        (None, ("I see.\n\n So.", "tool_calls"), 1, 9),
        (["\n\n"], ("I see.", "stop"), 0, 1),
        ([" So"], ("I see.", "tool_calls"), 1, 8),
    ],
    ids=["none", "blanks before the call", "a blank after it"],
)
def test_texts_around_a_call_stay_apart_and_end_at_stop_sequences(
    caller: Engine, stop: Any, wanted: tuple[str, str], calls: int, tokens: int
) -> None:
    told: dict[str, Any] = {"model": "thinker", "messages": said("a"), "temperature": 0, "stop": stop}
    whole = post(caller, CHAT, **told, tools=[tool("f")])
    choice = whole.json["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == wanted
    assert len(calls_of(whole)) == calls
    assert whole.json["usage"]["completion_tokens"] == tokens
    options: dict[str, Any] = {"tools": [tool("f")], "stream_options": {"include_usage": True}}
    with caller.client as client, client.chat.completions.stream(**told, **options) as stream:
        found = stream.get_final_completion()
    assert (found.choices[0].message.content, found.choices[0].finish_reason) == wanted
    assert len(found.choices[0].message.tool_calls or ()) == calls
    assert found.usage is not None
    assert found.usage.to_dict() == whole.json["usage"]


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


def strict(name: str, parameters: Any = PARAMETERS) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters, "strict": True}}


@pytest.mark.parametrize("model", ["hermes", "llama", "speller"])
def test_who_may_call_a_strict_tool_calls_it_with_what_it_takes(caller: Engine, model: str) -> None:
    """Though each of these models would rather say something else, and does where the tool is not strict."""
    loose = calls_of(ask(caller, model, tools=[tool("f")]))
    assert [json.loads(arguments) for _, arguments in loose] != [{"n": 1}]
    told: Any = {"messages": said("a"), "tools": [strict("f")], "parallel_tool_calls": False}
    for options in ({"temperature": 0}, {"temperature": 0.3, "seed": 4}):
        ((name, arguments),) = calls_of(post(caller, CHAT, model=model, **told, **options))
        assert name == "f"
        assert json.loads(arguments)["n"] in (1, 2, 3)
        with (
            caller.client as client,
            client.chat.completions.stream(model=model, **told, **options) as stream,
        ):
            streamed = stream.get_final_completion().choices[0]
        assert streamed.finish_reason == "tool_calls"
        assert streamed.message.tool_calls
        assert streamed.message.tool_calls[0].function.arguments == arguments


def test_who_may_call_a_strict_tool_may_also_speak(caller: Engine) -> None:
    choice = ask(caller, "talker", tools=[strict("f")]).json["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("I would rather not.", "stop")


class Saying:
    """A model of this family with the tools `f`, which is strict, and `g`; it says what it is told to."""

    def __init__(self, folder: Path, family: Any) -> None:
        from roundhouse_transformers import families, grammar, strictly  # noqa: PLC0415 - see `caller`
        from tests.support import tiny_models as tiny  # noqa: PLC0415

        family = getattr(families, family)
        tokens = tiny.write_byte_tokenizer(folder, template=HERMES, length=99, marks=family.marks)
        ids = dict(zip(family.marks, tokens.convert_tokens_to_ids(list(family.marks)), strict=True))
        told = families.grammar_of_strict_calls(family, [strict("f"), tool("g")], ids, parallel=True)
        call = grammar.Grammars(tokens, len(tokens), [2]).hold(told, "tools", Cancellation())
        self._held = strictly.HeldCalls(call, family, {token: mark for mark, token in ids.items()})
        self._tokens = tokens

    def may(self, token: int) -> bool:
        allowed = self._held.allowed("cpu")
        return (allowed is None or bool(allowed[token])) and self._held.fits(token)

    def says(self, text: str, *, but_never: str = "") -> None:
        import torch  # noqa: PLC0415 - see `caller`

        for token in self._tokens(text)["input_ids"]:
            assert self.may(token), (text, self._tokens.convert_ids_to_tokens(token))
            self._held.should_end(torch.tensor([[token]]), None)
        for letter in but_never:
            assert not self.may(self._tokens(letter)["input_ids"][0]), letter


def test_each_of_several_calls_is_held(tmp_path: Path) -> None:
    model = Saying(tmp_path, "HERMES")
    model.says("Look: {")
    for number in ("1", "3"):
        model.says('<tool_call>\n{"name": "f", "arguments": {"', but_never="aN}")
        model.says(f'n": {number}', but_never="14")
        model.says("}}\n</tool_call> And {")
    model.says('<tool_call>\n{"name": "g", "arguments": {"any": [1', but_never="}")
    model.says("]}}\n</tool_call>")


def test_of_a_list_each_call_is_held_and_none_comes_after_it(tmp_path: Path) -> None:
    model = Saying(tmp_path, "MISTRAL")
    model.says('{"[TOOL_CALLS][{"name": "f", "arguments": {"', but_never="a")
    model.says('n": 1}}, {"name": "f", "arguments": {"n": ', but_never="4")
    model.says("2}}]", but_never="{")
    model.says(" ;", but_never="{")
    model.says(" That is {")


def test_a_call_without_a_mark_is_held_from_its_brace_on(tmp_path: Path) -> None:
    (calls, speaks) = (Saying(tmp_path / "calls", "LLAMA"), Saying(tmp_path / "speaks", "LLAMA"))
    calls.says('<|python_tag|> {"name": "f", "parameters": {"', but_never="a")
    calls.says('n": 2}}; {"name": "', but_never="x")
    speaks.says('So {"name": "f", "parameters": {"a": 1')


ODD: Any = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "not": {}}}}


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
        ({"tools": [{**ODD, "function": {**ODD["function"], "strict": True}}]}, "tools"),
        ({"tools": [{**ODD, "function": {**ODD["function"], "strict": "yes"}}]}, "tools"),
        *(({"messages": messages}, "messages") for messages in WRONG_MESSAGES),
    ],
    ids=lambda value: str(value)[-60:],
)
def test_what_the_client_got_wrong_is_told(caller: Engine, fields: Any, param: str) -> None:
    found = post(caller, CHAT, **{"model": "hermes", "messages": said("a"), **fields})
    assert (found.status, found.error["param"]) == (400, param)

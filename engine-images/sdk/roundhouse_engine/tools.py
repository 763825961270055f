"""The tools of a request, and which of them are to be called: OpenAI's fields, checked."""

from collections.abc import Sequence
from typing import Any

from roundhouse_engine.errors import invalid
from roundhouse_engine.json_body import Fields
from roundhouse_engine.showing import shown


def read_tools(fields: Fields) -> dict[str, Any]:
    """`tools`, `tool_choice` and `parallel_tool_calls` as handlers get them; raises `EngineError`.

    A function that is named is the only tool, is required, and called once.
    """
    tools = fields.items("tools")
    names: dict[str, int] = {}
    for at, tool in enumerate(tools):
        _check(at, tool)
        name = tool["function"]["name"]
        if (first := names.setdefault(name, at)) != at:
            raise invalid(
                f"tools[{at}].function.name is {shown(name)}, as that of tools[{first}] is: calls of the two "
                "could not be told apart. Give each a name of its own.",
                param="tools",
            )
    choice = fields.values.get("tool_choice")
    parallel = fields.flag("parallel_tool_calls") if fields.given("parallel_tool_calls") else None
    if isinstance(choice, dict):
        tools, choice, parallel = [_named(tools, choice)], "required", False
    if choice not in (None, "none", "auto", "required"):
        message = f"tool_choice must be none, auto, required or an object, not {shown(choice)}."
        raise invalid(message, param="tool_choice")
    if not tools and choice == "required":
        raise invalid("tool_choice asks for a tool, and there are no tools.", param="tool_choice")
    return {"tools": tools, "tool_choice": choice, "parallel_tool_calls": parallel}


def _check(at: int, tool: object) -> None:
    if not isinstance(tool, dict) or tool.get("type") != "function":
        raise invalid(f"tools[{at}] must be an object with type 'function'.", param="tools")
    function = tool.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise invalid(f"tools[{at}].function must be an object with a name.", param="tools")
    if not isinstance(function.get("parameters"), dict | None):
        raise invalid(f"tools[{at}].function.parameters must be a JSON schema.", param="tools")
    if not isinstance(function.get("strict"), bool | None):
        raise invalid(f"tools[{at}].function.strict must be true or false.", param="tools")


def _named(tools: Sequence[dict[str, Any]], choice: dict[str, Any]) -> dict[str, Any]:
    if choice.get("type") != "function":
        raise invalid(
            f"tool_choice.type must be function, not {shown(choice.get('type'))}.",
            param="tool_choice",
            code="unsupported_value",
        )
    function = choice.get("function")
    name = function.get("name") if isinstance(function, dict) else None
    for tool in tools:
        if isinstance(name, str) and tool["function"]["name"] == name:
            return tool
    raise invalid(f"tool_choice must name one of the tools, not {shown(name)}.", param="tool_choice")

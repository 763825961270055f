"""What clients of chat send, rightly and wrongly, in the tests of all engines that chat."""

from typing import Any, Final


def said(text: str, role: str = "user") -> list[Any]:
    return [{"role": role, "content": text}]


def tool(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}


def named(name: str) -> dict[str, Any]:
    """The choice of this tool."""
    return {"type": "function", "function": {"name": name}}


def assistant(calls: Any) -> list[Any]:
    """A conversation in which the model has made these calls."""
    return [*said("a"), {"role": "assistant", "tool_calls": calls}, *said("b")]


_NO_JSON: Final = {"type": "function", "function": {"name": "f", "arguments": "no"}}
WRONG_MESSAGES: Final[tuple[list[Any], ...]] = (
    assistant([1]),
    assistant("x"),
    assistant([{}]),
    assistant([_NO_JSON]),
    [said("a")[0] | {"name": {}}],
    [*said("a"), {"role": "tool", "content": "x", "tool_call_id": 5}],
)
"""Each is refused for its `messages`."""

"""Fills the model's own template with a conversation, and with variables that the client sets for it.

The library takes a template's variables and its own parameters in one list of arguments: another template,
padding to any length. Only variables pass here. A template is a program, which may run for years on some of
them; it is ended when its request is over, or has had its share of the processor.
"""

import inspect
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Any, Final

import jinja2
from transformers.utils.chat_template_utils import render_jinja_template

from roundhouse_engine import Cancellation, ModelError
from roundhouse_engine.errors import EngineError, invalid
from roundhouse_engine.showing import shown

_SECONDS: Final = 5.0
"""Of the processor: the longest conversations take a hundredth of it."""
_LOOK: Final = 256
"""Lines of Python between two looks at the clock."""
_MOST: Final = 1_000_000
"""Of a number that a client sets: what a single step does with a larger one may take any time."""
_FAULTS: Final = (
    jinja2.TemplateError,
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    MemoryError,
)
"""Templates refuse orders of roles that the model was not made for, or stumble over them."""


class Template:
    """Of one tokenizer; several threads may fill it at once."""

    def __init__(self, tokenizer: Any) -> None:  # noqa: ANN401 - has no types
        self._fill = tokenizer.apply_chat_template
        takes = (self._fill, render_jinja_template)
        self._not_variables = {name for each in takes for name in inspect.signature(each).parameters}
        self._not_variables |= {"self", "messages"}
        self._knows_developers = "developer" in str(tokenizer.chat_template)

    def check(self, name: str) -> None:
        """Raises `ModelError` where the template is no program; what it makes of one conversation is open."""
        try:
            with _Watch(Cancellation()):
                self._fill([{"role": "user", "content": "."}], tokenize=False)
        except jinja2.TemplateSyntaxError as error:
            raise ModelError(
                f"{name!r}: its template for conversations cannot be read, line {error.lineno}: "
                f"{error.message}. Its files may be damaged: fetch them again."
            ) from error
        except (*_FAULTS, EngineError):
            return

    def fill(
        self,
        messages: Sequence[Mapping[str, Any]],
        variables: object,
        cancellation: Cancellation,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> str:
        """The text of the conversation, up to where the model goes on; raises `EngineError`."""
        chosen = self._checked(variables)
        told = [_with_calls(self._known(message)) for message in messages]
        if tools:
            chosen = {**chosen, "tools": list(tools)}
        try:
            with _Watch(cancellation):
                return str(self._fill(told, tokenize=False, add_generation_prompt=True, **chosen))
        except _FAULTS as error:
            message = f"The model's template cannot be filled with these messages: {error}"
            raise invalid(message, param="messages") from error

    def _known(self, message: Mapping[str, Any]) -> Mapping[str, Any]:
        """As OpenAI means it, who develops is the system; a template would leave out a role that it lacks."""
        if message["role"] != "developer" or self._knows_developers:
            return message
        return {**message, "role": "system"}

    def _checked(self, variables: object) -> dict[str, Any]:
        if variables is None:
            return {}
        if not isinstance(variables, dict):
            raise invalid("chat_template_kwargs must be an object.", param="chat_template_kwargs")
        for name, value in variables.items():
            if name in self._not_variables:
                raise invalid(
                    f"chat_template_kwargs sets variables of the model's template, and {shown(name)} cannot "
                    "be set. Leave it out.",
                    param="chat_template_kwargs",
                    code="unsupported_value",
                )
            if _has_large_number(value):
                raise invalid(
                    f"chat_template_kwargs sets {shown(name)} to a number of more than {_MOST:,}. "
                    "Make it smaller.",
                    param="chat_template_kwargs",
                )
        return variables


def _with_calls(message: Mapping[str, Any]) -> dict[str, Any]:
    """Templates want the arguments of an assistant's calls as objects, and a content in any case."""
    told = {**message, "content": message.get("content") or ""}
    if calls := message.get("tool_calls"):
        told["tool_calls"] = [
            call | {"function": call["function"] | {"arguments": _arguments(call["function"])}}
            for call in calls
        ]
    return told


def _arguments(function: Mapping[str, Any]) -> dict[str, Any]:
    text = function["arguments"]
    try:
        said = json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise invalid(
            f"The arguments of a call of {shown(function['name'])} must be a JSON object, not {shown(text)}.",
            param="messages",
        )
    return said


def _has_large_number(value: object) -> bool:
    if isinstance(value, dict):
        return any(map(_has_large_number, value.values()))
    if isinstance(value, list):
        return any(map(_has_large_number, value))
    return isinstance(value, (int, float)) and not abs(value) <= _MOST


class _Watch:
    """Within it, this thread's Python ends when the request is over or the template takes too long.

    Python tells a tracing function of each line, loops with nothing in them included. Nothing else reaches
    into a template that neither calls nor writes anything.
    """

    def __init__(self, cancellation: Cancellation) -> None:
        self._cancellation = cancellation
        self._lines = 0

    def __enter__(self) -> None:
        self._before: Callable[..., Any] | None = sys.gettrace()
        self._end = time.thread_time() + _SECONDS
        sys.settrace(self._see)

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _see(self, _frame: FrameType, _event: str, _told: object) -> Callable[..., Any]:
        self._lines += 1
        if self._lines % _LOOK == 0:
            self._cancellation.check()
            if time.thread_time() > self._end:
                raise invalid(
                    f"The model's template was not filled with these messages after {_SECONDS:g} s of "
                    "computing. Send fewer messages, or other chat_template_kwargs.",
                    param="messages",
                )
        return self._see

"""How a kind of models writes its calls of tools, as its template tells: Hermes (Qwen), Llama 3, Mistral."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from roundhouse_transformers.grammar import check_size, inlined

BETWEEN: Final = " \r\n\t,;"
"""What may stand between calls."""
_OF_LLAMA: Final = ("<|python_tag|>", '"parameters": dictionary')
_IN_XML: Final = "<function="
"""As Qwen3-Coder writes a call: its values have no types."""


@dataclass(frozen=True, slots=True)
class Family:
    """Of calls such as `opening {"name": "f", "arguments": {}} closing`."""

    opening: str
    """Empty: an answer that begins with a brace is a call."""
    closing: str
    arguments: str
    """What a call names its arguments."""
    listed: bool = False
    """Whether one opening stands before a list of calls."""
    named: str = ""
    """What stands between a function's bare name and its arguments, where a call is no JSON object."""
    gap: str = ""
    """What the model writes within opening and closing."""
    ignored: tuple[str, ...] = ()
    """Marks that say nothing more."""

    @property
    def marks(self) -> tuple[str, ...]:
        """What may be a token of its own that other texts are shown without."""
        return tuple(filter(None, (self.opening, self.closing, self.named, *self.ignored)))

    def unmarked(self, text: str) -> str:
        """Without such marks at its beginning: what stands in a call's arguments is the model's to say."""
        while found := next((mark for mark in self.ignored if text.startswith(mark)), None):
            text = text[len(found) :].lstrip()
        return text


HERMES: Final = Family("<tool_call>", "</tool_call>", "arguments", gap="\n")
LLAMA: Final = Family("", "", "parameters", ignored=("<|python_tag|>",))
MISTRAL: Final = Family("[TOOL_CALLS]", "", "arguments", listed=True)
MISTRAL_NAMED: Final = Family("[TOOL_CALLS]", "", "arguments", named="[ARGS]")


def family_of(template: str) -> Family | None:
    """What calls of a model with this template look like; None where it knows none, or of another kind."""
    if not re.search(r"\btools\b", template) or _IN_XML in template:
        return None
    if HERMES.opening in template:
        return HERMES
    if MISTRAL.opening in template:
        return MISTRAL_NAMED if MISTRAL_NAMED.named in template else MISTRAL
    return LLAMA if any(each in template for each in _OF_LLAMA) else None


def grammar_of_calls(
    family: Family,
    tools: Sequence[Mapping[str, Any]],
    marks: Mapping[str, int],
    *,
    parallel: bool,
    answer: Mapping[str, Any] | None,
) -> str:
    """Calls of these tools, one or (`parallel`) several; or, where there is a schema, such an `answer`.

    An answer needs a family with an opening: what begins with a brace is read as a call of the others.

    `marks`: tokens of those marks that the tokenizer has as such. Raises `EngineError`.
    """
    check_size(tools, "tools")
    opening, gap = _mark(family.opening, marks), _text(family.gap)
    calls = whole = f"{opening} {_after_opening(family, len(tools), marks, parallel=parallel)}"
    if parallel and opening and not family.listed:
        calls = f"{whole} ({gap} {whole})*"
    rules = [f"calls: {calls}", *(f"call{at}: {_call(family, tool, marks)}" for at, tool in enumerate(tools))]
    if answer is None:
        return _grammar("calls", rules)
    return _grammar("calls | answer", [*rules, f"answer: %json {inlined(answer, 'response_format')}"])


def grammar_of_strict_calls(
    family: Family, tools: Sequence[Mapping[str, Any]], marks: Mapping[str, int], *, parallel: bool
) -> str:
    """What follows an opening mark: a call of one of these tools, or a list where the family has lists.

    The arguments of those that are not `strict` are any. Raises `EngineError`.
    """
    held = [tool if is_strict(tool) else {"function": {"name": tool["function"]["name"]}} for tool in tools]
    check_size(held, "tools")
    rules = [f"call{at}: {_call(family, tool, marks)}" for at, tool in enumerate(held)]
    return _grammar(_after_opening(family, len(held), marks, parallel=parallel), rules)


def is_strict(tool: Mapping[str, Any]) -> bool:
    """Whether the client wants calls of it to be as its schema says."""
    return tool["function"].get("strict") is True


def _grammar(start: str, rules: Sequence[str]) -> str:
    return "\n".join(["%llguidance {}", f"start: {start}", *rules])


def _after_opening(family: Family, count: int, marks: Mapping[str, int], *, parallel: bool) -> str:
    """One of so many calls, or a list of them, and what closes it."""
    one = f"({' | '.join(f'call{at}' for at in range(count))})"
    if family.listed:
        more = f'(", " {one})*' if parallel else ""
        return f'"[" {one} {more} "]"'
    gap = _text(family.gap)
    return f"{gap} {one} {gap} {_mark(family.closing, marks)}"


def _call(family: Family, tool: Mapping[str, Any], marks: Mapping[str, int]) -> str:
    function = tool["function"]
    wanted = function.get("parameters") or {}
    if not {"type", "$ref", "anyOf", "allOf", "oneOf"} & set(wanted):
        wanted = {"type": "object"} | wanted
    schema = inlined(wanted, "tools")
    if family.named:
        return f"{_text(function['name'])} {_mark(family.named, marks)} %json {schema}"
    head = f'{{"name": {json.dumps(function["name"], ensure_ascii=False)}, "{family.arguments}": '
    return f'{_text(head)} %json {schema} "}}"'


def _mark(mark: str, marks: Mapping[str, int]) -> str:
    return f"<[{marks[mark]}]>" if mark in marks else _text(mark)


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if text else ""

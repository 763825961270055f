"""How a kind of models writes its calls of tools, as its template tells: Hermes (Qwen), Llama 3, Mistral."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from roundhouse_transformers.grammar import check_size, inlined

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
    rules = [f"call{at}: {_call(family, tool, marks)}" for at, tool in enumerate(tools)]
    one = f"({' | '.join(f'call{at}' for at in range(len(tools)))})"
    opening, closing = _mark(family.opening, marks), _mark(family.closing, marks)
    gap = _text(family.gap)
    if family.listed:
        more = f'(", " {one})*' if parallel else ""
        calls = f'{opening} "[" {one} {more} "]"'
    else:
        whole = f"{opening} {gap} {one} {gap} {closing}"
        more = f"({gap} {whole})*" if parallel and opening else ""
        calls = f"{whole} {more}"
    start = "calls" if answer is None else "calls | answer"
    if answer is not None:
        rules.append(f"answer: %json {inlined(answer, 'response_format')}")
    return "\n".join(["%llguidance {}", f"start: {start}", f"calls: {calls}", *rules])


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

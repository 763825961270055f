"""What of a request is refused before llama.cpp sees it: it would crash of it, or pass it over.

Its parser of grammars calls itself for each parenthesis, and the end of the stack is the end of the engine,
with everybody's requests. Its tokenizers do so for each character, and some take a time that grows with the
square of a text's length, in which nobody can stop them. What is merely wrong it refuses itself.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from roundhouse_engine.errors import EngineError, invalid
from roundhouse_engine.json_body import Fields

_GRAMMAR_BYTES: Final = 64 << 10
_GRAMMAR_GROUPS: Final = 2000
"""It survives ten times as many. How deep they are is not asked, because quotes could hide it."""
_SCHEMA_BYTES: Final = 128 << 10
"""A schema becomes a grammar, in a time that grows faster than the schema."""
_SCHEMA_OPTIONAL: Final = 500
"""Of one object: each becomes rules that name all those after it. 800 take two seconds, 2,000 a minute."""
_BYTES: Final = 16
"""For each token of the context: prose has four or five, and up to ten where a letter takes three."""
_MOST_BYTES: Final = 1 << 20
"""However long the context is: the stack of a thread that reads them takes half a GiB."""
_NOT_VARIABLES: Final = {"messages", "tools", "add_generation_prompt"}
"""Of a template: what the request itself says, which llama.cpp would let these replace."""


def most_bytes(context_tokens: int) -> int:
    """As many as are read of a text for a model of that context."""
    return min(context_tokens * _BYTES, _MOST_BYTES)


def check_length(text: str, context_tokens: int, param: str | None) -> None:
    """Raises `EngineError` where it would take long to learn that there are too many tokens.

    By bytes: a tokenizer that knows no word of the text begins with them.
    """
    length, most = len(text.encode(errors="surrogatepass")), most_bytes(context_tokens)
    if length > most:
        raise invalid(
            f"The prompt is {length} bytes long; at most {most} are read where the context is of "
            f"{context_tokens} tokens. Send less, or give the engine a longer context.",
            param=param,
            code="context_length_exceeded",
        )


def check_tokens(tokens: int, context_tokens: int, param: str) -> None:
    """Raises `EngineError` where there are more than the model takes."""
    if tokens > context_tokens:
        raise too_many(tokens, context_tokens, param)


def too_many(tokens: object, context_tokens: object, param: str | None) -> EngineError:
    return invalid(
        f"The prompt is {tokens} tokens long, and the model takes {context_tokens}. Send less, or give the "
        "engine a longer context.",
        param=param,
        code="context_length_exceeded",
    )


def texts(told: object) -> Iterator[str]:
    """All that are in JSON, but for names of fields."""
    waiting = [told]
    while waiting:
        each = waiting.pop()
        if isinstance(each, str):
            yield each
        elif isinstance(each, Mapping):
            waiting.extend(each.values())
        elif isinstance(each, list | tuple):
            waiting.extend(each)


def check_extensions(extensions: Mapping[str, Any]) -> None:
    """Raises `EngineError` where one of them is not what llama.cpp reads, which takes it for its default."""
    fields = Fields(extensions)
    fields.integer("top_k", -1, 1 << 20)  # neither 0 nor -1, as vLLM has it, leaves any out
    fields.number("min_p", 0, 1)
    fields.number("typical_p", 0, 1)
    fields.number("repeat_penalty", 0.01, 100)
    chosen = fields.object("chat_template_kwargs")
    if taken := sorted(_NOT_VARIABLES & chosen.values.keys()):
        raise invalid(
            f"chat_template_kwargs sets variables of the model's template, and {taken[0]!r} cannot be set. "
            "Leave it out.",
            param="chat_template_kwargs",
            code="unsupported_value",
        )


def check_grammar(extensions: Mapping[str, Any], response_format: object) -> None:
    """Raises `EngineError` where the grammar is none, or too large."""
    grammar = extensions.get("grammar")
    if grammar is None:
        return
    if not isinstance(grammar, str) or "\0" in grammar:  # it would read no further
        raise invalid("grammar must be a text in GBNF.", param="grammar")
    if len(grammar.encode()) > _GRAMMAR_BYTES or grammar.count("(") > _GRAMMAR_GROUPS:
        message = f"grammar must be at most {_GRAMMAR_BYTES} bytes and {_GRAMMAR_GROUPS} groups. Simplify it."
        raise invalid(message, param="grammar")
    if response_format is not None:
        raise invalid("grammar and response_format exclude each other: send one of them.", param="grammar")


def check_schema(param: str, told: object) -> None:
    """Raises `EngineError` where schemas are larger than a grammar can be made of in time."""
    if not told:
        return
    if len(json.dumps(told)) > _SCHEMA_BYTES:
        raise invalid(f"{param} must be at most {_SCHEMA_BYTES} bytes of JSON. Simplify it.", param=param)
    if (most := max(map(_optional, _objects(told)), default=0)) > _SCHEMA_OPTIONAL:
        raise invalid(
            f"{param} has an object of {most} properties that are not required; at most {_SCHEMA_OPTIONAL} "
            "are taken. Require some, or divide it.",
            param=param,
        )


def _optional(schema: Mapping[str, Any]) -> int:
    properties, required = schema.get("properties"), schema.get("required")
    if not isinstance(properties, dict):
        return 0
    named = [name for name in required if isinstance(name, str)] if isinstance(required, list) else []
    return len(properties.keys() - named)


def _objects(told: object) -> Iterator[Mapping[str, Any]]:
    waiting = [told]
    while waiting:
        each = waiting.pop()
        if isinstance(each, Mapping):
            yield each
            waiting.extend(each.values())
        elif isinstance(each, list | tuple):
            waiting.extend(each)

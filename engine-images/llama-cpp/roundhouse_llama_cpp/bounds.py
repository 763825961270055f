"""What of a request is refused before llama.cpp sees it: it would crash of it, or pass it over.

Its parser of grammars calls itself for each parenthesis, and the end of the stack is the end of the engine,
with everybody's requests. What is merely wrong it refuses itself.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from roundhouse_engine.errors import invalid
from roundhouse_engine.json_body import Fields

_GRAMMAR_BYTES: Final = 64 << 10
_GRAMMAR_GROUPS: Final = 2000
"""It survives ten times as many. How deep they are is not asked, because quotes could hide it."""
_SCHEMA_BYTES: Final = 128 << 10
"""A schema becomes a grammar, in a time that grows faster than the schema."""


def check_extensions(extensions: Mapping[str, Any]) -> None:
    """Raises `EngineError` where one of them is not what llama.cpp reads, which takes it for its default."""
    fields = Fields(extensions)
    fields.integer("top_k", -1, 1 << 20)  # neither 0 nor -1, as vLLM has it, leaves any out
    fields.number("min_p", 0, 1)
    fields.number("typical_p", 0, 1)
    fields.number("repeat_penalty", 0.01, 100)
    fields.object("chat_template_kwargs")


def check_grammar(extensions: Mapping[str, Any], response_format: object) -> None:
    """Raises `EngineError` where the grammar is none, or too large."""
    grammar = extensions.get("grammar")
    if grammar is None:
        return
    if not isinstance(grammar, str):
        raise invalid("grammar must be a text in GBNF.", param="grammar")
    if len(grammar.encode()) > _GRAMMAR_BYTES or grammar.count("(") > _GRAMMAR_GROUPS:
        message = f"grammar must be at most {_GRAMMAR_BYTES} bytes and {_GRAMMAR_GROUPS} groups. Simplify it."
        raise invalid(message, param="grammar")
    if response_format is not None:
        raise invalid("grammar and response_format exclude each other: send one of them.", param="grammar")


def check_schema(param: str, told: object) -> None:
    """Raises `EngineError` where schemas are larger than a grammar can be made of in time."""
    if told and len(json.dumps(told)) > _SCHEMA_BYTES:
        raise invalid(f"{param} must be at most {_SCHEMA_BYTES} bytes of JSON. Simplify it.", param=param)

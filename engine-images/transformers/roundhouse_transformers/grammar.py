"""Holds what a model writes to a grammar: before each token, which of all tokens may come next.

llguidance reads a grammar as far as the text has come, so most are ready in milliseconds. What takes long all
the same is bounded: by the size of a schema, by what in it is dear, and by a time, after which the request is
refused, as `Readings` says.
"""

import json
import threading
from collections.abc import Collection, Iterator, Mapping
from decimal import Decimal
from functools import cached_property
from typing import Any, Final

import numpy as np
import torch
from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from roundhouse_engine import Cancellation
from roundhouse_engine.errors import invalid
from roundhouse_transformers.reading import SECONDS, Readings

_SCHEMA_BYTES: Final = 64 << 10
"""Two thousand properties, which take two seconds."""
_MULTIPLES: Final = 10_000
"""The sum of all `multipleOf`: each becomes as many states of an automaton, in a time of its square."""
_SPACE: Final = r"( |\r?\n( {0,40}|\t{0,10}))"
"""Between the marks of JSON, as people and models indent; one that is lost would write blanks for ever."""
_SAID: Final = 200
"""Characters of what a library says of a fault: some tell all that they hold."""
_LIMITS: Final = LLParserLimits(verbose_errors=False)


def json_grammar(schema: Mapping[str, Any], param: str) -> str:
    """The grammar of the JSON that the schema allows; raises `EngineError` for one that is too large."""
    try:
        return str(LLMatcher.grammar_from_json_schema(inlined(schema, param)))
    except ValueError as error:  # a number that is none in JSON
        raise invalid(f"{param} holds no JSON schema: {error}", param=param) from error


def inlined(schema: Mapping[str, Any], param: str) -> str:
    """The schema as a grammar holds it within itself, to be heeded whole. Raises `EngineError`, as above."""
    check_size(schema, param)
    return json.dumps({**schema, "x-guidance": {"whitespace_pattern": _SPACE, "lenient": False}})


def check_size(schemas: object, param: str) -> None:
    """Raises `EngineError` where reading them would take long."""
    if len(json.dumps(schemas)) > _SCHEMA_BYTES:
        raise invalid(f"{param} must be at most {_SCHEMA_BYTES} bytes of JSON. Simplify it.", param=param)
    if sum(_multiples(schemas)) > _MULTIPLES:
        raise invalid(f"{param}: all multipleOf may add up to {_MULTIPLES}. Leave them out.", param=param)


def _multiples(schema: object) -> Iterator[int]:
    if isinstance(schema, dict):
        value = schema.get("multipleOf")
        if type(value) in (int, float):
            yield int("".join(map(str, Decimal(repr(value)).normalize().as_tuple().digits)))
        for each in schema.values():
            yield from _multiples(each)
    elif isinstance(schema, list):
        for each in schema:
            yield from _multiples(each)


def _short(said: object) -> str:
    """A library's words in one line."""
    line = " ".join(str(said).split())
    return line if len(line) <= _SAID else f"{line[:_SAID]}…"


class Grammars:
    """Of one model; several threads may ask it at once."""

    def __init__(self, tokenizer: Any, words: int, ends: Collection[int]) -> None:  # noqa: ANN401 - has no types
        self._hf = tokenizer
        self._words = words
        self._ends = sorted(ends)
        self._making, self._readings = threading.Lock(), Readings(SECONDS)

    def hold(self, grammar: str, param: str, cancellation: Cancellation) -> "Held":
        """What holds one answer to it.

        Raises `EngineError`: 400 with `param` for what cannot be held to, 503 where others are read first.
        """
        with self._making:
            tokenizer = self._tokenizer
        if isinstance(tokenizer, ValueError):
            raise invalid(
                f"This model's answers cannot be held to {param}: its tokenizer is of a kind that is not "
                f"read for that. Leave {param} out, and say in the prompt what you want. "
                f"llguidance says: {_short(tokenizer)}",
                param=param,
                code="unsupported_value",
            ) from tokenizer

        def read() -> Held:
            matcher = LLMatcher(tokenizer, grammar, log_level=0, limits=_LIMITS)
            return Held(matcher, tokenizer, self._words, param)

        held = self._readings.read(read, cancellation)
        if held is None:
            raise invalid(
                f"{param} was not ready to hold an answer to it within {self._readings.seconds:g} s. "
                "Simplify it.",
                param=param,
            )
        return held

    @cached_property
    def _tokenizer(self) -> LLTokenizer | ValueError:
        """Of 150,000 tokens it takes 2 s and 100 MB, also to be refused: once, and where it is asked for."""
        try:
            told = json.loads(self._hf.backend_tokenizer.to_str())
            told |= {"padding": None, "truncation": None}
            known = max(self._words, len(self._hf))
            return LLTokenizer(json.dumps(told), n_vocab=known, eos_token=self._ends or None)
        except ValueError as error:
            return error


class Held:
    """One answer. `take` each token, ask for the `allowed` ones before the next."""

    def __init__(self, matcher: LLMatcher, tokenizer: LLTokenizer, words: int, param: str) -> None:
        self._matcher, self._tokenizer, self._words, self._param = matcher, tokenizer, words, param
        self._next = self._look()

    @property
    def over(self) -> bool:
        """Whether the answer is whole, and nothing can follow."""
        return bool(self._matcher.is_stopped()) and not self._matcher.is_error()

    def allowed(self, device: Any) -> Any:  # noqa: ANN401 - torch has no types here
        """[words], true where the token may come next."""
        return torch.from_numpy(self._next).to(device)

    def should_end(self, tokens: Any, scores: Any, **_: Any) -> Any:  # noqa: ANN401, ARG002 - the library's
        """Takes the token that the library has just written; raises `EngineError`."""
        self._matcher.consume_token(int(tokens[0, -1]))
        if not self.over:
            self._next = self._look()
        return torch.full((tokens.shape[0],), self.over, dtype=torch.bool, device=tokens.device)

    def after(self, said: bytes) -> "Held | None":
        """Another one, which goes on after this; None where it cannot be said."""
        matcher = self._matcher.deep_copy()
        tokens = self._tokenizer.tokenize_bytes(said)
        if matcher.try_consume_tokens(tokens) < len(tokens):
            return None
        return Held(matcher, self._tokenizer, self._words, self._param)

    def spelt(self, token: int) -> bytes:
        """What the token adds to a text."""
        special = token >= self._tokenizer.vocab_size or self._tokenizer.is_special_token(token)
        return b"" if special else self._tokenizer.decode_bytes([token])

    def _look(self) -> Any:  # noqa: ANN401 - of numpy
        bits = b"" if self._matcher.is_error() else self._matcher.compute_bitmask()
        if self._matcher.is_error():
            told = _short(self._matcher.get_error() or "no reason is given")
            raise invalid(
                f"An answer cannot be held to {self._param}. Leave out what is named here, or simplify it. "
                f"llguidance says: {told}",
                param=self._param,
                code="unsupported_value",
            )
        return np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little")[: self._words].astype(bool)

"""Calls of tools in what models write: as each family spells them, and as grammars hold models to them."""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from llguidance import LLMatcher, LLTokenizer
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from roundhouse_engine import Finish, FinishReason, Piece, Prompted
from roundhouse_transformers.calls import Calls, told_calls
from roundhouse_transformers.families import (
    HERMES,
    LLAMA,
    MISTRAL,
    MISTRAL_NAMED,
    Family,
    family_of,
    grammar_of_calls,
)

F = '{"name": "f", "arguments": {"a": "x"}}'
G = '{"name": "g", "arguments": {"b": ["}", {"c": "\\"]"}]}}'
H = '{"name": "h", "arguments": {}}'
A = ("f", '{"a": "x"}')
B = ("g", '{"b": ["}", {"c": "\\"]"}]}')


@dataclass(frozen=True)
class Case:
    id: str
    family: Family
    said: str
    text: str = ""
    calls: Sequence[tuple[str, str]] = ()


CASES = (
    Case("hermes", HERMES, f"<tool_call>\n{F}\n</tool_call>", calls=[A]),
    Case("two", HERMES, f"<tool_call>\n{F}\n</tool_call>\n<tool_call>\n{G}\n</tool_call>", calls=[A, B]),
    Case("text before", HERMES, f"I look.\n\n<tool_call>\n{F}\n</tool_call>", "I look.", [A]),
    Case("text after", HERMES, f"<tool_call>{F}</tool_call>\n So. ", "So. ", [A]),
    Case("between", HERMES, f"I see.\n\n<tool_call>{F}</tool_call> So.", "I see.\n\n So.", [A]),
    Case("between, bare", HERMES, f"I see.<tool_call>{F}</tool_call>So.", "I see.\nSo.", [A]),
    Case("between, two", HERMES, f"Hm\n<tool_call>{F}</tool_call> <tool_call>{G}</tool_call>.",
         "Hm\n .", [A, B]),
    Case("unclosed", HERMES, f"Hm<tool_call>{F}\n So.", "Hm\n So.", [A]),
    Case("no call", HERMES, " a < b \n", " a < b \n"),
    Case("almost", HERMES, "<tool_call", "<tool_call"),
    Case("no JSON", HERMES, "<tool_call>no</tool_call>", "<tool_call>no</tool_call>"),
    Case("nothing", HERMES, "<tool_call>\n", ""),
    Case("unknown", HERMES, f"So. \n<tool_call>\n{H}", f"So. \n<tool_call>\n{H}"),
    Case("cut off", HERMES, '<tool_call>{"name": "f", "arguments": {"a"', calls=[("f", '{"a"')]),
    Case("the other way", HERMES, '<tool_call>{"arguments": {"a": "x"}, "name": "f"}</tool_call>', calls=[A]),
    Case("no arguments", HERMES, '<tool_call>{"name": "f"}</tool_call>', calls=[("f", "{}")]),
    Case("in a text", HERMES, '<tool_call>{"name": "f", "arguments": "{}"}</tool_call>', calls=[("f", "{}")]),
    Case("llama", LLAMA, F.replace("arguments", "parameters"), calls=[A]),
    Case("llama's blanks", LLAMA, "\n\n" + F.replace("arguments", "parameters"), calls=[A]),
    Case("llama's blanks alone", LLAMA, "\n\n", "\n\n"),
    Case("python tag", LLAMA, f"<|python_tag|>{F}; {G}", calls=[A, B]),
    Case("a tag within", LLAMA,
         '<|python_tag|>{"name": "f", "parameters": {"a": "<|python_tag|>"}};' + f"<|python_tag|>{G}",
         calls=[("f", '{"a": "<|python_tag|>"}'), B]),
    Case("a tag in prose", LLAMA, "So:<|python_tag|> yes", "So: yes"),
    Case("prose", LLAMA, f"So: {F}", f"So: {F}"),
    Case("an object", LLAMA, '{"name": "Ann", "parameters": {}}', '{"name": "Ann", "parameters": {}}'),
    Case("half an object", LLAMA, '{"a": [1', '{"a": [1'),
    Case("mistral", MISTRAL, f"[TOOL_CALLS][{F}, {G}]", calls=[A, B]),
    Case("named", MISTRAL_NAMED, '[TOOL_CALLS]f[ARGS]{"a": "x"}[TOOL_CALLS]g{}', calls=[A, ("g", "{}")]),
    Case("mistral's prose", MISTRAL_NAMED, "[TOOL_CALLS]fine", "[TOOL_CALLS]fine"),
    Case("mistral unknown", MISTRAL_NAMED, "[TOOL_CALLS]h[ARGS]{}", "[TOOL_CALLS]h[ARGS]{}"),
)  # fmt: skip


def heard(case: Case, pieces: Sequence[str]) -> tuple[str, list[tuple[str, str]], list[str]]:
    calls = Calls(case.family, ["f", "g"])
    told = [*map(calls.feed, pieces), calls.rest()]
    found: dict[int, list[str]] = {}
    ids = []
    for part in (part for piece in told for part in piece.tool_calls):
        if part.name is not None:
            assert part.index == len(found)
            found[part.index] = [part.name, ""]
            ids.append(str(part.id))
        found[part.index][1] += part.arguments
    return "".join(piece.text for piece in told), [(name, said) for name, said in found.values()], ids


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_calls_are_read_wherever_they_are_cut(case: Case, size: int) -> None:
    pieces = [case.said[at : at + size] for at in range(0, len(case.said), size)]
    text, calls, ids = heard(case, pieces)
    assert (text, calls) == (case.text, list(case.calls))
    assert len(set(ids)) == len(ids)
    assert all(len(each) == 9 and each.isalnum() for each in ids)


@dataclass(frozen=True)
class Stop:
    id: str
    stop: Sequence[str]
    text: str
    calls: int
    reason: FinishReason
    family: Family = HERMES
    said: str = f"Let me see.\n\n<tool_call>\n{F}\n</tool_call>\n\n<tool_call>{G}</tool_call> done. Bye"


STOPS = (
    Stop("blanks", ["\n\n"], "Let me see.", 0, FinishReason.STOP),
    Stop("with blanks", [" done"], "Let me see.", 2, FinishReason.TOOL_CALLS),
    Stop("within a text", ["e. B", "never"], "Let me see.\n\n\n\n don", 2, FinishReason.TOOL_CALLS),
    Stop("within calls", ["</tool_call>", '"f"', "\n{", "}\n"], "Let me see.\n\n\n\n done. Bye", 2,
         FinishReason.LENGTH),
    Stop("around a call", ["see.\n\n\n"], "Let me see.\n\n\n\n done. Bye", 2, FinishReason.LENGTH),
    Stop("what began like one", ["\n\n<"], "Let me see.\n\n\n\n done. Bye", 2, FinishReason.LENGTH),
    Stop("after a list", ["\n\n"], "", 1, FinishReason.TOOL_CALLS, MISTRAL, f"[TOOL_CALLS][{F}]\n\nSo."),
    Stop("before JSON", ["\n\n"], "", 0, FinishReason.STOP, LLAMA, "\n\n" + F),
    Stop("in what is no call", ["l>no"], "<tool_cal", 0, FinishReason.STOP, HERMES, "<tool_call>no</tool"),
    Stop("where it breaks off", ["<tool"], "Hm ", 0, FinishReason.STOP, HERMES, "Hm <tool_ca"),
)  # fmt: skip


@pytest.mark.parametrize("case", STOPS, ids=lambda case: case.id)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_what_is_written_outside_of_calls_ends_at_a_stop_sequence(case: Stop, size: int) -> None:
    written = [Piece(case.said[at : at + size]) for at in range(0, len(case.said), size)]
    events: list[Any] = [Prompted(3), *written, Finish(FinishReason.LENGTH)]
    writing = (event for event in events)
    told = list(told_calls(writing, case.family, ["f", "g"], parallel=True, stop=case.stop))
    said = [event for event in told if isinstance(event, Piece)]
    assert "".join(piece.text for piece in said) == case.text
    assert sum(part.name is not None for piece in said for part in piece.tool_calls) == case.calls
    assert told[-1] == Finish(case.reason)


def test_arguments_are_told_while_they_come() -> None:
    calls = Calls(HERMES, ["f"])
    assert not calls.feed('<tool_call>{"name": "f", "arguments": ').tool_calls
    assert [part.name for part in calls.feed('{"a"').tool_calls] == ["f", None]
    assert [part.arguments for part in calls.feed(': "x').tool_calls] == [': "x']


@pytest.mark.parametrize("began", ['{"note": "', "[TOOL_CALLS]"], ids=["an object", "a bare name"])
def test_what_is_long_and_no_call_is_read_in_time_of_its_length(began: str) -> None:
    """Not of its square: eight times the pieces take far less than 64 times as long."""

    def seconds(count: int) -> float:
        calls = Calls(LLAMA if began.startswith("{") else MISTRAL_NAMED, ["f"])
        begun = time.thread_time()
        pieces = [calls.feed(part) for part in (began, *["abcdefgh"] * count)]
        took = time.thread_time() - begun
        told = "".join(piece.text for piece in [*pieces, calls.rest()])
        assert told == began + "abcdefgh" * count
        return took

    seconds(100)
    few, many = (min(seconds(count) for _ in range(3)) for count in (5_000, 40_000))
    assert many < 24 * few


def test_one_call_is_enough_where_no_more_are_wanted() -> None:
    ended = []

    def writing() -> Iterator[Any]:
        try:
            yield Prompted(3)
            yield Piece(f"<tool_call>{F}")
            yield Piece("</tool_call>")
        finally:
            ended.append(True)

    events = list(told_calls(writing(), HERMES, ["f"], parallel=False))  # type: ignore[arg-type]
    assert events[-1] == Finish(FinishReason.TOOL_CALLS)
    assert len(events) == 3
    assert ended


@pytest.mark.parametrize(
    ("template", "family"),
    [
        ("{{ messages }}", None),
        ("{% if tools %}<tool_call>{% endif %}", HERMES),
        ("{% if tools %}<tool_call><function=x>{% endif %}", None),
        ("{% if tools %}[TOOL_CALLS] [{% endif %}", MISTRAL),
        ("{% if tools %}[TOOL_CALLS]f[ARGS]{% endif %}", MISTRAL_NAMED),
        ('{% if tools %}{"name": function name, "parameters": dictionary of names}{% endif %}', LLAMA),
        ("{% if tools %}<|tool|>{% endif %}", None),
    ],
)
def test_the_template_tells_the_family(template: str, family: Family | None) -> None:
    assert family_of(template) == family


SHARED = {
    "$defs": {"n": {"type": "integer"}},
    "type": "object",
    "properties": {"a": {"$ref": "#/$defs/n"}},
    "required": ["a"],
    "additionalProperties": False,
}
TOOLS = [
    {"type": "function", "function": {"name": "f", "parameters": SHARED}},
    {"type": "function", "function": {"name": 'é"', "description": "none"}},
]
ONE = '{"name": "f", "arguments": {"a": 1}}'
OTHER = '{"name": "é\\"", "arguments": {}}'


def tokenizer(*, marks: bool) -> LLTokenizer:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({letter: at for at, letter in enumerate(letters)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(["<end>", *(["[TOOL_CALLS]"] if marks else [])])
    made.add_tokens([AddedToken(mark, normalized=False) for mark in ("<tool_call>", "</tool_call>") if marks])
    return LLTokenizer(made.to_str(), eos_token=256)


MARKS = {"[TOOL_CALLS]": 257, "<tool_call>": 258, "</tool_call>": 259}


@pytest.mark.parametrize("known", [True, False], ids=["marks", "no marks"])
@pytest.mark.parametrize(
    ("family", "one", "both"),
    [
        (
            HERMES,
            f"<tool_call>\n{ONE}\n</tool_call>",
            f"<tool_call>\n{ONE}\n</tool_call>\n<tool_call>\n{OTHER}\n</tool_call>",
        ),
        (LLAMA, ONE.replace("arguments", "parameters"), None),
        (MISTRAL, f"[TOOL_CALLS][{ONE}]", f"[TOOL_CALLS][{ONE}, {OTHER}]"),
        (MISTRAL_NAMED, '[TOOL_CALLS]f[ARGS]{"a": 1}', '[TOOL_CALLS]f[ARGS]{"a": 1}[TOOL_CALLS]é"[ARGS]{}'),
    ],
    ids=["hermes", "llama", "mistral", "mistral named"],
)  # fmt: skip
def test_a_grammar_takes_calls_of_these_tools_and_nothing_else(
    family: Family, one: str, both: str | None, *, known: bool
) -> None:
    reads, marks = tokenizer(marks=known), MARKS if known else {}

    def takes(said: str, *, parallel: bool = True, answer: Any = None) -> bool:
        grammar = grammar_of_calls(family, TOOLS, marks, parallel=parallel, answer=answer)
        matcher = LLMatcher(reads, grammar, log_level=0)
        assert not matcher.is_error(), matcher.get_error()
        tokens = reads.tokenize_str(said, parse_special=known)
        return bool(matcher.consume_tokens(tokens) and matcher.is_accepting())

    assert takes(one)
    assert not takes(one.replace("1", '"one"'))
    assert not takes(one.replace("f", "h", 1))
    assert not takes("I would rather not.")
    assert not takes(json.dumps({"x": 1}))
    if family.opening:
        assert takes('{"x": 1}', answer={"type": "object", "required": ["x"]})
        assert takes(one, answer={"type": "object", "required": ["x"]})
    if both is not None:
        assert takes(both)
        assert not takes(both, parallel=False)

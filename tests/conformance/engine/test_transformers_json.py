"""Answers of the transformers engine that are held to JSON, whatever its model would rather say."""

import contextlib
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest

from roundhouse_engine import Cancellation
from roundhouse_engine.errors import EngineError
from roundhouse_engine.handler import Cancelled
from tests.conformance.engine.conversations import said
from tests.conformance.engine.running import Engine
from tests.conformance.engine.test_transformers import CHAT, post, serving
from tests.support.waiting import wait_until

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"enum": ["Ann", "Bob"]},
        "age": {"type": "integer", "minimum": 0, "maximum": 99},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 4}, "maxItems": 2},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}
ENDLESS: Any = {"type": "array", "items": {"const": 0}, "minItems": 1 << 20}


def held_to(schema: Any) -> Any:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}


@pytest.fixture(scope="module")
def tiny() -> ModuleType:
    from tests.support.torch_base import prepare_torch  # noqa: PLC0415

    prepare_torch()
    from tests.support import tiny_models  # noqa: PLC0415 - torch loads only from here on

    return tiny_models


@pytest.fixture(scope="module")
def speaker(tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """It likes to say that it would rather not, and then a list of nothings."""
    folder = tmp_path_factory.mktemp("speaker")
    likes = tiny.write_speaker(folder / "m", ["I would", " rather not."])
    nothings = tiny.write_speaker(folder / "nothings", ["[0", ",0", ",0"], length=1 << 17)
    with serving("chat", folder, m=likes, nothings=nothings) as engine:
        yield engine


@pytest.mark.req("S2-11")
@pytest.mark.parametrize("fields", [{"temperature": 0}, {"temperature": 1.5, "seed": 3}], ids=str)
def test_an_answer_is_what_the_schema_allows(speaker: Engine, fields: Any) -> None:
    with speaker.client as client:
        free = client.chat.completions.create(model="m", messages=said("a"), temperature=0)
        found = client.chat.completions.create(
            model="m", messages=said("a"), response_format=held_to(SCHEMA), **fields
        )
    assert free.choices[0].message.content == "I would rather not."
    assert found.choices[0].finish_reason == "stop"
    jsonschema.validate(json.loads(found.choices[0].message.content or ""), SCHEMA)


def test_a_stream_and_a_completion_are_held_as_well(speaker: Engine) -> None:
    with speaker.client as client:
        stream = client.chat.completions.create(
            model="m", messages=said("a"), response_format=held_to(SCHEMA), stream=True, seed=1, temperature=1
        )
        chunks = [chunk.choices[0] for chunk in stream]
    jsonschema.validate(json.loads("".join(chunk.delta.content or "" for chunk in chunks)), SCHEMA)
    assert chunks[-1].finish_reason == "stop"
    told = {"prompt": "a", "response_format": held_to(SCHEMA), "max_tokens": 900}
    found = post(speaker, "/v1/completions", model="m", **told)
    jsonschema.validate(json.loads(found.json["choices"][0]["text"]), SCHEMA)


@pytest.mark.parametrize("seed", range(4))
def test_any_object_is_whole_or_cut_off_by_its_length(speaker: Engine, seed: int) -> None:
    told = {"temperature": 2, "seed": seed, "max_tokens": 300, "response_format": {"type": "json_object"}}
    choice = post(speaker, CHAT, model="m", messages=said("a"), **told).json["choices"][0]
    text = choice["message"]["content"]
    assert text.startswith("{")
    if choice["finish_reason"] == "stop":
        assert isinstance(json.loads(text), dict)
    else:
        assert choice["finish_reason"] == "length"


def test_an_answer_that_is_whole_at_its_limit_is_whole(speaker: Engine) -> None:
    told = {"response_format": held_to({"const": "yes"}), "max_tokens": len('"yes"'), "temperature": 0}
    choice = post(speaker, CHAT, model="m", messages=said("a"), **told).json["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ('"yes"', "stop")
    cut = post(speaker, CHAT, model="m", messages=said("a"), **told | {"max_tokens": 4}).json["choices"][0]
    assert (cut["message"]["content"], cut["finish_reason"]) == ('"yes', "length")


def test_a_stop_sequence_cuts_json_too(speaker: Engine) -> None:
    told = {"response_format": held_to({"const": ["one", "two"]}), "stop": ["two"]}
    choice = post(speaker, CHAT, model="m", messages=said("a"), **told).json["choices"][0]
    said_so = "".join(choice["message"]["content"].split())
    assert (said_so, choice["finish_reason"]) == ('["one","', "stop")


def test_a_client_that_leaves_ends_what_is_held(speaker: Engine) -> None:
    told = {"model": "nothings", "messages": said("a"), "response_format": held_to(ENDLESS), "stream": True}
    with contextlib.closing(speaker.connect()) as connection:
        connection.request("POST", CHAT, json.dumps(told | {"temperature": 0}))
        connection.getresponse().readline()
        assert speaker.in_use == 1
    wait_until(lambda: speaker.in_use == 0, seconds=60, what="the slot is free", every=0.02)


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"type": "wat"}, "Invalid type: wat"),
        ({"not": {"type": "string"}}, r'Unimplemented keys: ["not"]'),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"type": "string", "pattern": "a(?=b)"}, "look-around"),
        ({"$ref": "http://example.com/s"}, "http://example.com/s"),
        ({"$ref": "#/nope"}, "/nope"),
        ({"anyOf": [{"$ref": "#"}]}, "cannot be held"),
        ({"oneOf": [{"type": "string"}, {"enum": ["a"]}]}, "oneOf"),
        ({"x-guidance": {"lenient": True}, "not": {}}, "not"),
        ({"enum": ["a" * 70_000]}, "at most 65536 bytes"),
        ({"type": "integer", "multipleOf": 999_983}, "multipleOf"),
        ({"type": "integer", "multipleOf": True}, "multipleOf"),
        ({"maximum": 10**400}, "number out of range"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_held_to_is_refused_with_its_name(speaker: Engine, schema: Any, told: str) -> None:
    found = post(speaker, CHAT, model="m", messages=said("a"), response_format=held_to(schema))
    assert (found.status, found.error["type"]) == (400, "invalid_request_error")
    assert found.error["param"] == "response_format"
    assert told in found.error["message"]
    ours, _, theirs = found.error["message"].partition(" llguidance says: ")
    assert "response_format" in ours
    assert len(theirs) <= 201


def test_what_is_never_read_holds_up_no_other_and_many_such_are_no_fault_of_who_comes_then(
    tiny: ModuleType, tmp_path: Path
) -> None:
    """Each takes its time, and is refused; then others are read beside it, until two of them never end."""
    from tests.conformance.engine.transformers_engine import NEVER_READ, OUT_OF_MEMORY  # noqa: PLC0415

    model = tiny.write_speaker(tmp_path / "m", ["Hi."])
    plain = {"model": "m", "messages": said("a"), "max_tokens": 3}
    fine = plain | {"response_format": held_to({"const": 1})}
    with serving("tests.conformance.engine.transformers_engine", tmp_path, m=model) as engine:
        for _ in range(2):
            assert post(engine, CHAT, **fine).status == 200
            never = post(engine, CHAT, **plain, response_format=held_to({"const": NEVER_READ}))
            assert (never.status, never.error["param"]) == (400, "response_format")
            assert "was not ready" in never.error["message"]
        found = post(engine, CHAT, **fine)
        assert (found.status, found.error["code"]) == (503, "schema_waiting")
        assert found.headers["retry-after"] == "5"
        assert "Simplify" not in found.error["message"]
        assert post(engine, CHAT, **plain).status == 200
        assert "still being read past its time" in engine.logged
        short = post(engine, CHAT, **plain | {"max_tokens": OUT_OF_MEMORY})
        assert (short.status, short.error["code"]) == (503, "out_of_memory")
        assert short.headers["retry-after"] == "5"
        assert post(engine, CHAT, **plain).status == 200


def test_schemas_are_read_in_turn_and_who_leaves_waits_for_none(tiny: ModuleType) -> None:
    from roundhouse_transformers.reading import Readings  # noqa: PLC0415 - see `tiny`

    readings, begun, ends = Readings(60), threading.Event(), threading.Event()

    def slow() -> str:
        begun.set()
        assert ends.wait(60)
        return "first"

    with ThreadPoolExecutor(2) as threads:
        try:
            first = threads.submit(readings.read, slow, Cancellation())
            assert begun.wait(60)
            left = Cancellation()
            left.cancel()
            with pytest.raises(Cancelled):
                readings.read(lambda: "next", left)
            waits = threads.submit(readings.read, lambda: "next", Cancellation())
            assert not waits.done()
        finally:
            ends.set()
        assert (first.result(60), waits.result(60)) == ("first", "next")


def test_where_no_thread_was_left_the_next_schema_is_read(
    tiny: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    from roundhouse_transformers.reading import Readings  # noqa: PLC0415 - see `tiny`

    def none_left(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    readings = Readings(60)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", none_left)
        with pytest.raises(RuntimeError, match="new thread"):
            readings.read(lambda: "first", Cancellation())
    assert readings.read(lambda: "next", Cancellation()) == "next"


def test_a_tokenizer_that_is_refused_is_not_prepared_for_each_request(
    tiny: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers  # noqa: PLC0415 - see `tiny`

    from roundhouse_transformers import grammar  # noqa: PLC0415

    tried = []

    def refuse(*_: Any, **__: Any) -> None:
        tried.append(1)
        raise ValueError("of no known kind")

    monkeypatch.setattr(grammar, "LLTokenizer", refuse)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny.write_speaker(tmp_path, ["a"]))
    grammars = grammar.Grammars(tokenizer, len(tokenizer), [2])
    for _ in range(2):
        with pytest.raises(EngineError, match=r"cannot be held to x: .* llguidance says: of no known kind"):
            grammars.hold(grammar.json_grammar({"type": "object"}, "x"), "x", Cancellation())
    assert len(tried) == 1


def test_the_widest_schema_is_ready_in_time(tiny: ModuleType, tmp_path: Path) -> None:
    """Two thousand properties beside any others: the dearest of what is known."""
    import transformers  # noqa: PLC0415 - see `tiny`

    from roundhouse_transformers.grammar import Grammars, json_grammar  # noqa: PLC0415

    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny.write_speaker(tmp_path, ["a"]))
    wide = {"type": "object", "properties": {f"p{at}": {"type": "string"} for at in range(2000)}}
    held = Grammars(tokenizer, len(tokenizer), [2]).hold(json_grammar(wide, "x"), "x", Cancellation())
    assert not held.over

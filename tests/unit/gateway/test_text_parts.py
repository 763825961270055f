"""The parts of the JSON routes that need no network: bytes in, bytes out."""

import asyncio
import base64
import json
import struct
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse_api.enums import FallbackTrigger
from roundhouse_gateway.errors import EngineAnsweredError, EngineFailedError, InvalidRequestError
from roundhouse_gateway.fallbacks import trigger_of
from roundhouse_gateway.json_words import wrong_in
from roundhouse_gateway.relay import engine_error
from roundhouse_gateway.text.balance import by_prefix
from roundhouse_gateway.text.frames import Frames
from roundhouse_gateway.text.request import read_chat, read_embedding, read_rerank
from roundhouse_gateway.text.rerank import answer_for
from roundhouse_gateway.text.rewrite import rewrite
from roundhouse_gateway.text.spec import read_text_spec
from roundhouse_gateway.text.usage import UsageReader
from roundhouse_gateway.text.vectors import LOOK_BYTES, WRONG, converted, is_in_form

KEYS = st.sampled_from(["model", "Model", "MODEL", "messages", "mod", "x"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5) | st.just("model"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
PAIRS = st.lists(st.tuples(KEYS, VALUES), max_size=6)


def encoded(pairs: list[tuple[str, Any]], spelling: Any) -> bytes:
    """An object with its keys in this order, repeated ones too; some letters of keys as escapes."""
    members = []
    for number, (key, value) in enumerate(pairs):
        name = json.dumps(key)
        if spelling[number % len(spelling)]:
            name = name.replace("d", "\\u0064")
        members.append(f"{name}:{json.dumps(value)}")
    return ("{" + ", ".join(members) + "}").encode()


@given(PAIRS, st.lists(st.booleans(), min_size=1), st.text(max_size=4))
def test_every_reader_finds_the_one_model_and_nothing_else_changes(
    pairs: list[tuple[str, Any]], spelling: list[bool], model: str
) -> None:
    asked = next((value for key, value in reversed(pairs) if key == "model"), None)
    if not (asked is None or isinstance(asked, str)):
        return
    sent = rewrite(encoded(pairs, spelling), asked or None, model, {})
    read = json.loads(sent, object_pairs_hook=list)
    assert [value for key, value in read if key.lower() == "model"] == [model]
    others = {key: value for key, value in pairs if key.lower() != "model"}
    assert {key: json.loads(json.dumps(value)) for key, value in others.items()} == {
        key: value for key, value in json.loads(sent).items() if key != "model"
    }


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"])
@given(data=st.data())
def test_frames_pass_whole_however_they_come(end: bytes, data: st.DataObject) -> None:
    whole = b"".join(b"data: " + b"x" * size + end for size in data.draw(st.lists(st.integers(1, 9))))
    frames, out, left = Frames(), b"", whole + b"data: torn"
    while left:
        size = data.draw(st.integers(1, 12))
        ready = frames.feed(left[:size])
        assert not ready or ready.endswith(end)
        out, left = out + ready, left[size:]
    assert out == whole
    last = frames.broken(EngineFailedError("gone"))
    assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "engine_failed"


def test_a_frame_too_long_to_keep_is_passed_on_and_what_follows_stands_apart() -> None:
    frames = Frames()
    piece = b"data: " + b"x" * (5 << 20)
    assert frames.feed(piece) == piece
    assert frames.broken(EngineFailedError("gone")).startswith(b"\n\ndata: {")


@given(st.lists(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=4), min_size=1, max_size=3))
async def test_vectors_go_to_base64_and_back(vectors: list[list[float]]) -> None:
    members = {"object": "list", "data": [{"index": 0, "embedding": each} for each in vectors], "x": 1}
    body = msgspec.json.encode(members)
    packed = await converted(body, "base64")
    assert is_in_form(body, "float")
    assert is_in_form(packed, "base64")
    first = base64.b64decode(json.loads(packed)["data"][0]["embedding"])
    assert list(struct.unpack(f"<{len(vectors[0])}f", first)) == vectors[0]
    back = json.loads(await converted(packed, "float"))
    assert back["x"] == 1
    assert [each["embedding"] for each in back["data"]] == vectors


def test_the_form_is_not_known_before_the_first_vector() -> None:
    assert is_in_form(b'{"object":"list","data":[{"object":"embedding"', "float") is None
    assert is_in_form(b" " * (LOOK_BYTES + 1), "float") is True


async def test_others_have_their_turn_while_vectors_are_changed() -> None:
    vector = b'{"embedding":[' + b",".join([b"0.0123456789"] * 1024) + b"]}"
    body = b'{"data":[' + b",".join([vector] * 500) + b"]}"
    changing = asyncio.create_task(converted(body, "base64"))
    turns = 0
    while not changing.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns > 10
    assert len(json.loads(changing.result())["data"]) == 500


async def test_others_have_their_turn_while_documents_are_ranked() -> None:
    documents = [f"{number} words" for number in range(10_000)]
    asked = {"model": "m", "query": "q", "documents": documents, "return_documents": True}
    request = read_rerank(msgspec.json.encode(asked))
    said = msgspec.json.encode([{"index": number, "score": number / 1e4} for number in range(10_000)])
    ranking = asyncio.create_task(answer_for("/v1/rerank", "m", "id", said, request))
    turns = 0
    while not ranking.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns > 10
    found = json.loads(ranking.result())["results"]
    assert [each["index"] for each in found] == list(range(9_999, -1, -1))
    assert found[0] == {"index": 9_999, "relevance_score": 0.9999, "document": {"text": "9999 words"}}


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (b'{"data":[{"embedding":[1,2', "base64"),
        (b'{"data":[{"embedding":[[1],[2]]}]}', "base64"),
        (b'{"data":[{"embedding":"AAA="}]}', "float"),
        (b'{"data":[{"embedding":"not base64"}]}', "float"),
    ],
)
async def test_what_is_no_vector_is_not_changed(body: bytes, encoding: str) -> None:
    with pytest.raises(WRONG):
        await converted(body, encoding)


URLS = [f"http://10.0.0.{number}:8000" for number in range(8)]


def test_a_replica_that_goes_moves_only_its_own_conversations() -> None:
    def idle(url: str) -> int:
        return 0

    openings = [str(number).encode() for number in range(2000)]
    # One request among idle replicas is within any share.
    before = {each: by_prefix(each, URLS, idle, 1000) for each in openings}
    after = {each: by_prefix(each, URLS[:-1], idle, 1000) for each in openings}
    moved = [each for each in openings if before[each] != after[each]]
    assert {before[each] for each in moved} == {URLS[-1]}
    shares = [list(before.values()).count(url) for url in URLS]
    assert max(shares) < 2 * len(openings) / len(URLS)


def test_load_is_bounded() -> None:
    load = dict.fromkeys(URLS, 0)
    for _ in range(400):
        chosen = by_prefix(b"the same for all", URLS, load.__getitem__, 125)
        load[chosen] += 1
        assert load[chosen] <= sum(load.values()) / len(URLS) * 1.25 + 1
    assert sum(map(bool, load.values())) >= len(URLS) / 1.25 - 1


@pytest.mark.parametrize(
    ("passed", "tokens"),
    [
        ([b'{"usage":{"prompt_tokens":5,"total_tokens":9,"completion_tokens":4}}'], (5, 4)),
        ([b'{"us', b'age" : {"prompt_tokens":5,', b'"completion_tokens":4,"d":{"a":1}}}'], (5, 4)),
        (
            [b'data: {"usage":{"completion_tokens":1}}\n\n', b"data: [DONE]"],
            (0, 1),
        ),
        ([b'{"content":"\\"usage\\":{\\"prompt_tokens\\":9}"}'], (0, 0)),
        ([b'{"usage":{"prompt_tokens":"many"}}'], (0, 0)),
        ([], (0, 0)),
    ],
)
def test_usage_is_found_at_the_end(passed: list[bytes], tokens: tuple[int, int]) -> None:
    reader = UsageReader()
    for piece in passed:
        reader.see(piece)
    usage = reader.usage()
    assert (usage.input_tokens, usage.output_tokens) == tokens


def test_what_a_newer_operator_says_is_passed_over() -> None:
    spec = read_text_spec(
        {
            "loadBalancing": {"type": "ByMood"},
            "requestDefaults": {"model": "other", "seed": 1},
        }
    )
    assert spec.prefix is None
    assert list(spec.defaults) == ["seed"]


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_an_engine_s_words_are_told_in_whichever_encoding_they_came(encoding: str) -> None:
    said = '{"error": {"message": "Ungültig", "code": "größe"}}'.encode(encoding)
    told = json.loads(engine_error(400, "m", (), said).body())["error"]
    assert (told["message"], told["code"]) == ("Ungültig", "größe")


def test_only_an_engine_s_failure_is_a_reason_for_another_model() -> None:
    said = {status: trigger_of(EngineAnsweredError(status, [], b"")) for status in (400, 429, 500, 503, 504)}
    assert list(said.values()) == [
        None,
        FallbackTrigger.RATE_LIMITED,
        FallbackTrigger.ERROR,
        FallbackTrigger.UNAVAILABLE,
        FallbackTrigger.TIMEOUT,
    ]


@pytest.mark.parametrize(
    ("read", "body", "param", "says"),
    [
        (read_chat, b'{"stream": "x"}', "stream", "`stream` must be true or false, not a text."),
        (read_chat, b'{"model": 5}', "model", "`model` must be a text, not a whole number."),
        (read_chat, b'{"model": [], broken', "model", "`model` must be a text, not a list."),
        (
            read_embedding,
            b'{"dimensions": "8"}',
            "dimensions",
            "`dimensions` must be a whole number, not a text.",
        ),
        (read_rerank, b'{"top_n": true}', "top_n", "`top_n` must be a whole number, not true or false."),
        (read_rerank, b"[]", None, "The body is not a JSON object: it must be an object, not a list."),
    ],
)
def test_what_has_the_wrong_type_is_told_without_names_of_types(
    read: Callable[[bytes], object], body: bytes, param: str | None, says: str
) -> None:
    with pytest.raises(InvalidRequestError) as told:
        read(body)
    assert (told.value.message, told.value.param) == (says, param)


@pytest.mark.parametrize(
    ("kind", "body", "says"),
    [
        (float, b'"x"', "it must be a number, not a text"),
        (int, b"1.5", "it must be a whole number, not a number with a fraction"),
    ],
)
def test_where_a_fraction_may_be_a_whole_number_is_no_mistake(kind: type, body: bytes, says: str) -> None:
    with pytest.raises(msgspec.ValidationError) as told:
        msgspec.json.decode(body, type=kind)
    assert wrong_in(told.value).message == says

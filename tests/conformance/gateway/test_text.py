"""The JSON routes by OpenAI's official clients, and what becomes of a request's bytes."""

import http.client
import json
import re
import struct
from base64 import b64decode
from contextlib import closing
from typing import Any

import openai
import pytest

from tests.conformance.gateway import text_engine as scripts
from tests.conformance.gateway.client import Reply
from tests.conformance.gateway.conftest import World
from tests.conformance.gateway.manifests import Variant
from tests.conformance.gateway.scripted_engine import Answer, ScriptedEngine, answering
from tests.support.waiting import wait_until

MESSAGES: list[Any] = [{"role": "user", "content": "Where are the birds?"}]
SAID = "".join(scripts.WORDS)
CHAT = Variant("qwen", "Qwen/Qwen3-0.6B", stage="Chat", languages=None, aliases=("small",))
EMBED = Variant("minilm", stage="Embed", languages=None)
RANK = Variant("bge", stage="Rerank", languages=None)
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def world(either_world: World) -> World:
    return either_world


def serve_chat(world: World, variant: Variant = CHAT) -> ScriptedEngine:
    engine = world.serve(variant)
    engine.answer = scripts.chat
    if world.fast:
        scripts.warm_up(world, variant.id, [engine])
    return engine


def post(world: World, path: str, body: object) -> Reply:
    encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
    return world.gateway.request("POST", path, encoded, JSON)


def chat(world: World, **members: object) -> Reply:
    return post(world, "/v1/chat/completions", {"model": CHAT.id, "messages": MESSAGES, **members})


def test_chat(world: World) -> None:
    engine = serve_chat(world)
    answer = world.gateway.openai().chat.completions.with_raw_response.create(
        model="small", messages=MESSAGES, temperature=0.2, extra_body={"top_k": 40}
    )
    said = answer.parse()
    assert said.choices[0].message.content == SAID
    assert said.usage is not None
    assert said.usage.total_tokens == 10
    assert answer.headers["x-roundhouse-model"] == CHAT.id
    (received,) = engine.requests
    assert received.path == "/v1/chat/completions"
    assert received.json == {
        "model": "engine-qwen",
        "messages": MESSAGES,
        "temperature": 0.2,
        "top_k": 40,
    }
    assert received.headers["x-request-id"] == answer.headers["x-request-id"]


def test_a_stream(world: World) -> None:
    serve_chat(world)
    labels = {"model": CHAT.id, "kind": "output"}
    before = world.gateway.metric("roundhouse_gateway_tokens_total", **labels)
    with world.gateway.openai().chat.completions.create(
        model=CHAT.id, messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    ) as stream:
        assert stream.response.headers["cache-control"] == "no-cache"
        assert stream.response.headers["x-accel-buffering"] == "no"
        chunks = list(stream)
    assert "".join(each.choices[0].delta.content or "" for each in chunks if each.choices) == SAID
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 3
    wait_until(
        lambda: world.gateway.metric("roundhouse_gateway_tokens_total", **labels) == before + 3,
        seconds=30,
        what="what it took is counted",
        every=0.02,
    )


def test_a_stream_passes_byte_for_byte(world: World) -> None:
    serve_chat(world)
    assert chat(world, stream=True).body == b"".join(scripts.FRAMES)


async def test_the_asynchronous_client_and_tools(world: World) -> None:
    engine = serve_chat(world)
    tool: Any = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    async with openai.AsyncOpenAI(base_url=world.gateway.base_url, api_key="x", max_retries=0) as api:
        answer = await api.chat.completions.create(
            model=CHAT.id, messages=MESSAGES, tools=[tool], tool_choice="auto"
        )
        assert answer.choices[0].message.tool_calls is not None
        called: Any = answer.choices[0].message.tool_calls[0]
        assert (called.function.name, called.function.arguments) == ("weather", '{"city": "Paris"}')
        stream = await api.chat.completions.create(model=CHAT.id, messages=MESSAGES, stream=True)
        said = [each.choices[0].delta.content or "" async for each in stream if each.choices]
        assert "".join(said) == SAID
    assert engine.requests[0].json["tools"] == [tool]


def test_completions(world: World) -> None:
    engine = serve_chat(world)
    answer = world.gateway.openai().completions.create(model=CHAT.id, prompt="The birds are in", max_tokens=3)
    assert answer.choices[0].text == SAID
    assert engine.requests[0].path == "/v1/completions"


@pytest.mark.parametrize("knows_base64", [True, False])
def test_embeddings_in_either_form_whatever_the_engine_speaks(world: World, knows_base64: bool) -> None:
    engine = world.serve(EMBED)
    engine.answer = scripts.embeddings(knows_base64=knows_base64)
    create = world.gateway.openai().embeddings.create
    wanted = [scripts.vector("one two"), scripts.vector("three")]
    texts = ["one two", "three"]
    # Unasked, the client sends base64 and unpacks it.
    by_default = create(model=EMBED.id, input=texts)
    assert [each.embedding for each in by_default.data] == [pytest.approx(each) for each in wanted]
    as_numbers = create(model=EMBED.id, input=texts, encoding_format="float")
    assert [each.embedding for each in as_numbers.data] == [pytest.approx(each) for each in wanted]
    reply = post(world, "/v1/embeddings", {"model": EMBED.id, "input": texts[0], "encoding_format": "base64"})
    packed = b64decode(reply.json["data"][0]["embedding"])
    assert struct.unpack("<16f", packed) == pytest.approx(tuple(wanted[0]))
    assert reply.json["usage"] == {"prompt_tokens": 7, "total_tokens": 7}
    assert int(reply.headers["content-length"]) == len(reply.body)


def test_embeddings_of_an_engine_that_speaks_only_base64(world: World) -> None:
    engine = world.serve(EMBED)
    packed = json.dumps({"data": [{"index": 0, "embedding": "AACAPwAAAEA="}], "model": "m"})
    engine.answer = answering(200, json.loads(packed))
    reply = post(world, "/v1/embeddings", {"model": EMBED.id, "input": "x"})
    assert reply.json["data"] == [{"index": 0, "embedding": [1.0, 2.0]}]


@pytest.mark.parametrize(
    ("sent", "arrives"),
    [
        pytest.param(
            b'{ "messages" : [{"role":"user"}],\n "zz":1.10, "model" :"small","top_k":1e2}',
            b'{ "messages" : [{"role":"user"}],\n "zz":1.10, "model" :"engine-qwen","top_k":1e2}',
            id="only the name changes, by bytes",
        ),
        pytest.param(
            b'{"model":"nonesuch","messages":[],"model":"small"}',
            b'{"model":"engine-qwen","messages":[]}',
            id="twice",
        ),
        pytest.param(
            b'{"mod\\u0065l":"small","messages":[],"metadata":{"model":"small"}}',
            b'{"model":"engine-qwen","messages":[],"metadata":{"model":"small"}}',
            id="with an escape",
        ),
        pytest.param(
            b'{"model":"small","messages":[],"Model":"secret"}',
            b'{"model":"engine-qwen","messages":[]}',
            id="in capitals, which some engines take for the same",
        ),
        pytest.param(
            b'{"messages":[],"x":{"model":"small"}}',
            b'{"messages":[],"x":{"model":"small"},"model":"engine-qwen"}',
            id="only deeper down: the default",
        ),
    ],
)
def test_what_is_authorised_is_what_the_engine_reads(world: World, sent: bytes, arrives: bytes) -> None:
    engine = serve_chat(world)
    assert post(world, "/v1/chat/completions", sent).status == 200
    assert engine.requests[0].body == arrives


def test_nothing_is_touched_where_the_engine_has_the_same_name(world: World) -> None:
    engine = serve_chat(world, Variant("same", stage="Chat", languages=None, model_name="same"))
    sent = b'{"messages" : [ ] , "model":"same", "temperature": 0.70, "caf\xc3\xa9": "\\u00e9"}'
    assert post(world, "/v1/chat/completions", sent).status == 200
    assert engine.requests[0].body == sent


@pytest.mark.req("S0-16", "S2-13", "S2-25")
def test_defaults_of_the_variant_are_added_and_the_request_s_own_fields_win(world: World) -> None:
    defaults = {"temperature": 0.7, "top_p": 0.9, "chat_template_kwargs": {"enable_thinking": False}}
    engine = serve_chat(
        world, Variant("tuned", stage="Chat", languages=None, spec={"requestDefaults": defaults})
    )
    assert post(world, "/v1/chat/completions", b'{"top_p":1.0,"model":"tuned","messages":[]}').status == 200
    assert engine.requests[0].body == (
        b'{"top_p":1.0,"model":"engine-tuned","messages":[],"temperature":0.7,'
        b'"chat_template_kwargs":{"enable_thinking":false}}'
    )
    assert world.gateway.get("/v1/models/tuned").json["request_defaults"] == defaults


PICTURE = [
    {
        "role": "user",
        "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}],
    }
]


@pytest.mark.req("S2-11")
@pytest.mark.parametrize(
    ("members", "feature", "param"),
    [
        ({"response_format": {"type": "json_object"}}, "StructuredOutputs", "response_format"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}},
            "StructuredOutputs",
            "response_format",
        ),
        ({"messages": PICTURE}, "Vision", "messages"),
    ],
)
def test_what_a_model_must_be_capable_of(
    world: World, members: dict[str, object], feature: str, param: str
) -> None:
    serve_chat(world)
    refused = chat(world, **members)
    assert refused.status == 400
    assert (refused.error["code"], refused.error["param"]) == ("unsupported_value", param)
    nobody = chat(world, model="auto", **members)
    assert nobody.error["code"] in {"unsupported_value", "no_engine_available"}
    able = Variant("able", stage="Chat", languages=None, features=(feature,))
    engine = serve_chat(world, able)
    assert chat(world, model="able", **members).status == 200
    assert chat(world, model="auto", **members).headers["x-roundhouse-model"] == "able"
    assert {key: engine.requests[0].json[key] for key in members} == members


def test_a_response_format_of_text_needs_nothing(world: World) -> None:
    serve_chat(world)
    assert chat(world, response_format={"type": "text"}).status == 200


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "param"),
    [
        ("/v1/chat/completions", b"{", 400, "malformed_json", None),
        ("/v1/chat/completions", b"[]", 400, "malformed_json", None),
        ("/v1/chat/completions", b"", 400, "malformed_json", None),
        ("/v1/chat/completions", b"\xff\xfe{}", 400, "malformed_json", None),
        ("/v1/chat/completions", b'{"model":"\xff","messages":[]}', 400, "malformed_json", None),
        ("/v1/chat/completions", b'{"messages":["image_url","\xff"]}', 400, "malformed_json", None),
        ("/v1/chat/completions", b'{"messages":["image_url",1e999]}', 400, "invalid_value", "messages"),
        ("/v1/embeddings", b'{"input":"\xe9","x\xff":1}', 400, "malformed_json", None),
        ("/v1/realtime/client_secrets", b'{"session":{"\xff":1}}', 400, "invalid_value", None),
        ("/v1/chat/completions", b'{"model":"x"} x', 400, "malformed_json", None),
        ("/v1/chat/completions", b'{"model":"x"}', 400, "missing_required_parameter", "messages"),
        ("/v1/chat/completions", b'{"messages":"hi"}', 400, "invalid_value", "messages"),
        ("/v1/chat/completions", b'{"model":7,"messages":[]}', 400, "invalid_value", "model"),
        ("/v1/chat/completions", b'{"stream":"yes","messages":[]}', 400, "invalid_value", "stream"),
        ("/v1/chat/completions", b'{"model":"no/such","messages":[]}', 404, "model_not_found", "model"),
        ("/v1/chat/completions", b'{"model":"a\\nb","messages":[]}', 400, "invalid_value", "model"),
        ("/v1/completions", b'{"model":"x"}', 400, "missing_required_parameter", "prompt"),
        ("/v1/embeddings", b'{"model":"x"}', 400, "missing_required_parameter", "input"),
        ("/v1/embeddings", b'{"model":"x","input":[]}', 400, "invalid_value", "input"),
        ("/v1/embeddings", b'{"input":"x","dimensions":0}', 400, "invalid_value", "dimensions"),
        ("/v1/embeddings", b'{"input":"x","encoding_format":"hex"}', 400, "unsupported_value",
         "encoding_format"),
        ("/v1/rerank", b'{"documents":["x"]}', 400, "missing_required_parameter", "query"),
        ("/v2/rerank", b'{"query":"x","documents":[]}', 400, "invalid_value", "documents"),
        ("/v2/rerank", b'{"query":"x","documents":["x"],"top_n":0}', 400, "invalid_value", "top_n"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(  # noqa: PLR0917 - a table's columns
    world: World, path: str, body: bytes, status: int, code: str, param: str | None
) -> None:
    reply = post(world, path, body)
    assert reply.status == status
    assert (reply.error["code"], reply.error["param"]) == (code, param)


SAYS_JSON = ("application/json", "Application/JSON; charset=utf-8", "application/vnd.api+json", "")
NO_JSON = (
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "application/jsonp",
)


@pytest.mark.parametrize(
    ("path", "variant", "answer", "fields"),
    [
        ("/v1/chat/completions", CHAT, scripts.chat, {"messages": []}),
        ("/v1/embeddings", EMBED, scripts.embeddings(), {"input": "x"}),
        ("/v1/rerank", RANK, scripts.rerank, {"query": "x", "documents": ["y"]}),
    ],
)
def test_what_is_said_to_be_no_json_is_refused_also_behind_what_was_taken(
    path: str, variant: Variant, answer: Answer, fields: dict[str, Any], world: World
) -> None:
    world.serve(variant).answer = answer
    body = json.dumps({"model": variant.id, **fields}).encode()
    found = {}
    with closing(http.client.HTTPConnection("127.0.0.1", world.gateway.port, timeout=120)) as kept:
        for said in (*SAYS_JSON, *NO_JSON, *SAYS_JSON):
            kept.request("POST", path, body, {"Content-Type": said} if said else {})
            reply = kept.getresponse()
            found[said] = reply.status, json.loads(reply.read()).get("error")
    assert [found[said][0] for said in SAYS_JSON] == [200] * len(SAYS_JSON)
    assert {found[said][0] for said in NO_JSON} == {415}
    for said in NO_JSON:
        error = found[said][1]
        assert (error["code"], said in error["message"]) == ("unsupported_media_type", True)
        assert "Content-Type: application/json" in error["message"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "it is empty"),
        (b" \n", "it is empty"),
        (b'{"model":"x\\ud800","messages":[]}', "surrogate pair"),
        (b'{"messages":[],"model":"\\ud800"}', "surrogate pair"),
        (b'{"model":"x', "truncated"),
        (b'{"model":"\\ud83d\\ude00', "truncated"),
    ],
)
def test_what_is_no_json_is_told_what_is_wrong(world: World, body: bytes, says: str) -> None:
    headers = {"Content-Type": "application/json"}
    reply = world.gateway.request("POST", "/v1/chat/completions", body, headers)
    assert reply.error["code"] == "malformed_json"
    assert says in reply.error["message"]


def test_an_unknown_model_is_the_client_s_own_error(world: World) -> None:
    serve_chat(world)
    world.serve(Variant("embedder", stage="Embed"))
    said = f"Engine 'nonesuch' not found. Models here: {CHAT.id}."
    with pytest.raises(openai.NotFoundError, match=re.escape(said)) as unknown:
        world.gateway.openai().chat.completions.create(model="nonesuch", messages=MESSAGES)
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")


def test_a_model_of_another_stage_is_refused(world: World) -> None:
    serve_chat(world)
    reply = post(world, "/v1/embeddings", {"model": CHAT.id, "input": "x"})
    assert (reply.status, reply.error["param"]) == (400, "model")


@pytest.mark.parametrize(
    "deep", [b"[" * 100_000, b'{"a":' * 200 + b"1" + b"}" * 200, b"[" * 130 + b"]" * 130]
)
def test_depth_is_bounded(world: World, deep: bytes) -> None:
    reply = post(world, "/v1/chat/completions", b'{"messages":[],"x":' + deep + b"}")
    assert (reply.status, reply.error["code"]) == (400, "json_too_deep")


def test_brackets_in_texts_and_many_shallow_ones_are_no_depth(world: World) -> None:
    engine = serve_chat(world)
    content = '\\"' + "[{" * 500 + '"' + "[\\" * 300
    many = [{"role": "user", "content": [{"type": "text", "text": content}]}] * 300
    assert chat(world, messages=many).status == 200
    assert engine.requests[0].json["messages"] == many


@pytest.mark.req("S2-18")
def test_batches_are_bounded(world: World) -> None:
    bound = Variant("bound", stage="Embed", languages=None, spec={"limits": {"maxBatchItems": 3}})
    engine = world.serve(bound)
    engine.answer = scripts.embeddings()
    assert post(world, "/v1/embeddings", {"model": "bound", "input": ["x"] * 3}).status == 200
    over = post(world, "/v1/embeddings", {"model": "bound", "input": ["x"] * 4})
    assert (over.status, over.error["code"], over.error["param"]) == (400, "too_many_items", "input")
    far_over = post(world, "/v1/embeddings", {"model": "bound", "input": ["x"] * 2049})
    assert "at most 2048" in far_over.error["message"]
    assert post(world, "/v1/embeddings", {"model": "bound", "input": list(range(3000))}).status == 200


def test_lengths_of_vectors(world: World) -> None:
    shrinking = {"dimensions": 16, "outputDimensions": [8, 4]}
    engine = world.serve(Variant("matryoshka", stage="Embed", languages=None, embedding=shrinking))
    engine.answer = scripts.embeddings()
    answer = world.gateway.openai().embeddings.create(model="matryoshka", input="x", dimensions=8)
    assert len(answer.data[0].embedding) == 8
    with pytest.raises(openai.BadRequestError, match="vectors of 4, 8, 16 numbers, not of 7"):
        world.gateway.openai().embeddings.create(model="matryoshka", input="x", dimensions=7)


def test_the_fast_lane_is_taken_where_there_is_one(world: World) -> None:
    serve_chat(world)
    name = "roundhouse_gateway_fast_lane_requests_total"
    before = world.gateway.metric(name)
    for _ in range(3):
        assert chat(world).status == 200
        assert chat(world, stream=True).status == 200
    assert world.gateway.metric(name) == before + (6 if world.fast else 0)

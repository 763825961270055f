"""Conversations and completions against a real engine process, with OpenAI's own client."""

import contextlib
import http.client
import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.conformance.engine.conversations import said
from tests.conformance.engine.running import Answer, Engine, running
from tests.support.waiting import wait_until

CHAT = "/v1/chat/completions"
WRITER = ("-m", "tests.conformance.engine.text_handlers", "Writer")
WRITER_THREADED = ("-m", "tests.conformance.engine.text_handlers", "WriterThreaded")
CALLER = ("-m", "tests.conformance.engine.text_handlers", "Caller")
TOOL: Any = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
PICTURE: Any = {"type": "image_url", "image_url": {"url": "data:,x"}}
SCHEMA: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}


@pytest.fixture(scope="module", params=[WRITER, WRITER_THREADED], ids=["process", "thread"])
def writer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with running(request.param, tmp_path_factory.mktemp("writer")) as engine:
        engine.until_ready()
        yield engine


@pytest.fixture(scope="module")
def caller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with running(CALLER, tmp_path_factory.mktemp("caller")) as engine:
        engine.until_ready()
        yield engine


def post(engine: Engine, path: str = CHAT, **fields: Any) -> Answer:
    body = json.dumps({"model": "m", "messages": said("hi")} | fields)
    return engine.request("POST", path, body, {"Content-Type": "application/json"})


def post_raw(engine: Engine, body: bytes, path: str = CHAT) -> Answer:
    return engine.request("POST", path, body, {"Content-Type": "application/json"})


def test_a_whole_answer(writer: Engine) -> None:
    found = writer.client.chat.completions.create(model="m", messages=said("one two three"))
    assert found.choices[0].message.content == "one two three"
    assert found.choices[0].finish_reason == "stop"
    assert found.usage is not None
    assert (found.usage.prompt_tokens, found.usage.completion_tokens, found.usage.total_tokens) == (3, 3, 6)
    assert found.usage.prompt_tokens_details is not None
    assert found.usage.prompt_tokens_details.cached_tokens == 1


@pytest.mark.req("S2-19")
def test_a_stream_with_usage(writer: Engine) -> None:
    stream = writer.client.chat.completions.create(
        model="m",
        messages=said("one two three"),
        max_completion_tokens=2,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "one two"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "length"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 2
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_stream_on_the_wire(writer: Engine) -> None:
    found = post(writer, messages=said("a b"), stream=True)
    assert found.headers["content-type"] == "text/event-stream; charset=utf-8"
    events = found.body.decode().split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    assert all(event.startswith("data: ") for event in events[:-1])
    assert "usage" not in json.loads(events[0][6:])


def test_a_stream_without_a_word(writer: Engine) -> None:
    stream = writer.client.chat.completions.create(model="m", messages=said("silence"), stream=True)
    assert [chunk.choices[0].finish_reason for chunk in stream] == [None, "stop"]


@pytest.mark.parametrize("stream", [False, True])
def test_the_text_ends_before_a_stop_sequence(writer: Engine, *, stream: bool) -> None:
    found = post(writer, messages=said("one two three four"), stop=["o th", "nothing"], stream=stream)
    if stream:
        deltas = [json.loads(line[6:]) for line in found.body.decode().split("\n\n")[:-2]]
        text = "".join(delta["choices"][0]["delta"].get("content", "") for delta in deltas)
    else:
        text = found.json["choices"][0]["message"]["content"]
    assert text == "one tw"


def test_completions(writer: Engine) -> None:
    found = writer.client.completions.create(model="m", prompt="one two three", max_tokens=2)
    assert (found.choices[0].text, found.choices[0].finish_reason) == ("one two", "length")
    assert found.object == "text_completion"
    stream = writer.client.completions.create(model="m", prompt=["one two"], stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == "one two"
    ids = writer.client.completions.create(model="m", prompt=[4, 5])
    assert ids.choices[0].text == "4 5"


def test_parts_of_text_are_one_text(writer: Engine) -> None:
    parts: Any = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    found = post(writer, messages=[{"role": "user", "content": parts}])
    assert found.json["choices"][0]["message"]["content"] == "one\ntwo"


def test_calls_of_tools(caller: Engine) -> None:
    found = caller.client.chat.completions.create(model="m", messages=said("look"), tools=[TOOL])
    message = found.choices[0].message
    assert (message.content, found.choices[0].finish_reason) == (None, "tool_calls")
    assert message.tool_calls is not None
    call = message.tool_calls[0]
    assert call.type == "function"
    assert (call.id, call.function.name, call.function.arguments) == ("call_1", "look", '{"a": 1}')
    with caller.client.chat.completions.stream(model="m", messages=said("look"), tools=[TOOL]) as stream:
        streamed = stream.get_final_completion().choices[0].message.tool_calls
    assert streamed is not None
    assert streamed[0].function.arguments == '{"a": 1}'


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages",
        ),
        ({"model": ""}, "model"),
        ({"n": 2}, "n"),
        ({"temperature": 3}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": -1}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": 1.5}, "max_completion_tokens"),
        ({"stop": [""]}, "stop"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"seed": "x"}, "seed"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"tools": [TOOL]}, "tools"),
        ({"response_format": SCHEMA}, "response_format"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"logprobs": True}, "logprobs"),
        ({"logit_bias": {"1": 5}}, "logit_bias"),
        ({"presence_penalty": 1}, "presence_penalty"),
        ({"functions": [{}]}, "functions"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"messages": said("x " * 600)}, "messages"),
    ],
    ids=str,
)
def test_what_cannot_be_served_is_refused_by_name(writer: Engine, fields: Any, param: str) -> None:
    found = post(writer, **fields)
    assert (found.status, found.error["param"]) == (400, param)
    assert found.error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": [1, -1]}, "prompt"),
        ({"prompt": "a", "best_of": 3}, "best_of"),
        ({"prompt": "a", "echo": True}, "echo"),
        ({"prompt": "a", "suffix": "b"}, "suffix"),
    ],
    ids=str,
)
def test_completions_that_cannot_be_served(writer: Engine, fields: Any, param: str) -> None:
    found = post(writer, "/v1/completions", **fields)
    assert (found.status, found.error["param"]) == (400, param)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b'{"model": "m", "messages": [', 400),
        (b'{"model": "m", "temperature": NaN, "messages": [{"role": "user", "content": "x"}]}', 400),
        (b'{"model": "m", "messages": [{"role": "user", "content": "\\ud800"}]}', 400),
        (b'{"model": "m", "messages": [{"role": "user", "content": "\xed\xa0\x80"}]}', 400),
        (b'{"model": "m", "messages": ' + b"[" * 100_000, 400),
        (b'{"model": "other", "messages": [{"role": "user", "content": "x"}]}', 404),
    ],
    ids=lambda value: str(value)[:60],
)
def test_bodies_that_are_no_request(writer: Engine, body: bytes, status: int) -> None:
    found = post_raw(writer, body)
    assert found.status == status
    assert found.error["message"]
    assert post(writer).status == 200


def test_a_failure_in_the_middle_of_a_stream_is_its_last_event(writer: Engine) -> None:
    stream = writer.client.chat.completions.create(model="m", messages=said("break"), stream=True)
    with pytest.raises(openai.APIError, match="lost its thread") as told:
        list(stream)
    assert told.value.code == "thread_lost"


def test_a_handler_that_raises_costs_its_request_alone(writer: Engine) -> None:
    found = post(writer, messages=said("raise"))
    assert (found.status, found.error["code"]) == (500, "engine_failure")
    assert post(writer).status == 200


def test_a_process_that_dies_costs_its_request_alone(caller: Engine) -> None:
    found = post(caller, messages=said("die"))
    assert (found.status, found.error["code"]) == (500, "engine_process_died")
    wait_until(lambda: post(caller).status == 200, seconds=60, what="it is back")


def test_what_json_has_no_words_for_is_told_and_costs_its_request_alone(writer: Engine) -> None:
    for stream in (False, True):
        found = post(writer, messages=said("odd"), stream=stream)
        assert found.status == (200 if stream else 500)
        assert b"The engine's own code is at fault: Writer" in found.body
        assert b"yielded Piece(text='', tokens=1, reasoning='', tool_calls=(ToolCall(index=" in found.body
        assert not found.body.endswith(b"[DONE]\n\n")
    assert post(writer).status == 200


@contextlib.contextmanager
def writing(engine: Engine) -> Iterator[http.client.HTTPResponse]:
    """An endless stream of which the first words are here; hangs up at the end."""
    with contextlib.closing(engine.connect()) as connection:
        body = json.dumps({"model": "m", "messages": said("on"), "stream": True})
        connection.request("POST", CHAT, body)
        response = connection.getresponse()
        assert response.status == 200
        response.readline()
        yield response


def test_a_client_that_leaves_stops_the_model_within_a_token(writer: Engine) -> None:
    before = writer.metric("cancel_seconds_count")
    slow = writer.metric("cancel_seconds_bucket", le="10.0")
    with writing(writer):
        assert writer.in_use == 1
    wait_until(lambda: writer.in_use == 0, seconds=30, what="the slot is free")
    wait_until(lambda: writer.metric("cancel_seconds_count") == before + 1, seconds=30, what="it is counted")
    assert writer.metric("cancel_seconds_bucket", le="10.0") == slow + 1  # a token takes 2 ms
    assert writer.metric("restarts_total") == 0
    assert post(writer).status == 200


def test_a_full_engine_refuses_before_the_body(caller: Engine) -> None:
    with writing(caller):
        refused = post(caller)
    assert (refused.status, refused.headers["x-roundhouse-reason"]) == (429, "full")
    assert refused.headers["x-roundhouse-load"] == "1/1"
    wait_until(lambda: caller.in_use == 0, seconds=30, what="the slot is free")


def test_a_deadline_ends_the_work(caller: Engine) -> None:
    found = caller.request(
        "POST",
        CHAT,
        json.dumps({"model": "m", "messages": said("on")}),
        {"X-Roundhouse-Deadline-Ms": "200"},
    )
    assert (found.status, found.error["code"]) == (504, "deadline_exceeded")
    wait_until(lambda: caller.in_use == 0, seconds=30, what="the slot is free")


def test_tokens_are_counted(writer: Engine) -> None:
    before = [writer.metric("tokens_total", kind=kind) for kind in ("input", "output")]
    post(writer, messages=said("a b c"), max_tokens=2)
    assert [writer.metric("tokens_total", kind=kind) for kind in ("input", "output")] == [
        before[0] + 3,
        before[1] + 2,
    ]
    assert writer.metric("first_token_seconds_count", model="m") > 0


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_tokens_of_what_was_left_are_counted(writer: Engine, *, stream: bool) -> None:
    """They were written all the same."""

    def counted() -> list[float]:
        return [writer.metric("tokens_total", kind=kind) for kind in ("input", "output")]

    (read, wrote), firsts = counted(), writer.metric("first_token_seconds_count")
    with contextlib.closing(writer.connect()) as connection:
        body = {"model": "m", "messages": said("on and on"), "stream": stream}
        connection.request("POST", CHAT, json.dumps(body))
        heard = b""
        if stream:
            response = connection.getresponse()
            heard = b"".join(response.readline() for _ in range(41))
        wait_until(lambda: writer.metric("first_token_seconds_count") > firsts, seconds=60, what="it writes")
    wait_until(lambda: writer.in_use == 0, seconds=60, what="the slot is free", every=0.02)
    pieces = heard.count(b'"content":" ')
    assert bool(pieces) is stream
    assert counted()[0] == read + 3
    assert counted()[1] >= wrote + max(pieces, 1)


def test_other_work_has_no_route(writer: Engine) -> None:
    assert post(writer, "/v1/embeddings").status == 404
    assert post(writer, "/v1/audio/transcriptions").status == 404


def test_a_drain_ends_streams_at_its_deadline(tmp_path: Any) -> None:
    with running(WRITER, tmp_path, ROUNDHOUSE_DRAIN_SECONDS="0.5") as engine:
        engine.until_ready()
        with writing(engine) as response:
            engine.terminate()
            last = [line for line in response.read().split(b"\n\n") if line][-1]
        assert json.loads(last[6:])["error"]["code"] == "engine_draining"
        assert engine.ended() == 0

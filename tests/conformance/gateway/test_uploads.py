"""Uploads pass through: at once, in flat memory, unchanged, and no longer than the client stays."""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from statistics import median

import pytest

from tests.conformance.gateway import scripted_engine as scripts
from tests.conformance.gateway.client import (
    BOUNDARY,
    FORM_TYPE,
    answer_on,
    field,
    file,
    form,
    random_audio,
    start_upload,
)
from tests.conformance.gateway.conftest import World
from tests.conformance.gateway.manifests import Variant
from tests.support.waiting import wait_until

MODEL = field("model", "whisper")
PIECE = random_audio(1 << 20)
PIECES = 200
RSS_BOUND_MIB = 40

Start = Callable[[Mapping[str, str]], World]


def large(model_first: bool) -> Iterator[bytes]:
    head, tail = file(b"").split(b"\r\n\r\n", 1)
    yield (MODEL if model_first else b"") + head + b"\r\n\r\n"
    for _ in range(PIECES):
        yield PIECE
    yield tail + (b"" if model_first else MODEL) + form()


def digest_of_large() -> str:
    digest = hashlib.sha256()
    for _ in range(PIECES):
        digest.update(PIECE)
    return digest.hexdigest()


@pytest.mark.parametrize("model_first", [True, False], ids=["model-first", "file-first"])
def test_200_mib_leave_the_gateways_memory_flat(own_world: Start, model_first: bool) -> None:
    world = own_world({"ENGINE_IDLE_SECONDS": "60", "CLIENT_IDLE_SECONDS": "60"})
    engine = world.serve(Variant("whisper"))
    assert world.gateway.transcribe(MODEL, file()).status == 200
    before = world.gateway.rss_mib()
    reply = world.gateway.request("POST", "/v1/audio/transcriptions", large(model_first), FORM_TYPE)
    assert reply.status == 200
    assert world.gateway.rss_mib() - before < RSS_BOUND_MIB
    received = engine.requests[-1]
    assert received.file_size == PIECES * len(PIECE)
    assert received.file_sha256 == digest_of_large()
    assert world.gateway.metric("roundhouse_gateway_upload_bytes_total") > received.file_size


def test_the_engine_has_the_first_bytes_while_the_client_still_sends(world: World) -> None:
    engine = world.serve(Variant("whisper"))
    body = file(b"first half") + form()
    with start_upload(world.gateway.port, MODEL, total=len(MODEL) + len(body)) as connection:
        connection.sendall(body[:-30])
        wait_until(lambda: engine.requests, seconds=30, what="the engine has the request", every=0.01)
        assert not engine.requests[0].complete
        connection.sendall(body[-30:])
        with answer_on(connection) as response:
            assert response.status == 200


@pytest.mark.req("S2-22")
def test_a_client_that_leaves_in_the_middle_of_its_upload_takes_the_engine_along(world: World) -> None:
    engine = world.serve(Variant("whisper"))
    with start_upload(world.gateway.port, MODEL, total=10_000_000) as connection:
        connection.sendall(file(b"x" * 100_000)[:-10])
        wait_until(lambda: engine.requests, seconds=30, what="the engine has the request", every=0.01)
    wait_until(lambda: engine.gone, seconds=30, what="the engine was told", every=0.01)
    assert not engine.requests[0].complete


@pytest.mark.req("S2-22")
def test_the_engine_hears_within_a_tenth_of_a_second_that_its_client_left(world: World) -> None:
    engine = world.serve(Variant("whisper"))
    engine.answer = scripts.never
    body = file(b"x" * 1000) + form()
    took = []
    for number in range(15):
        with start_upload(world.gateway.port, MODEL, total=len(MODEL) + len(body)) as connection:
            connection.sendall(body)
            asked = partial(
                lambda count: len(engine.requests) > count and engine.requests[-1].complete, number
            )
            wait_until(asked, seconds=30, what="it is sent", every=0.005)
            left = time.monotonic()
        told = partial(lambda count: len(engine.gone) > count, number)
        wait_until(told, seconds=30, what="the engine was told", every=0.005)
        took.append(engine.gone[-1] - left)
    assert median(took) < 0.1, took  # mostly it is one millisecond; some wait for the processor


@pytest.mark.req("S2-22")
def test_a_client_that_leaves_while_it_waits_takes_the_engine_along(world: World) -> None:
    engine = world.serve(Variant("whisper"))
    engine.answer = scripts.never
    body = file(b"x" * 1000) + form()
    with start_upload(world.gateway.port, MODEL, total=len(MODEL) + len(body)) as connection:
        connection.sendall(body)
        wait_until(
            lambda: engine.requests and engine.requests[0].complete, seconds=30, what="it is sent", every=0.01
        )
    wait_until(lambda: engine.gone, seconds=30, what="the engine was told", every=0.005)
    assert wait_until(
        lambda: world.gateway.metric("roundhouse_gateway_requests_total", code="499"),
        seconds=30,
        what="it is counted",
    )
    wait_until(
        lambda: world.gateway.metric("roundhouse_gateway_in_flight_requests") == 0,
        seconds=30,
        what="the request is over",
    )


@pytest.mark.impatient
def test_a_client_that_takes_nothing_of_its_answer_is_cut_off(world: World) -> None:
    engine = world.serve(Variant("whisper"))
    engine.answer = scripts.answering_at_length(100 << 20)
    body = file(b"x" * 1000) + form()
    with start_upload(world.gateway.port, MODEL, total=len(MODEL) + len(body)) as connection:
        connection.sendall(body)
        wait_until(lambda: engine.gone, seconds=60, what="the engine is let go")
        wait_until(
            lambda: world.gateway.metric("roundhouse_gateway_in_flight_requests") == 0,
            seconds=30,
            what="the request is over",
        )


def test_unknown_fields_and_odd_names_pass_as_they_are(world: World) -> None:
    engine = world.serve(Variant("whisper"))
    odd = 'f\u00fcnf "%22" ;=.wav'
    quoted = odd.replace('"', "%22")
    part = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{quoted}"\r\n\r\naudio\r\n'
    ).encode()
    reply = world.gateway.transcribe(field("x-vendor[a]", "1"), MODEL, part, field("known_names[]", "\u00e4"))
    assert reply.status == 200
    (received,) = engine.requests
    assert received.fields == [("model", "engine-whisper"), ("x-vendor[a]", "1"), ("known_names[]", "\u00e4")]
    assert received.file_type == "application/octet-stream"
    assert received.filename is not None

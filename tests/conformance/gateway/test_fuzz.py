"""Forms that nobody would write: whatever comes, the gateway answers in shape, and serves on."""

from typing import Final

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conformance.gateway.client import BOUNDARY, FORM_TYPE, Reply, field, file, form
from tests.conformance.gateway.conftest import World
from tests.conformance.gateway.manifests import Variant
from tests.conformance.gateway.scripted_engine import Received
from tests.support.torn import Cut, cuts, pieces_of_forms, torn

WHISPER: Final = Variant("whisper", languages=("en",))
MODEL: Final = field("model", "whisper")
PATH: Final = "/v1/audio/transcriptions"
FUZZ: Final = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


async def swallow(request: web.Request, received: Received) -> web.StreamResponse:
    async for _ in request.content.iter_any():
        pass
    return web.json_response({"text": "heard"})


def post(world: World, body: bytes, kind: str = FORM_TYPE["Content-Type"]) -> Reply:
    return world.gateway.request("POST", PATH, body, {"Content-Type": kind})


def in_shape(reply: Reply) -> None:
    """An answer, or the client's fault told in the one shape."""
    if reply.status != 200:
        assert 400 <= reply.status < 500, reply
        assert reply.error["message"]


@FUZZ
@given(
    where=cuts(600, pieces_of_forms(BOUNDARY)),
    file_first=st.booleans(),
)
def test_forms_with_pieces_put_in_and_torn_out(world: World, where: list[Cut], *, file_first: bool) -> None:
    if not world.engines:
        engine = world.serve(WHISPER)
        engine.read, engine.answer = False, swallow
    parts = (MODEL, field("language", "en"), file(b"RIFF" * 20), field("prompt", "a b"))
    body = form(*(parts[2], *parts[:2], parts[3]) if file_first else parts)
    in_shape(post(world, torn(body, where)))


@FUZZ
@given(kind=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=80))
def test_types_of_bodies(world: World, kind: str) -> None:
    in_shape(post(world, form(MODEL, file()), kind.strip()))
    in_shape(post(world, form(MODEL, file()), f"multipart/form-data; boundary={kind}"))


@FUZZ
@given(values=st.lists(st.binary(max_size=300), min_size=1, max_size=6), late=st.integers(0, 6))
def test_what_the_gateway_does_not_know_reaches_the_engine_as_it_was(
    world: World, values: list[bytes], late: int
) -> None:
    engine = world.engines[0] if world.engines else world.serve(WHISPER)

    def part(number: int, value: bytes) -> bytes:
        return field(f"x-{number}", "").removesuffix(b"\r\n") + value + b"\r\n"

    usable = [value for value in values if value and b"--" not in value]  # empty counts as left out
    sent = [part(number, value) for number, value in enumerate(usable)]
    seen, engine.read = len(engine.requests), False
    raw: list[bytes] = []

    async def keep(request: web.Request, received: Received) -> web.StreamResponse:
        raw.append(await request.read())
        return web.json_response({"text": "heard"})

    engine.answer = keep
    assert post(world, form(MODEL, *sent[:late], file(), *sent[late:])).status == 200
    assert len(engine.requests) == seen + 1
    for number, value in enumerate(usable):
        assert f'name="x-{number}"'.encode() in raw[0]
        assert b"\r\n\r\n" + value + b"\r\n" in raw[0]


@pytest.mark.parametrize(
    "body",
    [
        form(MODEL, *[field(f"f{number}", "x") for number in range(100_000)], file()),
        form(field("prompt", "x" * 10_000_000), MODEL, file()),
        form(MODEL, field("x" * 1_000_000, "y"), file()),
        form(MODEL, file(filename="y" * 1_000_000)),
        form(MODEL, file()) + b"\r\n" * 1_000_000,
        f"--{BOUNDARY}\r\n".encode() * 200_000,
        f"--{BOUNDARY}\r\n{'X: y' * 300_000}\r\n\r\n".encode(),
        b"\r\n" * 2_000_000 + form(MODEL, file()),
        form(field("model", "").removesuffix(b"\r\n") + b"\xff\xfe\r\n", file()),
        form(field("language", "").removesuffix(b"\r\n") + b"\xc3(\r\n", MODEL, file()),
        form(field("model", "{" * 60_000), file()),
    ],
    ids=["fields", "value", "name", "filename", "after", "beginnings", "header", "before", "utf-8",
         "utf-8-language", "model"],
)  # fmt: skip
def test_forms_beyond_all_measure(world: World, body: bytes) -> None:
    engine = world.serve(WHISPER)
    engine.read, engine.answer = False, swallow
    before = world.gateway.rss_mib()
    in_shape(post(world, body))
    assert world.gateway.rss_mib() - before < 40
    assert post(world, form(MODEL, file())).status == 200

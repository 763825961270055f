"""Upstreams that ask for a key, over TLS: a real HTTPS server, and clients that never see the key."""

import asyncio
import json
import ssl
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import WSMsgType, web
from elevenlabs import ElevenLabs

from roundhouse_api.realtime import PATH, SessionBegin, SessionEnd, write
from roundhouse_gateway.realtime.wire import BINARY, masked
from tests.conformance.engine.streaming import streaming
from tests.conformance.gateway import text_engine as scripts
from tests.conformance.gateway.client import Reply, field, file, random_audio
from tests.conformance.gateway.conftest import World
from tests.conformance.gateway.manifests import NAMESPACE, Manifest, Variant, upstream
from tests.conformance.gateway.scripted_engine import Answer, Received, ScriptedEngine, transcript
from tests.conformance.gateway.test_front import certify
from tests.support.waiting import wait_until

KEY = "sk-hosted-0123456789abcdef"
NEXT_KEY = "sk-hosted-after-rotation"
SPEECH = Variant(
    "speech",
    engine="elsewhere",
    backend="Upstream",
    interfaces=("Batch", "Realtime"),
    streaming="Native",
    model_name="whisper-1",
)
CHAT = Variant(
    "gpt",
    stage="Chat",
    languages=None,
    engine="talker",
    backend="Upstream",
    dialect="OpenAI",
    model_name="gpt-4o",
)
EMBED = Variant(
    "vectors", stage="Embed", languages=None, engine="embedder", backend="Upstream", dialect="OpenAI"
)
JSON = {"Content-Type": "application/json"}


def secret(key: str = KEY, **labels: str) -> Manifest:
    labels = labels or {"credential": "upstream"}
    named = {f"roundhouse.dev/{name}": value for name, value in labels.items()}
    metadata = {"name": "hosted", "namespace": NAMESPACE, "labels": named}
    return {"metadata": metadata, "data": {"token": b64encode(f"{key}\n".encode()).decode()}}


def authority(pem: str) -> Manifest:
    return {"metadata": {"name": "own-ca", "namespace": NAMESPACE}, "data": {"ca.crt": pem}}


@dataclass
class Hosted:
    """A service that answers whoever shows the key, over TLS with a certificate that nobody knows."""

    world: World
    engine: ScriptedEngine
    certificate: str
    key: str = KEY
    log_before: int = 0

    def logged(self, says: str) -> None:
        """Waits until the gateway says so, in this test."""
        wait_until(
            lambda: says in self.world.gateway.log_path.read_text()[self.log_before :],
            seconds=50,
            what=f"it says {says!r}",
            every=0.05,
        )

    def publish(self, *variants: Variant, **members: Any) -> None:
        """Engines and variants for it; `members` are the upstream's."""
        refs: Manifest = {
            "apiKeySecretRef": {"name": "hosted", "key": "token"},
            "caConfigMapRef": {"name": "own-ca", "key": "ca.crt"},
            **members,
        }
        for each in variants:
            manifest = upstream(f"{self.engine.url}/v1", each.engine, **refs)
            manifest["spec"] |= {"stage": each.stage, "interfaces": list(each.interfaces)}
            self.world.api.put("engines", manifest)
            self.world.api.put("modelvariants", each.manifest())

    async def answer(self, request: web.Request, received: Received) -> web.StreamResponse:
        if received.headers.get("authorization") != f"Bearer {self.key}":
            said = f"Incorrect API key provided: {received.headers.get('authorization')}"
            return web.json_response(
                {"error": {"message": said, "type": "invalid_request_error"}}, status=401
            )
        answers: dict[str, Answer] = {
            "/v1/embeddings": scripts.embeddings(),
            "/v1/chat/completions": scripts.chat,
        }
        return await answers.get(request.path, transcript)(request, received)

    def shown(self) -> set[str | None]:
        """The keys that came with requests."""
        return {each.headers.get("authorization") for each in self.engine.requests}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return certify(tmp_path_factory.mktemp("hosted"), 1)


def hosted_by(world: World, certificate: tuple[Path, Path]) -> Iterator[Hosted]:
    """One with its key and its certificate known to the cluster; at the end the log is searched."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(*certificate)
    before = len(world.gateway.log_path.read_text())
    made = Hosted(world, world.engine(tls), certificate[0].read_text(), log_before=before)
    made.engine.answer, made.engine.talk = made.answer, heard
    world.api.put("secrets", secret())
    world.api.put("configmaps", authority(made.certificate))
    yield made
    log = world.gateway.log_path.read_text()
    assert [key for key in (KEY, NEXT_KEY) if key in log] == [], "a key is in the log"


@pytest.fixture
def hosted(world: World, certificate: tuple[Path, Path]) -> Iterator[Hosted]:
    yield from hosted_by(world, certificate)


@pytest.fixture
def hosted_either(either_world: World, certificate: tuple[Path, Path]) -> Iterator[Hosted]:
    yield from hosted_by(either_world, certificate)


async def heard(request: web.Request, socket: web.WebSocketResponse) -> None:
    """A session that is ended when its first audio has come."""
    begin = {"session_id": "s", "model": "whisper-1", "language": None, "encoding": "pcm_s16le"}
    flags = {"interim_results": True, "word_timestamps": False, "vad": True}
    begun = SessionBegin.model_validate(
        {"type": "session.begin", "lag_ms": 0, "version": 1, "sample_rate": 16_000, **begin, **flags}
    )
    await socket.send_str(write(begun))
    assert (await socket.receive()).type is WSMsgType.BINARY
    await socket.send_str(write(SessionEnd(type="session.end", lag_ms=0, reason="end", audio_seconds=0.1)))
    await socket.close(code=1000)


def chat(world: World, model: str = "gpt", **members: Any) -> Reply:
    body = json.dumps({"model": model, "messages": [], **members}).encode()
    return world.gateway.request("POST", "/v1/chat/completions", body, JSON)


def wait_for(hosted: Hosted, model: str, status: str) -> None:
    """Keys are looked at every few seconds."""
    wait_until(
        lambda: hosted.world.gateway.get(f"/v1/models/{model}").json.get("status") == status,
        seconds=50,
        what=f"{model} is {status}",
        every=0.05,
    )


@pytest.mark.req("S2-28")
async def test_every_route_shows_the_key_and_never_a_clients(hosted_either: Hosted) -> None:
    hosted, world = hosted_either, hosted_either.world
    hosted.publish(SPEECH, CHAT, EMBED)
    for each in (SPEECH, CHAT, EMBED):
        wait_for(hosted, each.id, "running")
    taken = world.gateway.metric("roundhouse_gateway_fast_lane_requests_total")
    client = world.gateway.openai()
    for _ in range(3):
        said = client.chat.completions.create(model="gpt", messages=[{"role": "user", "content": "?"}])
        assert said.choices[0].message.content == "".join(scripts.WORDS)
    pieces = client.chat.completions.create(model="gpt", messages=[], stream=True)
    assert [each.model for each in pieces]
    assert len(client.embeddings.create(model="vectors", input="x").data) == 1
    audio = ("a.wav", random_audio(300_000))
    assert client.audio.transcriptions.create(model="speech", file=audio).text
    with httpx.Client(timeout=60) as connections:
        root = world.gateway.base_url.removesuffix("/v1")
        eleven = ElevenLabs(base_url=root, api_key="xi-of-the-client", httpx_client=connections)
        assert eleven.speech_to_text.convert(model_id="scribe_v1", file=audio) is not None
    async with streaming(world.gateway.port, {"model": "speech"}, headers={"xi-api-key": "xi-2"}) as stream:
        assert (await stream.next()).type == "session.begin"
        await stream.send(bytes(3200))
        await stream.rest()
    assert hosted.shown() == {f"Bearer {KEY}"}
    sent = "\n".join(str(each.headers) + str(each.fields) + each.path for each in hosted.engine.requests)
    for clients_own in ("sk-test-secret", "xi-of-the-client", "xi-2", "xi-api-key"):
        assert clients_own not in sent
    lane = world.gateway.metric("roundhouse_gateway_fast_lane_requests_total") - taken
    assert lane >= 2 if world.fast else lane == 0


async def test_a_key_may_stand_in_a_header_of_the_upstream_s_own(hosted: Hosted) -> None:
    hosted.publish(CHAT, SPEECH, apiKeyHeader="Api-Key")
    wait_for(hosted, "gpt", "running")
    wait_for(hosted, "speech", "running")
    for reply in (chat(hosted.world), hosted.world.gateway.transcribe(field("model", "speech"), file())):
        assert reply.status == 502, "it knows bearer tokens alone"
    async with streaming(hosted.world.gateway.port, {"model": "speech"}) as stream:
        assert (await stream.next()).type == "session.begin"
    assert [each.headers.get("api-key") for each in hosted.engine.requests] == [KEY] * 3
    assert hosted.shown() == {None}


def test_a_new_key_is_shown_without_a_restart(hosted: Hosted) -> None:
    hosted.publish(CHAT)
    wait_for(hosted, "gpt", "running")
    assert chat(hosted.world).status == 200
    hosted.key = NEXT_KEY
    refused = chat(hosted.world)
    assert (refused.status, refused.error["code"]) == (502, "engine_failed")
    assert "`upstream.apiKeySecretRef` may be wrong" in refused.error["message"]
    assert KEY.encode() not in refused.body
    hosted.world.api.put("secrets", secret(NEXT_KEY))
    wait_until(lambda: chat(hosted.world).status == 200, seconds=50, what="the new key is shown", every=0.05)
    hosted.world.api.delete("secrets", NAMESPACE, "hosted")
    wait_for(hosted, "gpt", "available")
    gone = chat(hosted.world)
    assert (gone.status, gone.error["code"]) == (503, "upstream_not_accessible")
    assert "Secret" not in gone.error["message"], "what it is called is no business of a client"
    hosted.logged("Secret 'hosted' does not exist")
    assert gone.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (secret(credential="weights"), "Secret 'hosted' lacks the label roundhouse.dev/credential: upstream"),
        (secret("two words"), "Secret 'hosted': what is under 'token' is no key"),
        (secret() | {"data": {"other": "eA=="}}, "Secret 'hosted' has nothing under 'token'"),
        (
            authority("-----BEGIN CERTIFICATE-----"),
            "ConfigMap 'own-ca': what is under 'ca.crt' is no certificate",
        ),
    ],
    ids=["label", "words", "member", "certificate"],
)
def test_what_is_of_no_use_is_named(changed: Manifest, says: str, hosted: Hosted) -> None:
    hosted.world.api.put("configmaps" if "ca.crt" in changed["data"] else "secrets", changed)
    hosted.publish(CHAT, SPEECH)
    hosted.world.wait_for("gpt", "available")

    def told() -> Reply:
        return chat(hosted.world)

    hosted.logged(says)
    assert told().error["code"] == "upstream_not_accessible"
    unnamed = hosted.world.gateway.transcribe(file())
    assert unnamed.error["code"] == "no_engine_available", "`auto` leaves it alone"
    assert hosted.engine.requests == []


@pytest.mark.parametrize(
    ("plural", "what", "value"),
    [
        ("secrets", "Secret 'hosted'", "gateway.upstreamSecrets"),
        ("configmaps", "ConfigMap 'own-ca'", "gateway.upstreamConfigMaps"),
    ],
)
def test_without_the_right_to_read_it_says_which_value_gives_it(
    plural: str, what: str, value: str, hosted: Hosted
) -> None:
    hosted.world.api.state.forbidden.add(plural)
    try:
        hosted.publish(CHAT)
        said = f"{what} may not be read: put its name into `{value}` of the chart's values"
        hosted.world.wait_for("gpt", "available")
        hosted.logged(said)
        assert chat(hosted.world).error["code"] == "upstream_not_accessible"
    finally:
        hosted.world.api.state.forbidden.clear()


def test_a_stranger_with_its_address_is_not_shown_the_key(hosted: Hosted) -> None:
    hosted.publish(CHAT, SPEECH, caConfigMapRef=None)
    wait_for(hosted, "gpt", "running")
    wait_for(hosted, "speech", "running")
    for reply in (chat(hosted.world), hosted.world.gateway.transcribe(field("model", "speech"), file())):
        assert (reply.status, reply.error["code"]) == (503, "engine_unreachable")
        assert (
            "the certificate of its upstream is not trusted: self-signed certificate"
            in reply.error["message"]
        )
    assert hosted.engine.requests == []


def test_what_it_says_of_the_key_is_blotted_out(hosted: Hosted) -> None:
    async def telling(request: web.Request, received: Received) -> web.StreamResponse:
        said = f"You exceeded the quota of {received.headers['authorization']}."
        error = {"error": {"message": said, "type": "tokens", "code": "quota"}}
        if received.body and received.json.get("stream"):
            return await scripts.stream(request, [scripts.frame(error), f"data: {said}".encode()])
        if ("stream", "true") in received.fields:
            whole = f"data: {json.dumps(error | {'type': 'error'})}\n\n".encode()
            middle = whole.index(KEY.encode()) + 7
            return await scripts.stream(request, [whole[:middle], whole[middle:]], pause=0.05)
        return web.json_response(error, status=429, headers={"X-Quota-Of": received.headers["authorization"]})

    hosted.publish(CHAT, SPEECH)
    wait_for(hosted, "gpt", "running")
    wait_for(hosted, "speech", "running")
    assert chat(hosted.world).status == 200, "a connection is kept for the fast lane"
    hosted.engine.answer = telling
    spoken = hosted.world.gateway.transcribe(field("model", "speech"), file())
    for reply in (chat(hosted.world), spoken):
        assert reply.status == 429
        assert reply.error["message"] == "You exceeded the quota of Bearer ***."
        assert reply.headers["x-quota-of"] == "Bearer ***"
    spoken = hosted.world.gateway.transcribe(field("model", "speech"), field("stream", "true"), file())
    for streamed in (chat(hosted.world, stream=True), spoken):
        assert b"Bearer ***" in streamed.body
        assert KEY.encode() not in streamed.body


async def test_what_it_says_of_the_key_in_a_session_is_blotted_out(hosted: Hosted) -> None:
    """In its first event, in one that passes as it is, and in the reason of its end."""

    async def telling(request: web.Request, socket: web.WebSocketResponse) -> None:
        shown = request.headers["authorization"]
        await socket.send_str(json.dumps({"type": "session.begin", "of": shown}))
        assert (await socket.receive()).type is WSMsgType.BINARY
        await socket.send_str(json.dumps({"type": "transcript.final", "text": shown}))
        await socket.close(code=4010, message=f"the quota of {shown} is used up".encode())

    hosted.engine.talk = telling
    hosted.publish(SPEECH)
    wait_for(hosted, "speech", "running")
    head = (
        f"GET {PATH}?model=speech HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: MDEyMzQ1Njc4OTAxMjM0NQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()
    async with asyncio.timeout(50):
        reader, writer = await asyncio.open_connection("127.0.0.1", hosted.world.gateway.port)
        writer.write(head)
        said = await reader.readuntil(b"session.begin")
        writer.write(masked(BINARY, bytes(3200)))
        said += await reader.readuntil(b"is used up")
        writer.close()
    assert said.count(b"Bearer ***") == 3
    assert KEY.encode() not in said

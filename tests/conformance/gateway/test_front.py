"""What stands before the routes: proxies, pages of other origins, TLS, traces."""

import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from roundhouse_gateway.handshakes import BEYOND
from tests.conformance.gateway import client, text_engine
from tests.conformance.gateway import scripted_engine as scripts
from tests.conformance.gateway.conftest import World, a_world
from tests.conformance.gateway.loop_thread import LoopThread
from tests.conformance.gateway.manifests import Variant
from tests.conformance.gateway.process import kubeconfig_for, launch
from tests.support import servers
from tests.support.waiting import wait_until

Start = Callable[[Mapping[str, str]], World]
WHISPER = Variant("whisper")
CHAT = Variant("qwen", stage="Chat", languages=None)
MODEL = client.field("model", "whisper")
TALK = b'{"model": "qwen", "messages": []}'
APP = "https://app.example.com"


def clients_logged(world: World, route: str) -> list[str]:
    return [line["client"] for line in world.gateway.log() if line.get("route") == route]


def ask_from(world: World, forwarded: str, number: int) -> str:
    """The client that the log names for one more request."""
    world.gateway.request("GET", "/v1/engines", headers={"X-Forwarded-For": forwarded})
    wait_until(
        lambda: len(clients_logged(world, "/v1/engines")) > number,
        seconds=10,
        what="it is logged",
        every=0.02,
    )
    return clients_logged(world, "/v1/engines")[number]


def test_a_stranger_does_not_say_where_it_comes_from(world: World) -> None:
    before = len(clients_logged(world, "/v1/engines"))
    assert ask_from(world, "203.0.113.9", before) == "127.0.0.1"


def test_trusted_proxies_say_who_the_client_is(own_world: Start) -> None:
    world = own_world({"TRUSTED_PROXIES": "127.0.0.0/8, 10.0.0.0/8,fd00::/8"})
    cases = {
        "203.0.113.9": "203.0.113.9",
        "203.0.113.9, 10.1.2.3": "203.0.113.9",
        "6.6.6.6, 203.0.113.9, 10.1.2.3, fd00::1": "203.0.113.9",
        "[2001:db8::7]:4711, 10.1.2.3:99": "2001:db8::7",
        "10.1.1.1, 10.1.2.3": "10.1.1.1",
        "6.6.6.6, unknown, 10.1.2.3": "10.1.2.3",
        "": "127.0.0.1",
        'x"\\forged': "127.0.0.1",
    }
    before = len(clients_logged(world, "/v1/engines"))  # asked while it was waited for
    found = {sent: ask_from(world, sent, before + number) for number, sent in enumerate(cases)}
    assert found == cases


PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,xi-api-key,content-type,x-stainless-os",
}


@pytest.fixture(scope="module")
def open_to_pages(loop_thread: LoopThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    settings = {"CORS_ORIGINS": f"{APP},http://localhost:3000", "KEYS_NAMESPACE": "keys"}
    with a_world(loop_thread, tmp_path_factory.mktemp("pages"), settings) as made:
        yield made


def test_a_page_asks_beforehand_and_needs_no_key_for_that(open_to_pages: World) -> None:
    reply = open_to_pages.gateway.request(
        "OPTIONS", "/v1/audio/transcriptions", headers={"Origin": APP, **PREFLIGHT}
    )
    assert (reply.status, reply.body) == (204, b"")
    assert reply.headers["access-control-allow-origin"] == APP
    assert "POST" in reply.headers["access-control-allow-methods"]
    for name in ("authorization", "xi-api-key", "content-type"):
        assert name in reply.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in reply.headers


def test_a_page_of_an_allowed_origin_reads_answers_and_refusals(open_to_pages: World) -> None:
    reply = open_to_pages.gateway.request("GET", "/v1/models", headers={"Origin": APP})
    assert (reply.status, reply.error["code"]) == (401, "missing_api_key")
    assert reply.headers["access-control-allow-origin"] == APP
    assert reply.headers["vary"] == "Origin"
    exposed = reply.headers["access-control-expose-headers"]
    for name in ("x-request-id", "x-roundhouse-model", "retry-after", "x-ratelimit-remaining-requests"):
        assert name in exposed


def test_a_page_of_another_origin_is_not_told_that_it_may(open_to_pages: World) -> None:
    headers = {"Origin": "https://evil.example.com"}
    refused = open_to_pages.gateway.request("OPTIONS", "/v1/models", headers={**headers, **PREFLIGHT})
    assert (refused.status, refused.error["code"]) == (403, "origin_not_allowed")
    plain = open_to_pages.gateway.request("GET", "/v1/models", headers=headers)
    for reply in (refused, plain):
        assert not [name for name in reply.headers if name.startswith("access-control-")]


@pytest.mark.parametrize(
    ("origin", "host", "status"),
    [
        ("http://evil.example", "models.example", 403),
        ("null", "models.example", 403),
        ("http://models.example", "models.example", 200),
        ("", "models.example", 200),
    ],
)
def test_where_no_key_is_asked_for_pages_of_other_origins_have_nothing_computed(
    origin: str, host: str, status: int, world: World
) -> None:
    speech, chat = world.serve(WHISPER), world.serve(CHAT)
    chat.answer = text_engine.chat
    headers = {"Host": host, **({"Origin": origin} if origin else {})}
    form = world.gateway.transcribe(MODEL, client.file(), headers=headers)
    text = world.gateway.request("POST", "/v1/chat/completions", TALK, headers)
    secret = world.gateway.request("POST", "/v1/realtime/client_secrets", b"{}", headers)
    assert [form.status, text.status, secret.status] == [status] * 3
    assert world.gateway.request("GET", "/v1/models", None, headers).status == 200, "which no page can read"
    if status == 403:
        assert {each.error["code"] for each in (form, text, secret)} == {"origin_not_allowed"}
        assert len(speech.requests) + len(chat.requests) == 0


def test_pages_that_are_named_may_ask_where_no_key_is_asked_for(own_world: Start) -> None:
    world = own_world({"CORS_ORIGINS": APP})
    world.serve(CHAT).answer = text_engine.chat
    replies = [
        world.gateway.request("POST", "/v1/chat/completions", TALK, {"Origin": origin})
        for origin in (APP, "http://evil.example")
    ]
    assert [each.status for each in replies] == [200, 403]
    assert replies[0].headers["access-control-allow-origin"] == APP


def test_an_engine_does_not_open_the_gateway_to_pages(world: World) -> None:
    world.serve(WHISPER).answer = scripts.answering(
        200, {"text": "x"}, {"Access-Control-Allow-Origin": "*", "X-Engine": "kept"}
    )
    own = f"http://127.0.0.1:{world.gateway.port}"
    reply = world.gateway.transcribe(MODEL, client.file(), headers={"Origin": own})
    assert reply.headers["x-engine"] == "kept"
    assert not [name for name in reply.headers if name.startswith("access-control-")]


def certify(folder: Path, serial: int) -> tuple[Path, Path]:
    """A certificate for loopback, in the place where the last one was."""
    made = [folder / f"{serial}.{name}" for name in ("crt", "key")]
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
            ),
            *("-subj", "/CN=gateway", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"),
            *("-set_serial", str(serial), "-out", made[0], "-keyout", made[1]),
        ],
        check=True,
        capture_output=True,
    )
    return made[0].replace(folder / "tls.crt"), made[1].replace(folder / "tls.key")


def served_serial(world: World, folder: Path) -> int:
    trusting = ssl.create_default_context(cafile=folder / "tls.crt")
    with (
        socket.create_connection(("127.0.0.1", world.gateway.port), timeout=60) as plain,
        trusting.wrap_socket(plain, server_hostname="127.0.0.1") as secured,
    ):
        found = secured.getpeercert()
        assert found
        return int(str(found["serialNumber"]), 16)


def test_tls_and_a_certificate_that_is_renewed(own_world: Start, tmp_path: Path) -> None:
    cert, key = certify(tmp_path, 1)
    world = own_world({"TLS_CERT_FILE": str(cert), "TLS_KEY_FILE": str(key)})
    world.serve(WHISPER)
    assert world.gateway.transcribe(MODEL, client.file(client.random_audio(3_000_000))).status == 200
    assert served_serial(world, tmp_path) == 1
    key.write_text("half-written")
    wait_until(
        lambda: "cannot be taken up" in world.gateway.log_path.read_text(), seconds=30, what="it is told"
    )
    assert world.gateway.get("/v1/models").status == 200, "the old one serves on"
    certify(tmp_path, 2)

    def renewed() -> bool:
        try:
            return served_serial(world, tmp_path) == 2
        except ssl.SSLError:
            return False

    wait_until(renewed, seconds=30, what="the new certificate is served", every=0.2)


def test_over_tls_what_is_no_http_is_refused_in_the_one_shape(own_world: Start, tmp_path: Path) -> None:
    cert, key = certify(tmp_path, 1)
    world = own_world({"TLS_CERT_FILE": str(cert), "TLS_KEY_FILE": str(key)})
    trusting = ssl.create_default_context(cafile=cert)
    with (
        socket.create_connection(("127.0.0.1", world.gateway.port), timeout=60) as plain,
        trusting.wrap_socket(plain, server_hostname="127.0.0.1") as secured,
    ):
        secured.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"y" * 100_000 + b"\r\n\r\n")
        answer = b""
        while b"headers_too_large" not in answer and (more := secured.recv(65536)):
            answer += more
    assert answer.startswith(b"HTTP/1.1 431 ")
    with socket.create_connection(("127.0.0.1", world.gateway.port), timeout=60) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert not plain.recv(65536).startswith(b"HTTP/1.1 200")


def test_over_tls_who_never_shakes_hands_is_counted_and_bounded(own_world: Start, tmp_path: Path) -> None:
    cert, key = certify(tmp_path, 1)
    files = {"TLS_CERT_FILE": str(cert), "TLS_KEY_FILE": str(key)}
    world = own_world({**files, "HEADER_SECONDS": "5", "CONNECTION_LIMIT": "5"})
    gateway = world.gateway
    address = ("127.0.0.1", gateway.port)
    silent = [socket.create_connection(address, timeout=40) for _ in range(5 + BEYOND + 1)]
    try:
        assert silent[-1].recv(1) == b"", "one too many is not even waited for"
        held = gateway.metric("roundhouse_gateway_connections")
        assert 5 < held <= 5 + BEYOND
        for each in silent:
            assert each.recv(1) == b""
    finally:
        for each in silent:
            each.close()
    wait_until(
        lambda: gateway.metric("roundhouse_gateway_connections") == 0, seconds=20, what="none is counted"
    )
    before = len(clients_logged(world, "/v1/engines"))
    assert ask_from(world, "203.0.113.9", before) == "127.0.0.1"

    def answered() -> int:
        """408 where this process paused for as long as a head may take."""
        with pytest.raises(InvalidStatus) as refused:
            connect(f"wss://127.0.0.1:{gateway.port}/nowhere", ssl=gateway.tls, proxy=None, open_timeout=60)
        return refused.value.response.status_code

    wait_until(lambda: answered() == 404, seconds=20, what="it is told that there is no such route")
    with socket.create_connection(address):
        assert gateway.stop(60) == 0
    assert "Traceback" not in gateway.log_path.read_text()


TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("sent", "reaches"),
    [
        ({"traceparent": PARENT, "tracestate": "a=1,b=2"}, {"traceparent": PARENT, "tracestate": "a=1,b=2"}),
        ({"traceparent": PARENT}, {"traceparent": PARENT}),
        ({"traceparent": PARENT + "x", "tracestate": "a=1"}, {}),
        ({"traceparent": "00-" + "0" * 32 + "-b7ad6b7169203331-01"}, {}),
        ({"tracestate": "a=1"}, {}),
    ],
)
def test_a_trace_goes_on_to_the_engine(world: World, sent: dict[str, str], reaches: dict[str, str]) -> None:
    engine = world.serve(WHISPER)
    assert world.gateway.transcribe(MODEL, client.file(), headers=sent).status == 200
    (received,) = engine.requests
    names = ("traceparent", "tracestate")
    assert {name: received.headers[name] for name in names if name in received.headers} == reaches


def test_a_trace_goes_on_with_json_too(world: World) -> None:
    engine = world.serve(Variant("chatty", stage="Chat"))
    engine.answer = text_engine.chat
    body = b'{"model": "chatty", "messages": [{"role": "user", "content": "x"}]}'
    sent = {"traceparent": PARENT, "Content-Type": "application/json"}
    assert world.gateway.request("POST", "/v1/chat/completions", body, sent).status == 200
    assert engine.requests[0].headers["traceparent"] == PARENT


class Collector:
    """Takes spans by OTLP over HTTP."""

    def __init__(self, thread: LoopThread) -> None:
        self._thread = thread
        self.spans: list[Any] = []
        app = web.Application()
        app.router.add_post("/v1/traces", self._take)
        self._runner = web.AppRunner(app)
        thread.run(self._start())

    async def _start(self) -> None:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()

    async def _take(self, request: web.Request) -> web.Response:
        sent = ExportTraceServiceRequest.FromString(await request.read())
        self.spans += [span for one in sent.resource_spans for two in one.scope_spans for span in two.spans]
        return web.Response(content_type="application/x-protobuf")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    def close(self) -> None:
        self._thread.run(servers.end(self._runner))


def test_spans_are_exported_where_a_collector_is_named(own_world: Start, loop_thread: LoopThread) -> None:
    collector = Collector(loop_thread)
    try:
        world = own_world({"OTLP_ENDPOINT": collector.url})
        engine = world.serve(WHISPER)
        world.gateway.transcribe(MODEL, client.file(), headers={"traceparent": PARENT, "X-Request-Id": "r1"})
        engine.answer = scripts.hang_up
        world.gateway.transcribe(MODEL, client.file())
        assert world.gateway.stop(60) == 0
    finally:
        collector.close()
    found = {span.name: span for span in collector.spans if span.name.startswith("POST")}
    assert set(found) == {"POST /v1/audio/transcriptions"}
    first, second = (span for span in collector.spans if span.name.startswith("POST"))
    assert (first.trace_id.hex(), first.parent_span_id.hex()) == (TRACE, "b7ad6b7169203331")
    assert engine.requests[0].headers["traceparent"] == f"00-{TRACE}-{first.span_id.hex()}-01"
    said = {each.key: each.value.string_value or each.value.int_value for each in first.attributes}
    assert said["http.response.status_code"] == 200
    assert (said["roundhouse.model"], said["roundhouse.request_id"]) == ("whisper", "r1")
    assert second.trace_id.hex() != TRACE
    assert second.status.code == second.status.STATUS_CODE_ERROR


def test_a_collector_that_is_away_holds_nothing_up(own_world: Start) -> None:
    world = own_world({"OTLP_ENDPOINT": "http://127.0.0.1:9"})
    world.serve(WHISPER)
    began = time.monotonic()
    for _ in range(5):
        assert world.gateway.transcribe(MODEL, client.file()).status == 200
    assert time.monotonic() - began < 50


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"TLS_CERT_FILE": "/nowhere/tls.crt"}, "set both or none"),
        ({"TLS_CERT_FILE": "/nowhere/tls.crt", "TLS_KEY_FILE": "/nowhere/tls.key"}, "/nowhere/tls.crt"),
        ({"TRUSTED_PROXIES": "10.0.0.0/8,nonsense"}, "TRUSTED_PROXIES"),
        ({"CORS_ORIGINS": "app.example.com"}, "is no origin"),
    ],
)
def test_settings_that_cannot_be_are_told_at_the_start(
    tmp_path: Path, settings: dict[str, str], says: str
) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(kubeconfig_for("http://127.0.0.1:9"))
    gateway = launch(tmp_path, kubeconfig, settings)
    try:
        assert gateway.process.wait(60) != 0
        assert says in gateway.log_path.read_text()
    finally:
        gateway.kill()

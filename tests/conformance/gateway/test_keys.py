"""API keys, on a gateway that asks for them: who gets in, how far, how often, and how a key is revoked."""

import asyncio
import socket
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import openai
import pytest
from aiohttp import web

from roundhouse_api.keys import Grant, Scope, issue
from tests.conformance.gateway import client
from tests.conformance.gateway.conftest import World
from tests.conformance.gateway.keys import KEYS, hand_to_owner, issue_to, put, put_known, wait_for_key
from tests.conformance.gateway.manifests import Variant
from tests.conformance.gateway.scripted_engine import Received, transcript
from tests.support.store import a_store
from tests.support.waiting import wait_until

SMALL = Variant("whisper-small")
LARGE = Variant("whisper-large")


@pytest.fixture
def guarded(keyed: World) -> World:
    """A gateway that asks for keys, two models, and a key that may do everything."""
    for variant in (SMALL, LARGE):
        keyed.serve(variant)
    return keyed


@pytest.mark.req("S1-5")
def test_without_a_good_key_nothing_is_answered_but_probes(guarded: World) -> None:
    good = guarded.gateway.key
    attempts = {
        "": "missing_api_key",
        "sk-something-else": "invalid_api_key",
        good[:-1] + ("0" if good[-1] != "0" else "1"): "invalid_api_key",
        f"{good}0": "invalid_api_key",
        "rh_nosuchkey000_" + "0" * 48: "invalid_api_key",
    }
    for key, code in attempts.items():
        guarded.gateway.key = key
        for path in ("/v1/models", "/v1/engines", "/metrics", "/v1/nothing"):
            reply = guarded.gateway.get(path)
            assert (reply.status, reply.error["code"]) == (401, code)
            assert reply.headers["www-authenticate"] == "Bearer"
        for path in ("/healthz", "/readyz", "/openapi.json"):
            assert guarded.gateway.get(path).status == 200
    secret = good.rsplit("_", 1)[1]
    assert secret not in guarded.gateway.log_path.read_text()


def test_an_upload_without_a_key_is_refused_before_its_audio_is_read(guarded: World) -> None:
    total = 1 << 30
    guarded.gateway.key = ""
    with client.start_upload(
        guarded.gateway.port, client.field("model", "whisper-small"), total=total
    ) as sent:
        head = b""
        while b"missing_api_key" not in head and (more := sent.recv(65536)):
            head += more
    assert head.startswith(b"HTTP/1.1 401")
    assert b"missing_api_key" in head


def test_the_key_comes_as_openai_or_as_elevenlabs_clients_send_it(guarded: World) -> None:
    key = guarded.gateway.key
    guarded.gateway.key = ""
    for headers in ({"Authorization": f"bearer  {key} "}, {"xi-api-key": key}):
        assert guarded.gateway.request("GET", "/v1/models", headers=headers).status == 200
    mixed = {"Authorization": "Bearer wrong", "xi-api-key": key}
    assert guarded.gateway.request("GET", "/v1/models", headers=mixed).status == 401


def test_the_official_client_raises_its_own_errors(guarded: World) -> None:
    assert [model.id for model in guarded.gateway.openai().models.list()] == [
        "whisper-large",
        "whisper-small",
    ]
    guarded.gateway.key = issue_to(guarded, Grant(scopes=frozenset({Scope.CHAT})))
    with pytest.raises(openai.PermissionDeniedError) as refused:
        guarded.gateway.openai().models.list()
    assert refused.value.code == "insufficient_scope"
    guarded.gateway.key = "rh_wrong"
    with pytest.raises(openai.AuthenticationError):
        guarded.gateway.openai().models.list()


def test_a_key_sees_and_uses_its_own_models_alone(guarded: World) -> None:
    guarded.gateway.key = issue_to(guarded, Grant(models=("*-small",)))
    gateway = guarded.gateway
    assert [item["id"] for item in gateway.get("/v1/models?status=all").json["data"]] == ["whisper-small"]
    assert [item["id"] for item in gateway.get("/v1/engines").json["engines"]] == ["whisper-small"]
    assert gateway.get("/v1/models/whisper-large").status == 404
    assert gateway.transcribe(client.field("model", "whisper-small"), client.file()).status == 200
    reply = gateway.transcribe(client.field("model", "whisper-large"), client.file())
    assert (reply.status, reply.error["code"]) == (403, "model_not_allowed")
    chosen = gateway.transcribe(client.field("model", "auto"), client.file())
    assert (chosen.status, chosen.headers["x-roundhouse-model"]) == (200, "whisper-small")
    guarded.gateway.key = issue_to(guarded, Grant(models=("other",)))
    assert (
        gateway.transcribe(client.field("model", "auto"), client.file()).error["code"] == "model_not_allowed"
    )


def test_a_minute_has_so_many_requests_and_each_answer_says_how_many_are_left(guarded: World) -> None:
    text = issue_to(guarded, Grant(requests_per_minute=3))  # waiting for it took one
    guarded.gateway.key = text
    replies = [guarded.gateway.get("/v1/models") for _ in range(7)]
    refused = next(reply for reply in replies if reply.status == 429)
    assert refused.error["code"] == "rate_limit_exceeded"
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    for reply in replies:
        assert reply.headers["x-ratelimit-limit-requests"] == "3"
        assert 1 <= int(reply.headers["x-ratelimit-reset-requests"].removesuffix("s")) <= 60


STANDING = ("limit", "remaining", "reset")


def test_what_is_refused_says_where_the_key_stands_and_costs_nothing(guarded: World) -> None:
    grant = Grant(scopes=frozenset({Scope.USAGE, Scope.TRANSCRIBE}), requests_per_minute=50)
    guarded.gateway.key = issue_to(guarded, grant)
    before = guarded.gateway.get("/metrics")
    for path, status in (("/v1/models", 403), ("/v1/nothing", 404)):
        reply = guarded.gateway.get(path)
        assert reply.status == status
        assert {name for name in reply.headers if name.startswith("x-ratelimit-")} == {
            f"x-ratelimit-{part}-requests" for part in STANDING
        }
    left = [int(reply.headers["x-ratelimit-remaining-requests"]) for reply in (before, reply)]
    assert left[1] in {left[0] - 1, 49}, "the one that was refused was not counted; or a new minute began"


def test_requests_are_counted_by_the_name_of_the_key(guarded: World) -> None:
    guarded.gateway.key = issue_to(guarded, Grant(name='ci "small"'))
    guarded.gateway.transcribe(client.field("model", SMALL.id), client.file())
    wait_until(
        lambda: _counted(guarded, "requests_total", model=SMALL.id, key='ci \\"small\\"') == 1,
        seconds=10,
        what="the request is counted",
    )


def _counted(world: World, name: str, **labels: str) -> float:
    return world.gateway.metric(f"roundhouse_gateway_{name}", **labels)


def test_a_store_that_is_away_shuts_keys_with_limits_out_where_that_is_wished(
    own_world: Callable[[Mapping[str, str]], World],
) -> None:
    with a_store() as store:
        world = own_world(
            {"KEYS_NAMESPACE": KEYS, "LIMITS_STORE_URL": store.url, "LIMITS_STORE_AWAY": "closed"}
        )
        free, limited = issue(Grant()), issue(Grant(requests_per_minute=1000, max_concurrent=5))
        for name, issued in (("free", free), ("limited", limited)):
            put_known(world, name, issued)
        store.stop()
        wait_for_key(world, limited, 503)
        world.gateway.key = limited.text
        refused = world.gateway.get("/v1/models")
        assert (refused.status, refused.error["code"]) == (503, "limits_unavailable")
        assert int(refused.headers["retry-after"]) >= 1
        assert _counted(world, "limits_store_away") == 1
        world.gateway.key = free.text
        assert world.gateway.get("/v1/models").status == 200
        store.start()
        wait_for_key(world, limited)
        assert _counted(world, "limits_store_away") == 0


def test_a_key_has_so_many_requests_at_once_and_gets_its_places_back(guarded: World) -> None:
    released = threading.Event()

    async def slow(request: web.Request, received: Received) -> web.StreamResponse:
        await asyncio.to_thread(released.wait, 20)
        return await transcript(request, received)

    guarded.engines[0].answer = slow
    guarded.gateway.key = issue_to(guarded, Grant(max_concurrent=1))
    statuses: list[int] = []

    def transcribe() -> None:
        statuses.append(guarded.gateway.transcribe(client.field("model", SMALL.id), client.file()).status)

    first = threading.Thread(target=transcribe)
    first.start()
    wait_until(lambda: len(guarded.engines[0].requests) == 1, seconds=10, what="the first is running")
    refused = guarded.gateway.get("/v1/models")
    assert (refused.status, refused.error["code"]) == (429, "concurrency_limit_exceeded")
    released.set()
    first.join(60)
    assert statuses == [200]
    wait_until(lambda: guarded.gateway.get("/v1/models").status == 200, seconds=10, what="the place is back")


def test_keys_are_changed_and_revoked_without_a_restart(guarded: World) -> None:
    issued = issue(Grant())
    put_known(guarded, "guest", issued)
    put(guarded, "guest", {**issued.data, "expiresAt": datetime(2020, 1, 1, tzinfo=UTC).isoformat()})
    wait_for_key(guarded, issued, 401)
    guarded.gateway.key = issued.text
    assert "expired" in guarded.gateway.get("/v1/models").error["message"]
    put_known(guarded, "guest", issued)
    guarded.api.delete("secrets", KEYS, "guest")
    wait_for_key(guarded, issued, 401)


def test_known_keys_are_good_while_the_api_server_is_away(guarded: World) -> None:
    guarded.api.stop()
    assert guarded.gateway.get("/v1/models").status == 200
    guarded.gateway.key = ""
    assert guarded.gateway.get("/v1/models").status == 401


def test_no_keys_at_all_is_shut_and_not_open(own_world: Callable[[Mapping[str, str]], World]) -> None:
    world = own_world({"KEYS_NAMESPACE": KEYS})
    assert world.gateway.get("/v1/models").status == 401


def test_a_gateway_that_asks_for_no_key_says_so_loudly(world: World) -> None:
    assert any(
        line["level"] == "warning" and "OPEN TO ALL" in line["message"] for line in world.gateway.log()
    )


def test_no_way_to_pass_a_key_brings_it_into_the_log(own_world: Callable[[Mapping[str, str]], World]) -> None:
    world = own_world({"KEYS_NAMESPACE": KEYS, "LOG_LEVEL": "debug"})
    stranger = issue(Grant())
    put(world, "broken", {**stranger.data, "scopes": stranger.text})
    owner = hand_to_owner(world)
    world.serve(SMALL)
    world.gateway.key = ""
    foreign = "sk-proj-abcdefghijklmnopqrstuvwxyz"
    for key in (owner.text, stranger.text, foreign):
        ways: list[tuple[str, dict[str, str]]] = [
            *(
                ("/v1/models", {"Authorization": f"{scheme} {key}"})
                for scheme in ("Bearer", "Basic", "bearer  ")
            ),
            *(
                ("/v1/models", {name: key})
                for name in ("Authorization", "xi-api-key", "X-Api-Key", "api-key")
            ),
            *((f"/v1/models?{name}={key}", {}) for name in ("api_key", "key", "token", "xi-api-key")),
            ("/v1/models", {"Cookie": f"key={key}"}),
            ("/v1/models", {"Sec-WebSocket-Protocol": f"realtime, openai-insecure-api-key.{key}"}),
            ("/v1/models", {"Proxy-Authorization": f"Bearer {key}", "Referer": f"http://x/?key={key}"}),
        ]
        if key != foreign:  # where no key belongs, only those of this gateway are known for what they are
            ways += [(f"/v1/models/{key}", {}), (f"/{key}", {}), ("/v1/models", {"X-Request-Id": key})]
        for path, headers in ways:
            world.gateway.request("GET", path, headers=headers)
            form = client.form(client.field("model", SMALL.id), client.field("api_key", key), client.file())
            world.gateway.request("POST", "/v1/audio/transcriptions", form, {**client.FORM_TYPE, **headers})
        raw = f"GET http://user:{key}@host/v1/models HTTP/1.1\r\nHost: x\r\nX: {key}\0\r\n\r\n"
        with socket.create_connection(("127.0.0.1", world.gateway.port), timeout=60) as sent:
            sent.sendall(raw.encode())
            sent.recv(65536)
    wait_until(lambda: "is no API key" in world.gateway.log_path.read_text(), seconds=10, what="it is told")
    text = world.gateway.log_path.read_text()
    for secret in (*(each.text.rsplit("_", 1)[1] for each in (owner, stranger)), foreign):
        assert secret not in text


def test_the_access_log_names_the_key_by_its_id(guarded: World) -> None:
    guarded.gateway.key = key = issue_to(guarded, Grant())
    guarded.gateway.get("/v1/engines")
    wait_until(lambda: key.split("_")[1] in _logged_keys(guarded), seconds=10, what="the request is logged")
    assert _logged_keys(guarded)[-1] == key.split("_")[1]


def _logged_keys(world: World) -> list[str]:
    lines = [line for line in world.gateway.log() if line.get("route") == "/v1/engines"]
    return [line["key_id"] for line in lines if line["status"] == 200]


@pytest.mark.req("S1-5")
def test_elevenlabs_clients_are_known_by_their_own_header_and_refused_in_their_own_shape(
    guarded: World,
) -> None:
    good, parts = guarded.gateway.key, client.form(client.field("model_id", "scribe_v2"), client.file())
    reader = issue_to(guarded, Grant(name="reader", scopes=frozenset({Scope.MODELS})))
    guarded.gateway.key = ""

    def ask(key: str) -> client.Reply:
        headers = {**client.FORM_TYPE, **({"xi-api-key": key} if key else {})}
        return guarded.gateway.request("POST", "/v1/speech-to-text", parts, headers)

    answer = ask(good)
    assert (answer.status, answer.json["words"][0]["text"]) == (200, "go")
    for key, status, word in (
        ("", 401, "needs_authorization"),
        ("sk_nobody", 401, "invalid_api_key"),
        (reader, 403, "missing_permissions"),
    ):
        refused = ask(key)
        assert (refused.status, refused.json["detail"]["status"]) == (status, word)
        assert set(refused.json) == {"detail"}

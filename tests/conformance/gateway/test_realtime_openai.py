"""OpenAI's realtime transcription by its official client, over real speech, and keys for a moment."""

import asyncio
import base64
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
import soxr
from openai.resources.realtime.realtime import AsyncRealtimeConnection
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from roundhouse_api.keys import Grant, Scope, issue
from roundhouse_api.realtime import Close
from tests.conformance.engine.streaming import DEADLINE, go_forward_samples
from tests.conformance.gateway.conftest import World, a_world
from tests.conformance.gateway.keys import KEYS, hand_to_owner, issue_to, put_known
from tests.conformance.gateway.live import NOISE, SPEECH, guarded_speech, live, publish
from tests.conformance.gateway.loop_thread import LoopThread
from tests.conformance.gateway.manifests import Variant
from tests.support.openai_schema import assert_valid
from tests.support.recordings import GO_FORWARD_WORDS
from tests.support.store import Store, a_store
from tests.support.waiting import eventually

SECOND = bytes(32_000)
QUERY = {"intent": "transcription"}
CONFIG: Any = {
    "type": "transcription",
    "audio": {
        "input": {
            "format": {"type": "audio/pcm", "rate": 16_000},
            "transcription": {"model": SPEECH.id, "language": "en"},
        }
    },
}
COMPLETED = "conversation.item.input_audio_transcription.completed"
DELTA = "conversation.item.input_audio_transcription.delta"


@pytest.fixture(scope="module")
def served(loop_thread: LoopThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A gateway that asks for keys, before pocketsphinx, with an owner's key."""
    with guarded_speech(loop_thread, tmp_path_factory.mktemp("openai")) as (world, _):
        yield world


def pieces(audio: bytes, *, seconds: float = 0.1) -> Iterator[str]:
    size = int(32_000 * seconds)
    for start in range(0, len(audio), size):
        yield base64.b64encode(audio[start : start + size]).decode()


async def until(connection: AsyncRealtimeConnection, kind: str, seen: list[Any]) -> Any:
    while not seen or seen[-1].type != kind:
        seen.append(await asyncio.wait_for(connection.recv(), DEADLINE))
        assert seen[-1].event_id
    return seen[-1]


async def test_speech_by_the_asynchronous_client(served: World) -> None:
    seen: list[Any] = []
    client = openai.AsyncOpenAI(base_url=served.gateway.base_url, api_key=served.gateway.key, max_retries=0)
    async with client, client.realtime.connect(extra_query=QUERY) as connection:
        created = await until(connection, "session.created", seen)
        assert created.session.object == "realtime.transcription_session"
        await connection.session.update(session=CONFIG)
        updated = await until(connection, "session.updated", seen)
        assert updated.session.audio.input.transcription.model == SPEECH.id
        for piece in pieces(go_forward_samples() + SECOND * 2):
            await connection.input_audio_buffer.append(audio=piece)
            await asyncio.sleep(0.005)
        completed = await until(connection, COMPLETED, seen)
    assert completed.transcript == GO_FORWARD_WORDS
    assert completed.usage.type == "duration"
    assert completed.usage.seconds == pytest.approx(len(go_forward_samples()) / 32_000, abs=1)
    kinds = [each.type for each in seen if each.type != DELTA]
    assert kinds == [
        *("session.created", "session.updated", "input_audio_buffer.speech_started"),
        *("input_audio_buffer.speech_stopped", "input_audio_buffer.committed"),
        *("conversation.item.added", "conversation.item.done", COMPLETED),
    ]
    assert "".join(each.delta for each in seen if each.type == DELTA) == completed.transcript
    items = {each.item_id for each in seen if hasattr(each, "item_id")}
    assert items == {completed.item_id}


@pytest.mark.filterwarnings("ignore:connect.. must be used as a context manager:DeprecationWarning")
def test_speech_by_the_client_that_waits(served: World) -> None:
    with served.gateway.openai().realtime.connect(extra_query=QUERY) as connection:
        assert connection.recv().type == "session.created"
        config: Any = {**CONFIG, "audio": {"input": {**CONFIG["audio"]["input"], "turn_detection": None}}}
        connection.session.update(session=config)
        assert connection.recv().type == "session.updated"
        previous = None
        for _ in range(2):  # the client commits, also without any pause
            for piece in pieces(go_forward_samples(), seconds=1):
                connection.input_audio_buffer.append(audio=piece)
            connection.input_audio_buffer.commit()
            events: list[Any] = []
            while not events or events[-1].type != COMPLETED:
                events.append(connection.recv())
            committed = events[0]
            assert (committed.type, committed.previous_item_id) == ("input_audio_buffer.committed", previous)
            assert (events[-1].transcript, events[-1].item_id) == (GO_FORWARD_WORDS, committed.item_id)
            previous = committed.item_id
        connection.input_audio_buffer.append(audio=next(pieces(go_forward_samples(), seconds=1)))
        connection.input_audio_buffer.clear()
        assert connection.recv().type == "input_audio_buffer.cleared"
        connection.input_audio_buffer.commit()
        error: Any = connection.recv()
        assert (error.type, error.error.code) == ("error", "input_audio_buffer_commit_empty")


async def test_what_is_wanted_may_change_in_between(served: World) -> None:
    seen: list[Any] = []
    client = openai.AsyncOpenAI(base_url=served.gateway.base_url, api_key=served.gateway.key, max_retries=0)
    async with client, client.realtime.connect(extra_query={**QUERY, "model": "live"}) as connection:
        former = {"input_audio_format": "g711_ulaw", "turn_detection": None}
        await connection.send({"type": "transcription_session.update", "session": former})  # type: ignore[arg-type]
        updated = await until(connection, "session.updated", seen)
        assert updated.session.audio.input.format.type == "audio/pcmu"
        await connection.input_audio_buffer.append(audio=base64.b64encode(b"\xff" * 8000).decode())
        # What is left out stays as it was.
        given = {**CONFIG["audio"]["input"], "turn_detection": {"type": "server_vad"}}
        config: Any = {**CONFIG, "audio": {"input": given}}
        await connection.session.update(session=config)
        for piece in pieces(go_forward_samples() + SECOND * 2, seconds=1):
            await connection.input_audio_buffer.append(audio=piece)
        assert (await until(connection, COMPLETED, seen)).transcript == GO_FORWARD_WORDS
        started = next(each for each in seen if each.type == "input_audio_buffer.speech_started")
        assert started.audio_start_ms >= 1000, "times go on from the audio before"


async def told(socket: ClientConnection) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(await asyncio.wait_for(socket.recv(), DEADLINE))
    return found


async def rest(socket: ClientConnection) -> tuple[list[dict[str, Any]], int | None, str | None]:
    seen = []
    try:
        while True:
            seen.append(await told(socket))
    except ConnectionClosed:
        return seen, socket.close_code, socket.close_reason


def url(world: World, query: str = "intent=transcription") -> str:
    return f"ws://127.0.0.1:{world.gateway.port}/v1/realtime?{query}"


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ("no JSON", None),
        ('{"type": "response.create", "event_id": "e1"}', "type"),
        ('{"type": "input_audio_buffer.append", "audio": "?!", "event_id": "e1"}', "audio"),
        ('{"type": "session.update", "session": {"type": "realtime"}, "event_id": "e1"}', "session.type"),
        (
            '{"type": "session.update", "session": {"audio": {"input": {"format": {"type": "x"}}}}}',
            "session.audio.input.format.type",
        ),
    ],
)
async def test_a_wrong_event_is_told_of_and_the_session_goes_on(
    message: str, param: str | None, served: World
) -> None:
    async with connect(url(served), additional_headers=bearer(served.gateway.key), proxy=None) as socket:
        assert (await told(socket))["type"] == "session.created"
        await socket.send(message)
        error = await told(socket)
        assert (error["type"], error["error"]["param"]) == ("error", param)
        assert error["error"]["type"] == "invalid_request_error"
        if "e1" in message:
            assert error["error"]["event_id"] == "e1"
        await socket.send('{"type": "session.update", "session": {"type": "transcription"}}')
        assert (await told(socket))["type"] == "session.updated"


SCHEMAS = {
    "error": "Error",
    "input_audio_buffer.cleared": "InputAudioBufferCleared",
    "input_audio_buffer.committed": "InputAudioBufferCommitted",
    "input_audio_buffer.speech_started": "InputAudioBufferSpeechStarted",
    "input_audio_buffer.speech_stopped": "InputAudioBufferSpeechStopped",
    "conversation.item.added": "ConversationItemAdded",
    "conversation.item.done": "ConversationItemDone",
    DELTA: "ConversationItemInputAudioTranscriptionDelta",
    COMPLETED: "ConversationItemInputAudioTranscriptionCompleted",
}


def at_24_khz(audio: bytes) -> bytes:
    return bytes(soxr.resample(np.frombuffer(audio, np.int16), 16_000, 24_000).tobytes())


def assert_published(event: dict[str, Any]) -> None:
    """By OpenAI's schema; that of events of a session is one for all kinds of sessions, so here is ours."""
    if event["type"].startswith("session."):
        assert event["event_id"]
        assert_valid("RealtimeTranscriptionSessionCreateResponseGA", event["session"])
    else:
        assert_valid(f"RealtimeServerEvent{SCHEMAS[event['type']]}", event)


async def test_events_are_valid_by_openai_s_schemas(served: World) -> None:
    kinds = set()
    published = {"type": "audio/pcm", "rate": 24_000}  # the only one that the schemas know
    config = {**CONFIG, "audio": {"input": {**CONFIG["audio"]["input"], "format": published}}}
    async with connect(url(served), additional_headers=bearer(served.gateway.key), proxy=None) as socket:
        appended = [
            {"type": "input_audio_buffer.append", "audio": piece}
            for piece in pieces(at_24_khz(go_forward_samples() + SECOND * 2), seconds=1)
        ]
        wrong = {"type": "response.create", "event_id": "e1"}
        for sent in ({"type": "session.update", "session": config}, wrong, *appended):
            await socket.send(json.dumps(sent))
        while COMPLETED not in kinds:
            assert_published(event := await told(socket))
            kinds.add(event["type"])
        await socket.send(json.dumps({"type": "input_audio_buffer.clear"}))
        assert_published(event := await told(socket))
        kinds.add(event["type"])
    assert kinds == {*SCHEMAS, "session.created", "session.updated"}


def naming(model: str) -> str:
    session = {"type": "transcription", "audio": {"input": {"transcription": {"model": model}}}}
    return json.dumps({"type": "session.update", "session": session})


@pytest.mark.parametrize("late", [False, True], ids=["in the query", "in an event"])
@pytest.mark.parametrize(
    ("model", "code", "close"),
    [
        ("nonesuch", "model_not_found", Close.UNKNOWN_MODEL),
        ("talker", "unsupported_value", Close.PARAMETERS),
    ],
)
async def test_a_model_that_cannot_be_had_ends_the_session_as_soon_as_it_is_named(
    served: World, model: str, code: str, close: Close, *, late: bool
) -> None:
    served.run(Variant("talker", stage="Chat", languages=None), 9)
    query = "intent=transcription" + ("" if late else f"&model={model}")
    async with connect(
        url(served, query), additional_headers=bearer(served.gateway.key), proxy=None
    ) as socket:
        if late:
            await socket.send(naming(model))
        seen, closed, reason = await rest(socket)
    assert [each["type"] for each in seen] == [*(["session.created"] if late else []), "error"]
    assert (seen[-1]["error"]["code"], closed) == (code, close)
    assert reason is not None
    assert model in reason


async def test_a_model_may_be_named_anew(served: World) -> None:
    async with connect(
        url(served, f"model={SPEECH.id}"), additional_headers=bearer(served.gateway.key), proxy=None
    ) as socket:
        assert (await told(socket))["type"] == "session.created"
        await socket.send(naming("auto"))
        assert (await told(socket))["type"] == "session.updated"


async def test_strangers_get_an_answer_as_over_http_and_browsers_an_event(served: World) -> None:
    for headers, status, code in (
        ({}, 401, "missing_api_key"),
        (bearer("rh_wrong"), 401, "invalid_api_key"),
        (bearer(issue_to(served, Grant(scopes=frozenset({Scope.CHAT})))), 403, "insufficient_scope"),
    ):
        with pytest.raises(InvalidStatus) as refused:
            await connect(url(served), additional_headers=headers, proxy=None)
        assert refused.value.response.status_code == status
        error = json.loads(refused.value.response.body or b"")["error"]
        assert error["code"] == code
        assert ("openai-insecure-api-key" in error["message"]) == (code == "missing_api_key")
    offered = [Subprotocol("realtime"), Subprotocol("openai-insecure-api-key.rh_wrong")]
    async with connect(url(served), subprotocols=offered, proxy=None) as socket:
        seen, close_code, _ = await rest(socket)
    assert (seen[0]["error"]["code"], close_code) == ("invalid_api_key", Close.UNAUTHENTICATED)


async def test_a_client_secret_lets_a_browser_in_until_it_expires(served: World) -> None:
    async with openai.AsyncOpenAI(
        base_url=served.gateway.base_url, api_key=served.gateway.key, max_retries=0
    ) as client:
        made = await client.realtime.client_secrets.create(
            session=CONFIG,
            expires_after={"anchor": "created_at", "seconds": 60},
        )
        with pytest.raises(openai.BadRequestError):
            await client.realtime.client_secrets.create(expires_after={"anchor": "created_at", "seconds": 5})
    assert made.value.startswith("ek_")
    for _ in range(2):  # it is good for several sessions
        offered = [Subprotocol("realtime"), Subprotocol(f"openai-insecure-api-key.{made.value}")]
        async with connect(url(served), subprotocols=offered, proxy=None) as socket:
            created = await told(socket)
            assert created["session"]["audio"]["input"]["transcription"]["model"] == SPEECH.id
    with pytest.raises(InvalidStatus):
        await connect(url(served), additional_headers=bearer(made.value + "x"), proxy=None)
    assert made.value not in served.gateway.log_path.read_text()


async def test_a_secret_goes_with_the_key_that_asked_for_it(served: World) -> None:
    issued = issue(Grant(max_concurrent=1))
    put_known(served, "guest", issued)
    path = "/v1/realtime/client_secrets"
    secret = served.gateway.request("POST", path, b"{}", bearer(issued.text)).json["value"]
    async with connect(url(served), additional_headers=bearer(secret), proxy=None) as socket:
        await told(socket)
        with pytest.raises(InvalidStatus) as refused:  # the key's limits are the secret's
            await connect(url(served), additional_headers=bearer(secret), proxy=None)
        assert refused.value.response.status_code == 429
    served.api.delete("secrets", KEYS, "guest")

    async def refuses() -> bool:
        try:
            async with connect(url(served), additional_headers=bearer(secret), proxy=None):
                return False
        except InvalidStatus as refused:
            return refused.response.status_code == 401

    await eventually(refuses, seconds=20, what="the secret is revoked with its key")


MakeWorld = Callable[[Mapping[str, str]], World]


async def test_an_engine_that_dies_ends_the_session(world: World, tmp_path: Path) -> None:
    with live(tmp_path) as engines:
        noise = engines.noise()
        publish(world, NOISE, noise)
        async with connect(url(world, "model=noise"), proxy=None) as socket:
            await socket.send(json.dumps({"type": "input_audio_buffer.append", "audio": "AAAA"}))

            async def held() -> bool:
                return noise.metric("sessions_in_use") == 1

            await eventually(held, seconds=20, what="it has a place")
            noise.process.kill()
            seen, code, _ = await rest(socket)
    assert (seen[-1]["error"]["code"], code) == ("engine_failed", Close.FAILED)


async def test_a_client_is_heard_while_its_model_starts(world: World, tmp_path: Path) -> None:
    world.publish(SPEECH.asleep())
    world.wait_for(SPEECH.id, "available")
    config = {**CONFIG, "audio": {"input": {**CONFIG["audio"]["input"], "turn_detection": None}}}
    with live(tmp_path) as engines:
        async with connect(url(world), proxy=None) as socket:
            await socket.send(json.dumps({"type": "session.update", "session": config}))
            for piece in (*pieces(bytes(1 << 20)), *pieces(go_forward_samples())):
                await socket.send(json.dumps({"type": "input_audio_buffer.append", "audio": piece}))
            await socket.send(json.dumps({"type": "input_audio_buffer.commit"}))
            await asyncio.wait_for(await socket.ping(), DEADLINE)  # which stands behind all of that
            assert world.gateway.metric("roundhouse_gateway_held_requests", model=SPEECH.id) == 1
            sphinx = await asyncio.to_thread(engines.sphinx)
            await asyncio.to_thread(publish, world, SPEECH, sphinx)
            events = [await told(socket)]
            while events[-1]["type"] != COMPLETED:
                events.append(await told(socket))
    assert events[-1]["transcript"].endswith(GO_FORWARD_WORDS)
    assert "error" not in {each["type"] for each in events}


async def test_who_leaves_while_its_model_starts_waits_no_longer(world: World) -> None:
    world.publish(NOISE.asleep())
    world.wait_for(NOISE.id, "available")

    async def held() -> float:
        return world.gateway.metric("roundhouse_gateway_held_requests", model=NOISE.id)

    async with connect(url(world, "model=noise"), proxy=None) as socket:
        await socket.send(json.dumps({"type": "input_audio_buffer.append", "audio": "AAAA"}))
        await eventually(held, seconds=20, what="it waits")

    async def nobody_waits() -> bool:
        return not await held()

    await eventually(nobody_waits, seconds=20, what="it waits no longer")
    assert "fault in session" not in world.gateway.log_path.read_text()


async def test_a_gateway_that_leaves_says_so(own_world: MakeWorld) -> None:
    world = own_world({"DRAIN_SECONDS": "1"})
    async with connect(url(world), proxy=None) as socket:
        await told(socket)
        world.gateway.process.terminate()
        seen, code, _ = await rest(socket)
    assert "The session ends in" in seen[0]["error"]["message"]
    assert code == Close.GOING_AWAY
    assert world.gateway.process.wait(60) == 0


@pytest.fixture
def store() -> Iterator[Store]:
    with a_store() as made:
        yield made


async def test_gateways_that_share_a_store_know_each_others_secrets(
    loop_thread: LoopThread, tmp_path: Path, store: Store
) -> None:
    settings = {"LIMITS_STORE_URL": store.url, "KEYS_NAMESPACE": KEYS}
    owner = issue(Grant(name="owner"))
    with ExitStack() as stack:
        worlds = []
        for name in ("one", "two"):
            folder = tmp_path / name
            folder.mkdir()
            world = stack.enter_context(a_world(loop_thread, folder, settings))
            hand_to_owner(world, owner)
            worlds.append(world)
        one, two = worlds
        secret = one.gateway.request("POST", "/v1/realtime/client_secrets", b"{}").json["value"]
        async with connect(url(two), additional_headers=bearer(secret), proxy=None) as socket:
            assert (await told(socket))["type"] == "session.created"
        token = one.gateway.request("POST", "/v1/single-use-token/realtime_scribe").json["token"]
        async with connect(url(two, f"token={token}"), proxy=None) as socket:
            assert (await told(socket))["type"] == "session.created"
        with pytest.raises(InvalidStatus):  # it was used, at the other gateway
            await connect(url(one, f"token={token}"), proxy=None)
        store.stop()
        reply = one.gateway.request("POST", "/v1/realtime/client_secrets", b"{}")
        assert (reply.status, reply.error["code"]) == (503, "gateway_not_ready")

"""What the command says last, and what a request on the fast lane gives back where another fault meets it."""

import asyncio
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest

from roundhouse_gateway import cli, logs, supervise
from roundhouse_gateway.errors import GatewayError, InternalError, NotReadyError
from roundhouse_gateway.json_body import JsonBodies
from roundhouse_gateway.logs import Line
from roundhouse_gateway.settings import Settings
from roundhouse_gateway.speech.passage import SpeechPassage
from roundhouse_gateway.text.lane import Lane, NotHereError
from roundhouse_gateway.text.trip import Trip

LAST = Line("the-last", "127.0.0.1", "/v1/models", "unknown", 503, 0)


async def serve_with_a_straggler(*_: object) -> None:
    """Leaves a request behind that says its line once the loop cancels it."""

    async def straggler() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            logs.request_log.write("GET /v1/models 503", LAST)

    left = asyncio.ensure_future(straggler())
    await asyncio.sleep(0)
    assert not left.done()


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_cut_off_by_the_end_still_has_its_line(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUNDHOUSE_GATEWAY_NAMESPACES", "models")
    for module in (cli, supervise):
        monkeypatch.setattr(module, "serve", serve_with_a_straggler)
    written: list[bytes] = []
    stream = SimpleNamespace(write=written.append, flush=lambda: None)
    monkeypatch.setattr(logs, "configure", lambda *_: None)
    monkeypatch.setattr(logs.request_log, "stream", stream)
    monkeypatch.setattr(logs.request_log, "is_wanted", lambda: True)
    if workers == 1:
        cli.main()
    else:
        supervise._work(Settings(), cast("Any", None), 0, cast("Any", None))
    assert b"the-last" in b"".join(written)


def test_a_fault_in_taking_a_place_gives_the_room_back() -> None:
    bodies = JsonBodies(limit_bytes=100, depth_limit=10, room_bytes=1000)

    def broken(_: object) -> bool:
        raise OSError("the mutex")

    lane = SimpleNamespace(hold=SimpleNamespace(take=broken), limits=None)
    trip: Any = SimpleNamespace(
        lane=lane,
        room=bodies,
        way=SimpleNamespace(entry=None),
        body=b"x" * 10,
        exchange=SimpleNamespace(key_id=""),
        fare=SimpleNamespace(key=None),
    )
    with pytest.raises(OSError, match="mutex"):
        Trip.set_out(trip)
    assert bodies.held_bytes == 0


async def test_a_fault_after_connecting_for_a_form_ends_its_request() -> None:
    """Whose client would wait for half an hour else."""

    async def connect(_: object) -> str:
        return "connection"

    def ask(_: object) -> None:
        raise ValueError("the metrics")

    ended: list[GatewayError] = []
    passage: Any = SimpleNamespace(
        lane=SimpleNamespace(engines=SimpleNamespace(pool=SimpleNamespace(connect=connect))),
        stop=SimpleNamespace(address="there"),
        exchange=SimpleNamespace(path="/v1/audio/transcriptions", request_id="1", fields=dict),
        response_complete=False,
        _client=SimpleNamespace(loop=asyncio.get_running_loop()),
        _ask=ask,
        _fails=lambda *_: ended.clear(),
        cut=ended.append,
    )
    passage._ask_anew = partial(SpeechPassage._ask_anew, passage)
    await SpeechPassage._connect(passage)
    assert [type(each) for each in ended] == [InternalError]


@pytest.mark.parametrize("fault", [OSError("the mutex"), NotReadyError("no room"), None])
def test_a_connection_that_was_taken_in_vain_is_there_for_others(fault: Exception | None) -> None:
    def set_out() -> bool:
        if fault is not None:
            raise fault
        return False

    kept: list[tuple[object, object]] = []
    pool = SimpleNamespace(keep=lambda *each: kept.append(each))
    lane: Any = SimpleNamespace(engines=SimpleNamespace(pool=pool))
    stop = SimpleNamespace(address="there", base_url="http://there")
    passage: Any = SimpleNamespace(set_out=set_out, stop=stop, kept="connection")
    with pytest.raises(OSError if isinstance(fault, OSError) else NotHereError):
        Lane.sent_out(lane, passage)
    assert kept == [("there", "connection")]

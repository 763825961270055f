"""A client that waits for a place when the gateway leaves hears of that as those with a session do."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest
from starlette.types import Message

from roundhouse_api.realtime import Close
from roundhouse_gateway.exchange import Exchange
from roundhouse_gateway.realtime.call import Call, Route
from roundhouse_gateway.realtime.credentials import Credentials
from roundhouse_gateway.realtime.early import Room
from roundhouse_gateway.realtime.elevenlabs import ElevenLabs
from roundhouse_gateway.realtime.leaving import MARGIN_SECONDS, REASON, Leaving
from roundhouse_gateway.realtime.native import Native
from roundhouse_gateway.realtime.pumps import Bounds
from roundhouse_gateway.realtime.sessions import Sessions

LONG = 10.0


class Asleep:
    """Engines that nobody gets a place with."""

    def __init__(self) -> None:
        self.leaving = Leaving(MARGIN_SECONDS)
        self.asked = asyncio.Event()

    @asynccontextmanager
    async def open(self, _wanted: object, client: Call, _exchange: object) -> AsyncIterator[None]:
        self.asked.set()
        await client.until_gone()
        yield


@pytest.mark.parametrize("kind", [Native, ElevenLabs])
async def test_a_client_that_waits_hears_of_the_gateways_end(kind: type[Native] | type[ElevenLabs]) -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    asleep = Asleep()
    route: Route = kind(cast("Sessions", asleep), Bounds(LONG, LONG))
    with Room().early(receive) as early:
        call = Call(
            {}, early, send, Exchange("WS", "/", "r", "p"), Credentials("", {"model_id": ["m"]}, None)
        )
        serving = asyncio.ensure_future(route.serve(call))
        await asyncio.wait_for(asleep.asked.wait(), LONG)
        asleep.leaving.begin()
        ending = await asyncio.wait_for(serving, LONG)
        assert (ending.code, ending.reason) == (Close.GOING_AWAY, REASON)
        await route.end(call, ending)
    assert [each["type"].removeprefix("websocket.") for each in sent][:2] == ["accept", "send"]
    assert REASON in json.loads(sent[1]["text"]).get("reason", "") + json.loads(sent[1]["text"]).get(
        "error", ""
    )
    assert sent[-1]["code"] == Close.GOING_AWAY

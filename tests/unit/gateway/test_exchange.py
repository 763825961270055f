"""What a client is sent of a request that the gateway's end cuts off."""

import asyncio

import pytest
from starlette.types import Message, Receive, Scope, Send

from roundhouse_gateway.exchange import Observed
from roundhouse_gateway.metrics import Metrics

EVENT = b"data: {}\n\n"


async def sent_of(*bodies: tuple[bytes, bool]) -> list[Message]:
    """Of a stream of these, each with whether more is to come, that is cut off behind the last."""
    sent: list[Message] = []
    is_out = asyncio.Event()

    async def streams(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for body, more in bodies:
            await send({"type": "http.response.body", "body": body, "more_body": more})
        is_out.set()
        await asyncio.Event().wait()

    async def receive() -> Message:
        raise AssertionError("nobody asks what the client says")

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "raw_path": b"/", "headers": []}
    observed = Observed(streams, Metrics(lambda: 0.0, lambda: 0))
    request = asyncio.create_task(observed(scope, receive, send))
    await asyncio.wait_for(is_out.wait(), 10)
    request.cancel()
    await asyncio.wait_for(request, 10)
    return sent[1:]


@pytest.mark.parametrize("last", [b"", EVENT])
async def test_behind_a_whole_answer_nothing_is_sent(last: bytes) -> None:
    assert [each["body"] for each in await sent_of((EVENT, True), (last, False))] == [EVENT, last]


async def test_a_stream_that_is_cut_off_between_two_events_says_why() -> None:
    *_, why = await sent_of((EVENT, True))
    assert b"The gateway is ending" in why["body"]
    assert len(await sent_of((EVENT[:-1], True))) == 1, "within one it cannot"

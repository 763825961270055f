"""What clients say before there is a place for them is kept within bounds, and in its order."""

import asyncio

import pytest
from starlette.types import Message

from roundhouse_gateway.realtime import early
from roundhouse_gateway.realtime.early import Room

GONE: Message = {"type": "websocket.disconnect"}


class Client:
    """Says what it is given to say."""

    def __init__(self, *said: Message) -> None:
        self.queue: asyncio.Queue[Message] = asyncio.Queue()
        for message in said:
            self.queue.put_nowait(message)

    async def receive(self) -> Message:
        return await self.queue.get()


def audio(number: int, size: int = 100) -> Message:
    return {"type": "websocket.receive", "bytes": bytes([number]) * size}


async def settled() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def test_what_is_said_while_waiting_comes_first_and_in_order() -> None:
    client = Client(audio(1), audio(2))
    with Room().early(client.receive) as one:
        waiting = asyncio.create_task(one.until_gone())
        await settled()
        assert client.queue.empty()
        waiting.cancel()
        client.queue.put_nowait(audio(3))
        assert [(await one.receive())["bytes"][0] for _ in range(3)] == [1, 2, 3]


async def test_who_leaves_is_seen_also_by_whoever_asks_again() -> None:
    with Room().early(Client(audio(1), GONE).receive) as one:
        for _ in range(2):
            await asyncio.wait_for(one.until_gone(), 10)
        assert [(await one.receive())["type"] for _ in range(2)] == ["websocket.receive", GONE["type"]]


async def test_beyond_its_bound_a_client_is_not_read_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(early, "MOST_BYTES", 10_000)
    client, room = Client(*(audio(number, 4000) for number in range(9)), GONE), Room()
    with room.early(client.receive) as one:
        waiting = asyncio.create_task(one.until_gone())
        await settled()
        assert (waiting.done(), client.queue.qsize()) == (False, 7)
        waiting.cancel()
        assert [(await one.receive()).get("bytes", b"!")[0] for _ in range(10)] == [*range(9), ord("!")]
        assert room.kept_bytes == 0


async def test_all_together_have_their_bound_and_what_one_leaves_is_anothers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(early, "MOST_BYTES_IN_ALL", 10_000)
    room, second = Room(), Client(audio(2), audio(3))
    with room.early(Client(audio(1, 9_900)).receive) as first:
        waiting = asyncio.create_task(first.until_gone())
        await settled()
        with room.early(second.receive) as one:
            held_up = asyncio.create_task(one.until_gone())
            await settled()
            assert second.queue.qsize() == 2
            held_up.cancel()
        waiting.cancel()
    assert room.kept_bytes == 0
    with room.early(second.receive) as one:
        waiting = asyncio.create_task(one.until_gone())
        await settled()
        assert second.queue.empty()
        waiting.cancel()


async def test_who_finds_no_room_is_read_from_when_others_have_left_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(early, "MOST_BYTES_IN_ALL", 10_000)
    room, client = Room(), Client(audio(1), GONE)
    with room.early(Client(audio(0, 20_000)).receive) as other, room.early(client.receive) as one:
        full = asyncio.create_task(other.until_gone())
        await settled()
        waiting = asyncio.create_task(one.until_gone())
        await settled()
        assert (waiting.done(), client.queue.qsize()) == (False, 2)
        full.cancel()
        other.forget()
        await asyncio.wait_for(waiting, 10)
        assert [(await one.receive())["type"] for _ in range(2)] == ["websocket.receive", GONE["type"]]


async def test_what_is_kept_counts_as_it_is_in_memory() -> None:
    room = Room()
    said: Message = {"type": "websocket.receive", "text": "a" * 99_999 + chr(0x1F600)}
    with room.early(Client(said, GONE).receive) as one:
        await asyncio.wait_for(one.until_gone(), 10)
        assert room.kept_bytes >= 400_000
    assert room.kept_bytes == 0

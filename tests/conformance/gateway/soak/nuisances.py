"""Clients that leave in the midst, ask for what cannot be, or have engines fail by their orders."""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final

import aiohttp
from typing_extensions import override

from tests.conformance.gateway import client
from tests.conformance.gateway.soak.caller import CHAT, JSON, UPLOAD
from tests.conformance.gateway.soak.clients import Clients
from tests.conformance.gateway.soak.engine import heard

ORDERS: Final = ("die", "break", "refuse full", "refuse draining", "complain as_ordered", "wait 0.3")


class Nuisances(Clients):
    @property
    @override
    def kinds(self) -> Mapping[Callable[[], Awaitable[None]], int]:
        """With how often they ask, against each other."""
        return {
            self.leave_an_upload: 3,
            self.leave_a_stream: 4,
            self.give_orders: 4,
            self.wrong_key: 3,
            self.malformed: 6,
            self.half_a_head: 1,
        }

    async def leave_an_upload(self) -> None:
        """Half-way, in order or not, as a live form or as one that waits on disk."""
        named = client.field("model", "whisper") if self.chance.random() < 0.6 else b""
        begin = named + client.file(self.chance.randbytes(200_000))[:-2]
        head = (
            f"POST {UPLOAD} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self.keys.owner}\r\n"
            f"Content-Type: {client.FORM_TYPE['Content-Type']}\r\nContent-Length: 3000000\r\n\r\n"
        )
        await self.say_and_leave(head.encode() + begin)
        self.tally.right("leave an upload")

    async def leave_a_stream(self) -> None:
        asked = self.chat_body("word " * 300, stream=True)
        async with self.ask(CHAT, asked, JSON) as answer:
            if answer.status != 200:
                self.tally.take("leave a stream", answer.status, await answer.read(), lambda _: False)
                return
            with suppress(aiohttp.ClientPayloadError):
                for _ in range(self.chance.randrange(5)):
                    await answer.content.readany()
            answer.close()
        self.tally.right("leave a stream")

    async def give_orders(self) -> None:
        """The engine dies, refuses, complains or takes its time."""
        order = self.chance.choice(ORDERS)
        if self.chance.random() < 0.6:
            await self.chat("orders", order=order, stream=False)
            return
        body = client.form(client.field("model", "whisper"), client.field("order", order), client.file())
        right = heard(len(client.AUDIO), hashlib.sha256(client.AUDIO).hexdigest())
        await self.post(
            "orders",
            UPLOAD,
            body,
            lambda told: told["text"] == right,
            headers=client.FORM_TYPE,
        )

    async def wrong_key(self) -> None:
        wrong = self.keys.owner[:-1] + ("0" if self.keys.owner[-1] != "0" else "1")
        asked = self.chat_body("hello")
        await self.post(
            "wrong key",
            CHAT,
            asked,
            lambda _: False,
            key=wrong,
            only={401: "invalid_api_key"},
        )

    async def malformed(self) -> None:
        path, body, headers, status, code = self.chance.choice(MALFORMED)
        await self.post("malformed", path, body, lambda _: False, headers=headers, only={status: code})

    async def half_a_head(self) -> None:
        await self.say_and_leave(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-", wait=0.5)
        self.tally.right("half a head")


Wrong = tuple[str, bytes, Mapping[str, str], int, str]
MALFORMED: Final[tuple[Wrong, ...]] = (
    (CHAT, b'{"model": "qwen"', JSON, 400, "malformed_json"),
    (CHAT, b'{"model": "qwen"}', JSON, 400, "missing_required_parameter"),
    (CHAT, b'{"model": "\xff", "messages": []}', JSON, 400, "malformed_json"),
    (CHAT, b'{"model": "nobody", "messages": []}', JSON, 404, "model_not_found"),
    (CHAT, b"[" * 5000, JSON, 400, "json_too_deep"),
    (CHAT, b"x" * ((1 << 20) + 1), JSON, 413, "body_too_large"),
    ("/v1/nothing", b"{}", JSON, 404, "unknown_url"),
    ("/v1/models", b"{}", JSON, 405, "method_not_allowed"),
    ("/v1/embeddings", b'{"model": "embedder", "input": 7}', JSON, 400, "invalid_value"),
    ("/v1/rerank", b'{"model": "ranker", "query": "x"}', JSON, 400, "missing_required_parameter"),
    (UPLOAD, b"no form", client.FORM_TYPE, 400, "malformed_upload"),
    (UPLOAD, b"{}", JSON, 415, "unsupported_media_type"),
    (
        UPLOAD,
        client.form(client.field("model", "whisper")),
        client.FORM_TYPE,
        400,
        "missing_required_parameter",
    ),
    (
        UPLOAD,
        client.form(client.field("model", "x"), client.file()),
        client.FORM_TYPE,
        400,
        "model_not_found",
    ),
)

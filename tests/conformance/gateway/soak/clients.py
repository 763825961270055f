"""Clients that want an answer, of every kind but realtime: each knows which is right."""

import asyncio
import base64
import hashlib
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final

import aiohttp
import msgspec

from tests.conformance.gateway import client
from tests.conformance.gateway.soak.caller import CHAT, JSON, UPLOAD, Caller, encoded
from tests.conformance.gateway.soak.engine import heard
from tests.conformance.gateway.soak.tally import code_of
from tests.conformance.gateway.text_engine import DIMENSIONS, likeness, vector

PIECE: Final = 1 << 16


class Clients(Caller):
    @property
    def kinds(self) -> Mapping[Callable[[], Awaitable[None]], int]:
        """With how often they ask, against each other."""
        return {
            self.upload: 6,
            self.upload_file_first: 3,
            self.convert_an_upload: 2,
            self.upload_as_elevenlabs: 2,
            self.chat: 8,
            self.stream: 4,
            self.embed: 6,
            self.rerank: 4,
            self.ask_a_guest: 4,
            self.ask_a_sleeper: 3,
            self.crowd: 3,
            self.rotate: 3,
            self.be_limited: 4,
            self.lists: 3,
            self.scrape: 1,
        }

    async def upload(self, kind: str = "upload", *, file_first: bool = False) -> None:
        audio = self.chance.randbytes(self.chance.choice((5_000, 70_000, 900_000)))
        parts = [client.field("model", "whisper"), client.file(audio)]
        body = client.form(*(reversed(parts) if file_first else parts))
        said = heard(len(audio), hashlib.sha256(audio).hexdigest())
        await self.post(
            kind,
            UPLOAD,
            _pieces(body),
            lambda told: told["text"] == said,
            headers=client.FORM_TYPE,
        )

    async def upload_file_first(self) -> None:
        await self.upload("file first", file_first=True)

    async def convert_an_upload(self) -> None:
        """An engine like vLLM makes no subtitles: the gateway does, of its segments."""
        body = client.form(
            client.field("model", "voxtral"), client.field("response_format", "srt"), client.file()
        )
        await self.post(
            "convert",
            UPLOAD,
            body,
            lambda told: told.startswith("1\n00:00:00,440 -->"),
            headers=client.FORM_TYPE,
        )

    async def upload_as_elevenlabs(self) -> None:
        body = client.form(client.field("model_id", "scribe_v2"), client.file())
        await self.post(
            "elevenlabs",
            "/v1/speech-to-text",
            body,
            lambda told: told["words"][0]["text"] == "go",
            headers=client.FORM_TYPE,
        )

    async def chat(self, kind: str = "chat", model: str = "qwen", key: str = "", **members: Any) -> None:
        said = f"{kind} {self.chance.getrandbits(64):x} " + "ä" * self.chance.choice((1, 100, 20_000))
        asked = self.chat_body(said, model=model, **members)

        def right(told: Any) -> bool:
            return bool(told["choices"][0]["message"]["content"] == said)

        await self.post(kind, CHAT, asked, right, key=key)

    async def stream(self) -> None:
        words = [f"{self.chance.getrandbits(32):x} " for _ in range(20)]
        asked = self.chat_body("".join(words), stream=True)
        async with self.ask(CHAT, asked, JSON) as answer:
            if answer.status != 200:
                self.tally.take("stream", answer.status, await answer.read(), lambda _: False)
                return
            try:
                frames = (await answer.read()).split(b"\n\n")
            except aiohttp.ClientPayloadError:
                self.tally.cut("stream")
                return
        data = [frame.removeprefix(b"data: ") for frame in frames if frame.startswith(b"data: ")]
        if data[-1] == b"[DONE]":
            heard_ = [msgspec.json.decode(each)["choices"][0]["delta"].get("content") for each in data[:-2]]
            good = heard_ == [word.strip() for word in words]
            self.tally.right("stream") if good else self.tally.fault("stream", repr(heard_))
        elif code_of(data[-1]) == "engine_failed":
            self.tally.ended("stream", "engine_failed")
        else:
            self.tally.fault("stream", f"ends with {frames[-2:]!r}")

    async def embed(self) -> None:
        """The engine knows floats alone; half of the clients want them packed."""
        texts = [f"birds {self.chance.getrandbits(32):x}" for _ in range(self.chance.randrange(1, 9))]
        packed = self.chance.random() < 0.5
        asked = {"model": "embedder", "input": texts, "encoding_format": "base64" if packed else "float"}
        wanted = [vector(text) for text in texts]

        def numbers(embedding: Any) -> list[float]:
            return (
                list(struct.unpack(f"<{DIMENSIONS}f", base64.b64decode(embedding))) if packed else embedding
            )

        await self.post(
            "embed",
            "/v1/embeddings",
            encoded(asked),
            lambda told: [numbers(each["embedding"]) for each in told["data"]] == wanted,
        )

    async def rerank(self) -> None:
        texts = [f"bird number {number}" for number in range(6)]
        asked = {"model": "ranker", "query": "bird number 3", "documents": texts, "top_n": 3}
        path = self.chance.choice(("/v1/rerank", "/v2/rerank"))
        ranked = sorted(range(6), key=lambda each: -likeness("bird number 3", texts[each]))[:3]
        await self.post(
            "rerank",
            path,
            encoded(asked),
            lambda told: [each["index"] for each in told["results"]] == ranked,
        )

    async def ask_a_guest(self) -> None:
        if there := list(self.guests):
            await self.chat("guest", model=self.chance.choice(there))

    async def ask_a_sleeper(self) -> None:
        """Some leave before it wakes."""
        asking = asyncio.ensure_future(self.chat("sleeper", model="sleeper"))
        done, _ = await asyncio.wait((asking,), timeout=self.chance.choice((0.2, 20.0)))
        if not done:
            asking.cancel()
            await asyncio.wait((asking,))
            self.tally.ended("sleeper", "left")
        else:
            asking.result()

    async def crowd(self) -> None:
        """More at once than the model takes: they wait in line, and some find it full."""
        orders = {"order": "wait 0.1"}
        await asyncio.gather(*(self.chat("crowd", model="narrow", **orders) for _ in range(6)))

    async def rotate(self) -> None:
        await self.chat("rotating key", key=self.keys.rotating)

    async def be_limited(self) -> None:
        await asyncio.gather(*(self.chat("limited key", key=self.keys.limited) for _ in range(3)))

    async def lists(self) -> None:
        for path in ("/v1/models?status=all", "/v1/engines", "/v1/select?stage=chat", "/openapi.json"):
            async with self.ask(path, None, {}) as answer:
                self.tally.take("lists", answer.status, await answer.read(), bool)

    async def scrape(self) -> None:
        for port in (self.port, self.metrics_port):
            async with self.ask("/metrics", None, {}, port=port) as answer:
                text = await answer.read()
            good = answer.status == 200 and b"roundhouse_gateway_connections" in text
            self.tally.right("scrape") if good else self.tally.fault("scrape", repr(text[:300]))


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), PIECE):
        yield body[start : start + PIECE]
        await asyncio.sleep(0.001)

"""`POST /v1/chat/completions` and `/v1/completions`: what a model writes, whole or while it is written."""

import contextlib
import json
import secrets
import time
from collections.abc import Iterable, Iterator

from typing_extensions import override

from roundhouse_engine.chat_ask import WritingAsk, read_chat, read_completion
from roundhouse_engine.chat_format import ChatShape, CompletionShape, Shape, Written
from roundhouse_engine.door import Door
from roundhouse_engine.json_body import Fields
from roundhouse_engine.lease import Lease
from roundhouse_engine.metrics import Metrics
from roundhouse_engine.payload import payload
from roundhouse_engine.settings import Settings
from roundhouse_engine.text import Chat, Finish, Piece
from roundhouse_engine.text_events import TextAsk
from roundhouse_engine.text_route import Reply, TextRoute, event

_DONE = b"data: [DONE]\n\n"


class Chats(TextRoute[WritingAsk]):
    shape: type[Shape] = ChatShape

    def __init__(self, handler: type[Chat], settings: Settings, door: Door, metrics: Metrics) -> None:
        super().__init__(settings, door, metrics)
        self._handler = handler

    @override
    def read(self, fields: Fields, served: tuple[str, ...]) -> WritingAsk:
        return read_chat(fields, self._handler, served)

    @override
    async def compute(self, lease: Lease, ask: WritingAsk, reply: Reply) -> Iterable[bytes]:
        shape = self.shape(secrets.token_hex(12), int(time.time()), reply.model, ask.usage)
        begun = time.monotonic()
        first = True
        with self._counted(ask.model) as written, await payload(ask.told) as file:
            asked = TextAsk(ask.model, ask.work, whole=not ask.stream)
            async with contextlib.aclosing(lease.compute(asked, file)) as events:
                async for told in events:
                    written.add(told)
                    if isinstance(told, Piece | Finish) and first:
                        first = False
                        seconds = time.monotonic() - begun
                        self._metrics.first_token_seconds.labels(ask.model).observe(seconds)
                        if ask.stream:
                            await reply.events(shape.head())
                    if isinstance(told, Piece) and ask.stream:
                        await reply.events([shape.piece(told)])
        if not ask.stream:
            return [json.dumps(shape.whole(written), ensure_ascii=False).encode()]
        return [*map(event, shape.tail(written)), _DONE]

    @contextlib.contextmanager
    def _counted(self, model: str) -> Iterator[Written]:
        """What is written; it counts also where it fails, or where its client leaves."""
        written = Written()
        try:
            yield written
        finally:
            self._metrics.compute_seconds.labels(model).inc(written.compute_seconds)
            self._metrics.tokens.labels(model, "input").inc(written.prompted.tokens)
            self._metrics.tokens.labels(model, "output").inc(written.tokens)


class Completions(Chats):
    shape = CompletionShape

    @override
    def read(self, fields: Fields, served: tuple[str, ...]) -> WritingAsk:
        return read_completion(fields, self._handler, served)

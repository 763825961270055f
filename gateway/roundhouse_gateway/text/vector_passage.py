"""Embeddings on the fast lane: they pass as they are, or in the other form where the client wants that."""

import asyncio
import logging
from typing import Final

from typing_extensions import override

from roundhouse_gateway.errors import EngineFailedError, InternalError
from roundhouse_gateway.text.answer_head import AnswerHead
from roundhouse_gateway.text.passage import Passage
from roundhouse_gateway.text.vectors import MAX_BYTES, WRONG, converted, is_in_form

log: Final = logging.getLogger("roundhouse.gateway")


class VectorPassage(Passage):
    """`encoding` is the form that was asked for."""

    encoding = "float"
    _to_change: list[bytes] | None = None
    _changing: asyncio.Task[None] | None = None

    @override
    def _pass(self, head: AnswerHead) -> None:
        if self._is_as_asked():
            super()._pass(head)

    def _is_as_asked(self) -> bool:
        """Whether vectors may pass as they are; where not, they are changed once all of them are there."""
        if self._to_change is None:
            self._pending += self.take()
            fits = is_in_form(self._pending, self.encoding)
            if fits is not False:
                return fits is True or self.complete
            self._to_change = [self._pending]
        elif more := self.take():
            self._to_change.append(more)
        if sum(map(len, self._to_change)) > MAX_BYTES:
            self.abandon()
            self._fail(self._broke_off())
        elif self.complete:
            self._changing = self._client.loop.create_task(self._change())
        return False

    async def _change(self) -> None:
        """Sends the vectors in the other form, unless the client has left meanwhile."""
        exchange = self.exchange
        body = b"".join(self._to_change or ())
        self._see(body)
        try:
            changed = await converted(body, self.encoding)
            if not self.response_complete:
                self._send_head(self.head.lines_to(exchange.standing), changed, len(changed))
                self._end()
        except WRONG as error:
            self.cut(EngineFailedError(f"Engine '{self.way.entry.model.id}': {error}."))
        except Exception:
            log.exception("fault in answering %s", exchange.path, extra={"fields": exchange.fields()})
            self.cut(InternalError(exchange.request_id))

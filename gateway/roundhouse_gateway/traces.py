"""Traces: what a client says of its trace reaches the engine, and the gateway's part is exported where asked.

W3C's `traceparent` and `tracestate` go on always. Spans are made only where an OTLP endpoint is set; only
then is OpenTelemetry imported (the extra `traces`), and engines get the gateway's span as their parent.
Sampling and the rest go by OpenTelemetry's own environment variables.
"""

import re
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, Protocol

from starlette.types import ASGIApp, Receive, Scope, Send

from roundhouse_gateway.exchange import EXCHANGE, Exchange

PARENT: Final = "traceparent"
STATE: Final = "tracestate"
_PARENT: Final = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_STATE: Final = re.compile(r"[\x20-\x7e]{1,512}")

onwards: ContextVar[Mapping[str, str]] = ContextVar("onwards", default={})  # noqa: B039 - never written to
"""Headers of the trace that calls of engines carry, in the task of the request."""


class Span(Protocol):
    """The gateway's part of a trace."""

    def onwards(self) -> Mapping[str, str]:
        """The headers that make it the parent of what is called."""
        ...

    def end(self, exchange: Exchange) -> None: ...


class Tracer(Protocol):
    def begin(self, exchange: Exchange, sent: Mapping[str, str]) -> Span:
        """A span below the one whose headers were sent, if any."""
        ...

    def close(self) -> None:
        """Exports what is left."""
        ...


@dataclass(frozen=True, slots=True)
class Traced:
    """Around the application. Without a `tracer` nothing is exported."""

    app: ASGIApp
    tracer: Tracer | None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sent = headers_of(scope)
        if self.tracer is None:
            onwards.set(sent)
            await self.app(scope, receive, send)
            return
        exchange: Exchange = scope[EXCHANGE]
        span = self.tracer.begin(exchange, sent)
        onwards.set(span.onwards())
        try:
            await self.app(scope, receive, send)
        finally:
            span.end(exchange)


def headers_of(scope: Scope) -> Mapping[str, str]:
    """What the client sends of its trace; nothing where it is not as W3C has it."""
    names = (PARENT.encode(), STATE.encode())
    found = {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in names}
    if not _PARENT.fullmatch(found.get(PARENT, "")):
        return {}
    if not _STATE.fullmatch(found.get(STATE, "")):
        found.pop(STATE, None)
    return found

"""Around every request: its id, its metrics, and its line in the access log.

Pure ASGI, because anything else would hide from the routes that a client has left.
"""

import asyncio
import logging
import re
import time
from dataclasses import dataclass, field
from uuid import uuid4

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from roundhouse_api.keys import Grant
from roundhouse_gateway import error_shapes
from roundhouse_gateway.errors import CLOSE, GatewayError, Headers, NotReadyError
from roundhouse_gateway.logs import request_log
from roundhouse_gateway.metrics import OTHER_ROUTE, UNKNOWN_MODEL, Metrics
from roundhouse_gateway.usage import NOTHING, Usage

log = logging.getLogger("roundhouse.gateway")

STANDING_PREFIX = b"x-ratelimit-"
MODEL_HEADER = b"x-roundhouse-model"
EXCHANGE = "roundhouse.exchange"
BEGUN = "roundhouse.begun"
"""Where a scope has the exchange of a request that was begun elsewhere, and goes on with its id and clock."""
EVERYTHING = Grant()
CLIENT_CLOSED_REQUEST = 499
_SANE_ID = re.compile(rb"[A-Za-z0-9._:+/=-]{1,128}")
# What probes and scrapes ask every few seconds is not worth a line each.
_QUIET_ROUTES = frozenset({"/healthz", "/readyz", "/metrics", "/internal/load"})


@dataclass(slots=True)
class Exchange:
    """What is known of one request by the time it is over.

    `path` is as it was sent: decoded it could hold a line break, and forge a line of the log.
    """

    method: str
    path: str
    request_id: str
    client: str = ""
    """The address that the request came from, as far as it is known."""
    via: str = ""
    route: str = OTHER_ROUTE
    model: str = UNKNOWN_MODEL
    status: int = 0
    upload_bytes: int = 0
    note: str = ""
    key_id: str = ""
    grant: Grant = EVERYTHING
    """What the client may do; all, where no keys are asked for."""
    standing: Headers = field(default_factory=list)
    """Headers that tell where the client stands with its limits."""
    usage: Usage = NOTHING
    """What the answer says it has used: set by the routes that read it, counted at the end."""
    started: float = field(default_factory=time.perf_counter)
    first_byte: float | None = None

    def own_headers(self) -> Headers:
        """What every answer tells: the request's id, and the model once it is chosen."""
        found = [(b"x-request-id", self.request_id.encode()), *self.standing]
        return found if self.model == UNKNOWN_MODEL else [*found, (MODEL_HEADER, self.model.encode())]

    def finish(self, metrics: Metrics) -> None:
        """Counts the request and logs it."""
        seconds = time.perf_counter() - self.started
        key = metrics.key(self.key_id, self.grant.name)
        metrics.requests(self.route, str(self.status), self.model, key).inc()
        metrics.duration(self.route, self.model).observe(seconds)
        if self.first_byte is not None:
            metrics.first_byte(self.route, self.model).observe(self.first_byte - self.started)
        if self.upload_bytes:
            metrics.upload_bytes.inc(self.upload_bytes)
        metrics.used(self.model, key, self.usage)
        if self.route not in _QUIET_ROUTES:
            request_log.write(f"{self.method} {self.path} {self.status}", self.fields(seconds))

    def fields(self, seconds: float | None = None) -> dict[str, object]:
        """Of the line in the log; what is not known is left out."""
        fields: dict[str, object] = {
            "request_id": self.request_id,
            "client": self.client,
            "route": self.route,
            "model": self.model,
            "status": self.status,
            "upload_bytes": self.upload_bytes,
        }
        if seconds is not None:
            fields["seconds"] = round(seconds, 6)
        if self.first_byte is not None:
            fields["first_byte_seconds"] = round(self.first_byte - self.started, 6)
        if self.key_id:
            fields["key_id"] = self.key_id
        usage = self.usage
        if usage is not NOTHING:
            said = ("input_tokens", "output_tokens", "audio_seconds")
            fields |= {name: value for name in said if (value := getattr(usage, name))}
        if self.note:
            fields["note"] = self.note
        return fields

    def client_left(self) -> None:
        self.note = "the client left"
        self.status = self.status or CLIENT_CLOSED_REQUEST

    async def send_error(self, send: Send, error: GatewayError, *, more: bool = False) -> None:
        """The whole answer. With `more` the end is left to the caller, and the connection closes then."""
        self.note = self.note or error.message
        body = error_shapes.body_of(error, self.path, self.request_id)
        headers = [*error.headers(), (b"content-length", str(len(body)).encode())]
        if more:
            headers.append(CLOSE)
        await send({"type": "http.response.start", "status": error.status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": more})


class Observed:
    """The outermost layer of the application."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path = scope["raw_path"].decode(errors="replace")
        peer, _ = scope.get("client") or ("", 0)
        exchange = Exchange(scope["method"], path, request_id_of(scope), peer)
        if (begun := scope.get(BEGUN)) is not None:
            exchange.request_id, exchange.started = begun.request_id, begun.started
        # HEAD is GET without the body, which the server leaves out.
        method = "GET" if exchange.method == "HEAD" else exchange.method
        scope = {**scope, "method": method, EXCHANGE: exchange}

        async def observed_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                exchange.first_byte = time.perf_counter()
                headers = message.get("headers", ())
                if exchange.standing:  # an upstream's own are about the gateway's key, and not the client's
                    headers = [each for each in headers if not each[0].startswith(STANDING_PREFIX)]
                message["headers"] = [*headers, *exchange.own_headers()]
            await send(message)

        try:
            await self._app(scope, receive, observed_send)
        except asyncio.CancelledError:
            # Nothing but the end of the drain cancels a whole request.
            exchange.note = "cut off by the gateway's end"
            if exchange.status == 0:
                await exchange.send_error(
                    observed_send, NotReadyError("The gateway is ending; send it again.")
                )
        except Exception:
            log.exception(
                "fault in answering %s %s",
                exchange.method,
                exchange.path,
                extra={"fields": exchange.fields()},
            )
        finally:
            if exchange.route == OTHER_ROUTE:
                exchange.route = getattr(scope.get("route"), "path_format", OTHER_ROUTE)
            exchange.finish(self._metrics)


def request_id_of(scope: Scope) -> str:
    """The client's own id where it is sane, else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _SANE_ID.fullmatch(value):
            return str(value.decode())
    return uuid4().hex

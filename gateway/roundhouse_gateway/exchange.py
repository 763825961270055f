"""Around every request: its id, its metrics, and its line in the access log.

Pure ASGI, because anything else would hide from the routes that a client has left.
"""

import asyncio
import logging
import re
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from roundhouse_api.keys import PREFIX, Grant
from roundhouse_gateway import error_shapes
from roundhouse_gateway.errors import CLOSE, GatewayError, Headers, NotReadyError
from roundhouse_gateway.limits import Standing
from roundhouse_gateway.logs import Line, request_log
from roundhouse_gateway.metrics import OTHER_ROUTE, UNKNOWN_MODEL, Metrics, Tally
from roundhouse_gateway.request_ids import new_request_id
from roundhouse_gateway.text.frames import EVENT_STREAM, error_frame
from roundhouse_gateway.usage import NOTHING, Usage

log = logging.getLogger("roundhouse.gateway")

STANDING_PREFIX = b"x-ratelimit-"
MODEL_HEADER = b"x-roundhouse-model"
EXCHANGE = "roundhouse.exchange"
BEGUN = "roundhouse.begun"
"""Where a scope has the exchange of a request that was begun elsewhere, and goes on with its id and clock."""
EVERYTHING = Grant()
CLIENT_CLOSED_REQUEST = 499
_BETWEEN_EVENTS = (b"\n\n", b"\r\n\r\n", b"\r\r")
_SANE_ID = re.compile(rb"[A-Za-z0-9._:+/=-]{1,128}")
# What probes and scrapes ask every few seconds is not worth a line each.
_QUIET_ROUTES = frozenset({"/healthz", "/readyz", "/metrics", "/internal/load"})


class Exchange:
    """What is known of one request by the time it is over.

    `path` is as it was sent: decoded it could hold a line break, and forge a line of the log.
    """

    via = ""
    status = 0
    upload_bytes = 0
    note = ""
    key_id = ""
    grant: Grant = EVERYTHING
    """What the client may do; all, where no keys are asked for."""
    standing: Standing | None = None
    """Where the client stands with its limits; None where it has none."""
    usage: Usage = NOTHING
    """What the answer says it has used: set by the routes that read it, counted at the end."""
    first_byte: float | None = None

    def __init__(  # noqa: PLR0913, PLR0917 - what is known at its beginning
        self,
        method: str,
        path: str,
        request_id: str,
        client: str = "",
        route: str = OTHER_ROUTE,
        model: str = UNKNOWN_MODEL,
    ) -> None:
        """`client` is the address that the request came from, as far as it is known."""
        self.method = method
        self.path = path
        self.request_id = request_id
        self.client = client
        self.route = route
        self.model = model
        self.started = time.perf_counter()

    def own_headers(self) -> Headers:
        """What every answer tells: the request's id, and the model once it is chosen."""
        found = [(b"x-request-id", self.request_id.encode())]
        if self.standing is not None:
            found += self.standing.headers()
        return found if self.model == UNKNOWN_MODEL else [*found, (MODEL_HEADER, self.model.encode())]

    def finish(self, metrics: Metrics, tally: Tally | None = None) -> None:
        """Counts the request and logs it; `tally` is that of its labels, where it is known."""
        ended = time.perf_counter()
        if tally is None or tally.gone:
            tally = metrics.tally(self.route, self.model, metrics.key(self.key_id, self.grant.name))
        first_byte = self.first_byte
        tally.count(
            self.status, ended - self.started, None if first_byte is None else first_byte - self.started
        )
        if self.upload_bytes:
            metrics.upload_bytes.inc(self.upload_bytes)
        if self.usage is not NOTHING:
            tally.used(self.usage)
        if self.route not in _QUIET_ROUTES and request_log.is_wanted():
            self._log(ended)

    def _log(self, ended: float) -> None:
        first_byte, usage, request_id = self.first_byte, self.usage, self.request_id
        more = self.note or usage.audio_seconds or PREFIX in request_id
        if first_byte is None or more or request_log.stream is None:
            request_log.write(f"{self.method} {self.path} {self.status}", self.line(ended))
            return
        request_log.write_plain(
            (self.method, self.path, self.status, self.client, self.route, self.model, self.key_id),
            request_id,
            self.upload_bytes,
            ended - self.started,
            first_byte - self.started,
            usage,
        )

    def line(self, ended: float | None = None) -> Line:
        """Of the access log."""
        first_byte, usage = self.first_byte, self.usage
        return Line(
            self.request_id,
            self.client,
            self.route,
            self.model,
            self.status,
            self.upload_bytes,
            None if ended is None else round(ended - self.started, 6),
            None if first_byte is None else round(first_byte - self.started, 6),
            self.key_id,
            usage.input_tokens,
            usage.output_tokens,
            usage.audio_seconds or None,
            self.note,
        )

    def fields(self) -> dict[str, object]:
        """What is known of the request by now, for a log of something else."""
        return self.line().fields()

    def client_left(self) -> None:
        """Before its answer was whole, whatever status that had begun with."""
        self.note = "the client left"
        self.status = CLIENT_CLOSED_REQUEST

    async def send_error(self, send: Send, error: GatewayError, *, more: bool = False) -> None:
        """The whole answer. With `more` the end is left to the caller, and the connection closes then."""
        self.note = self.note or error.message
        body = error_shapes.body_of(error, self.path, self.request_id)
        headers = [*error.headers(), (b"content-length", str(len(body)).encode())]
        if more:
            headers.append(CLOSE)
        await send({"type": "http.response.start", "status": error.status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": more})


class _Answer:
    """What a client is sent."""

    _streams = False
    _last = b""
    """What of the body was sent last."""
    _is_whole = False

    def __init__(self, exchange: Exchange, send: Send) -> None:
        self._exchange = exchange
        self._send = send

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._begin(message)
        else:
            self._last = message.get("body") or self._last
            self._is_whole = not message.get("more_body", False)
        await self._send(message)

    async def cut(self, error: GatewayError) -> None:
        """Says why there is no answer, or in a stream of events no more of it, where it is between two."""
        if self._is_whole:
            return
        if self._exchange.status == 0:
            await self._exchange.send_error(self.send, error)
        elif self._streams and (not self._last or self._last.endswith(_BETWEEN_EVENTS)):
            await self._send({"type": "http.response.body", "body": error_frame(error)})

    def _begin(self, message: Message) -> None:
        exchange = self._exchange
        exchange.status = message["status"]
        exchange.first_byte = time.perf_counter()
        headers = message.get("headers", ())
        if exchange.standing is not None:
            # An upstream's own are about the gateway's key, and not the client's.
            headers = [each for each in headers if not each[0].startswith(STANDING_PREFIX)]
        self._streams = any(
            name == b"content-type" and value.startswith(EVENT_STREAM) for name, value in headers
        )
        message["headers"] = [*headers, *exchange.own_headers()]


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

        answer = _Answer(exchange, send)
        try:
            await self._app(scope, receive, answer.send)
        except asyncio.CancelledError:
            # Nothing but the end of the drain cancels a whole request.
            exchange.note = "cut off by the gateway's end"
            await answer.cut(NotReadyError("The gateway is ending; send it again."))
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
    return sent_id(scope["headers"]) or new_request_id()


def sent_id(headers: Headers) -> str:
    """The client's own id; empty where it sent none that is sane."""
    for name, value in headers:
        if name == b"x-request-id" and _SANE_ID.fullmatch(value):
            return value.decode()
    return ""

"""Pages of other origins that may ask this gateway from a browser (CORS): which, and what they may see.

Keys are headers and never cookies, so no credentials are allowed, and a page needs a key of its own. What an
engine says of origins does not pass. Browsers keep the answers to requests from pages; who may speak over a
WebSocket they leave to the server, and what stands in a form they send for any page, though that is not told
what came of it.
"""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from roundhouse_gateway.errors import Headers
from roundhouse_gateway.exchange import EXCHANGE
from roundhouse_gateway.guard_errors import OriginNotAllowedError
from roundhouse_gateway.refusal import refuse
from roundhouse_gateway.upload import Upload

ANY: Final = "*"
MAX_AGE_SECONDS: Final = 600
_OWN: Final = b"access-control-"
_EXPOSED: Final = ", ".join(
    (
        *("x-request-id", "x-roundhouse-model", "retry-after", "x-should-retry"),
        *(f"x-ratelimit-{part}-requests" for part in ("limit", "remaining", "reset")),
    )
).encode()
_HEADER_NAMES: Final = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~, -]{0,4096}")


@dataclass(frozen=True, slots=True)
class Pages:
    """Which pages may send something. Where none are named those that have a key may, if one is asked for.

    What is no browser sends no `Origin`, or that of the address that it asks, as a page from there does.
    """

    origins: Collection[str]
    keys_asked: bool

    def stranger(self, scope: Scope) -> str:
        """The origin that may not; empty where there is none."""
        if ANY in self.origins or (self.keys_asked and not self.origins):
            return ""
        named = self._of(scope, b"origin")
        own = {host.lower() for host in self._of(scope, b"host")}
        return next((each for each in named if not (each in self.origins or _host(each) in own)), "")

    @staticmethod
    def _of(scope: Scope, header: bytes) -> list[str]:
        return [value.decode("latin-1") for name, value in scope["headers"] if name == header and value]


def _host(origin: str) -> str:
    return origin.partition("://")[2].lower()


@dataclass(frozen=True, slots=True)
class NoStrangers:
    """Around all routes where no key is asked for: no page of another origin has them compute anything."""

    app: ASGIApp
    pages: Pages
    make_upload: Callable[[Receive], Upload]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "POST" and (stranger := self.pages.stranger(scope)):
            error = OriginNotAllowedError(stranger)
            await refuse(error, self.make_upload(receive), scope[EXCHANGE], send)
            return
        await self.app(scope, receive, send)


@dataclass(frozen=True, slots=True)
class Cors:
    """Around all that asks for keys: what a browser asks beforehand carries none. `origins` may hold `*`."""

    app: ASGIApp
    origins: Collection[str]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: dict[bytes, bytes] = dict(scope["headers"]) if scope["type"] == "http" else {}
        origin = headers.get(b"origin", b"").decode("latin-1")
        if not origin:
            await self.app(scope, receive, send)
        elif scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
            await self._answer_beforehand(scope, origin, headers, send)
        elif self._allows(origin):
            await self.app(scope, receive, self._telling(origin, send))
        else:
            await self.app(scope, receive, send)

    def _allows(self, origin: str) -> bool:
        return ANY in self.origins or origin in self.origins

    def _allowed(self, origin: str) -> Headers:
        value = ANY if ANY in self.origins else origin
        return [(b"access-control-allow-origin", value.encode("latin-1")), (b"vary", b"Origin")]

    async def _answer_beforehand(
        self, scope: Scope, origin: str, asked: dict[bytes, bytes], send: Send
    ) -> None:
        if not self._allows(origin):
            await scope[EXCHANGE].send_error(send, OriginNotAllowedError(origin))
            return
        names = asked.get(b"access-control-request-headers", b"")
        headers = [
            *self._allowed(origin),
            (b"access-control-allow-methods", b"GET, HEAD, POST"),
            (b"access-control-allow-headers", names if _HEADER_NAMES.fullmatch(names) else b""),
            (b"access-control-max-age", b"%d" % MAX_AGE_SECONDS),
        ]
        await send({"type": "http.response.start", "status": 204, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    def _telling(self, origin: str, send: Send) -> Send:
        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = [each for each in message.get("headers", ()) if not each[0].startswith(_OWN)]
                exposed = (b"access-control-expose-headers", _EXPOSED)
                message["headers"] = [*kept, *self._allowed(origin), exposed]
            await send(message)

        return told

"""Requests to an engine's pod for its tests: each has a limit on its time and on the size of its answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import aiohttp

from roundhouse_operator.core.verification.asks import Answer, Ask

ANSWER_BYTES: Final = 4 << 20
_TIMEOUT: Final = aiohttp.ClientTimeout(total=120, sock_connect=5)
_BUSY: Final = frozenset({429, 503})
_LONGEST_WAIT_SECONDS: Final = 10.0
_WAIT_SECONDS: Final = 1.0


class SilentError(Exception):
    """No answer that could be judged; the text says what came instead."""


class BusyError(Exception):
    """A busy, loading or absent engine did not take the request, or `slow`, took it and said nothing.

    It may be asked again after `seconds`.
    """

    def __init__(self, why: str, seconds: float = _WAIT_SECONDS, *, slow: bool = False) -> None:
        super().__init__(why)
        self.seconds = seconds
        self.slow = slow


@dataclass(slots=True)
class Asker:
    """Asks pods by their addresses. `patience_seconds` is for one request with all its repetitions."""

    patience_seconds: float = 300.0

    async def ask(self, ip: str, port: int, ask: Ask) -> Answer:
        """Once; raises BusyError."""
        async with aiohttp.ClientSession(timeout=_TIMEOUT, trust_env=False) as session:
            try:
                answer, wait = await _send(session, _url(ip, port, ask.path), ask)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                connected = not isinstance(error, aiohttp.ConnectionTimeoutError)
                slow = isinstance(error, TimeoutError) and connected
                raise BusyError(f"{type(error).__name__}: {error}", slow=slow) from error
        if answer.status in _BUSY:
            raise BusyError(answer.refusal(), wait)
        return answer


async def _send(session: aiohttp.ClientSession, url: str, ask: Ask) -> tuple[Answer, float]:
    """The answer, and how long to wait before the request is made again if it says so."""
    data = _form(ask) if ask.body is None else None
    async with session.post(url, json=ask.body, data=data, allow_redirects=False) as response:
        body = await response.content.read(ANSWER_BYTES)
        while len(body) < ANSWER_BYTES and (more := await response.content.read(ANSWER_BYTES - len(body))):
            body += more
        wait = response.headers.get("Retry-After", "")
        seconds = min(float(wait), _LONGEST_WAIT_SECONDS) if wait.isdecimal() else _WAIT_SECONDS
        return Answer(response.status, response.content_type, body), max(seconds, _WAIT_SECONDS)


def _form(ask: Ask) -> aiohttp.FormData:
    form = aiohttp.FormData()
    for name, value in ask.fields.items():
        form.add_field(name, value)
    form.add_field("file", ask.recording, filename="recording", content_type="application/octet-stream")
    return form


def _url(ip: str, port: int, path: str) -> str:
    return f"http://{f'[{ip}]' if ':' in ip else ip}:{port}{path}"

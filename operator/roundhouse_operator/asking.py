"""Requests to an engine's pod for its tests: each has a limit on its time and on the size of its answer."""

from __future__ import annotations

import asyncio
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


@dataclass(slots=True)
class Asker:
    """Asks pods by their addresses. `patience_seconds` is for one request with all its repetitions."""

    patience_seconds: float = 300.0

    async def ask(self, ip: str, port: int, ask: Ask) -> Answer:
        """Repeats what a busy, loading or absent engine did not take; raises SilentError in the end."""
        deadline = _now() + self.patience_seconds
        async with aiohttp.ClientSession(timeout=_TIMEOUT, trust_env=False) as session:
            while True:
                try:
                    answer, wait = await _send(session, _url(ip, port, ask.path), ask)
                except (aiohttp.ClientError, TimeoutError, OSError) as error:
                    why, wait = f"{type(error).__name__}: {error}", _WAIT_SECONDS
                else:
                    if answer.status not in _BUSY:
                        return answer
                    why = answer.refusal()
                if _now() + wait > deadline:
                    raise SilentError(
                        f"{ask.path} gave no answer within {self.patience_seconds:.0f} s: {why}"
                    )
                await asyncio.sleep(wait)


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


def _now() -> float:
    return asyncio.get_running_loop().time()

"""An engine for everything, in a process of its own, that does to each request what its order says.

`python -m tests.conformance.gateway.soak.engine` says its port in a line of JSON, and then serves. The order
is the field `order` of the JSON or the form: none for a good answer, which tells what was received.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from tests.conformance.gateway import dialect_engines, text_engine
from tests.conformance.gateway import scripted_engine as scripts
from tests.conformance.gateway.loop_thread import LoopThread
from tests.conformance.gateway.scripted_engine import Received, ScriptedEngine

ROOT = Path(__file__).parents[4]
VLLM_MODEL = "engine-voxtral"
PAUSE_SECONDS = 0.01


@dataclass
class EngineProcess:
    process: subprocess.Popen[bytes]
    port: int

    @classmethod
    def start(cls) -> "EngineProcess":
        process = subprocess.Popen([sys.executable, "-m", __name__], cwd=ROOT, stdout=subprocess.PIPE)
        assert process.stdout
        return cls(process, json.loads(process.stdout.readline())["port"])

    def kill(self) -> None:
        """In the midst of whatever it does."""
        assert self.process.stdout
        self.process.stdout.close()
        self.process.kill()
        self.process.wait()


def heard(size: int, sha256: str) -> str:
    """What is said of a recording."""
    return f"{size} bytes of {sha256[:16]}"


async def obey(request: web.Request, received: Received) -> web.StreamResponse:
    """The order, or else a good answer."""
    form = dict(received.fields)
    order, _, argument = (form or received.json).get("order", "").partition(" ")
    match order:
        case "wait":
            await asyncio.sleep(float(argument))
        case "die":
            return await scripts.hang_up(request, received)
        case "break":
            return await scripts.hang_up_midway(request, received)
        case "refuse":
            return refusal(429 if argument == "full" else 503, f"engine_{argument}", argument)
        case "complain":
            return refusal(400, argument, "")
        case _:
            pass
    return await answer(request, received, form)


def refusal(status: int, code: str, reason: str) -> web.Response:
    """As the engine SDK says it."""
    error = {"message": "No.", "type": "invalid_request_error", "param": None, "code": code}
    headers = {"X-Roundhouse-Reason": reason, "Retry-After": "1"} if reason else None
    return web.json_response({"error": error}, status=status, headers=headers)


async def answer(request: web.Request, received: Received, form: dict[str, str]) -> web.StreamResponse:
    if request.path == "/v1/embeddings":
        return await text_engine.embeddings(knows_base64=False)(request, received)
    if request.path.endswith("/rerank"):
        return await text_engine.rerank(request, received)
    if not request.path.startswith("/v1/audio/"):
        return await chat(request, received)
    if form.get("model") == VLLM_MODEL:
        return await dialect_engines.vllm(request, received)
    if form.get("response_format") == "verbose_json":
        return await scripts.transcript(request, received)
    usage = {"type": "duration", "seconds": 3}
    return web.json_response({"text": heard(received.file_size, received.file_sha256), "usage": usage})


async def chat(request: web.Request, received: Received) -> web.StreamResponse:
    """Says what it was told last, word by word where that is to be streamed."""
    asked = received.json
    said = asked["messages"][-1]["content"]
    if not asked.get("stream"):
        whole = await text_engine.chat(request, received)
        assert isinstance(whole, web.Response)
        assert whole.text is not None
        return web.Response(
            text=whole.text.replace("".join(text_engine.WORDS), said), content_type="application/json"
        )
    words = [text_engine.frame(text_engine.chunk({"content": word})) for word in said.split()]
    frames = [*words, text_engine.frame(text_engine.chunk({}, "stop")), text_engine.frame(b"[DONE]")]
    return await text_engine.stream(request, frames, pause=PAUSE_SECONDS)


def main() -> None:
    engine = ScriptedEngine(LoopThread())

    async def forget_and_obey(request: web.Request, received: Received) -> web.StreamResponse:
        engine.requests.clear()
        engine.gone.clear()
        return await obey(request, received)

    engine.answer = forget_and_obey
    print(json.dumps({"port": engine.port}), flush=True)
    while os.getppid() != 1:
        signal.sigtimedwait((signal.SIGTERM,), 1)


if __name__ == "__main__":
    main()

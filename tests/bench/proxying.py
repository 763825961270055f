"""What it costs to go through the gateway: small requests in great number, against other proxies.

All of them are there at once, on one core, and take turns; load and backend are on the last. The gateway asks
for a key with limits and writes its access log.
"""

import json
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from statistics import median, quantiles
from typing import Final

from tests.bench import peers
from tests.bench.figure import Figure, Result
from tests.bench.gateway import CHAT, a_gateway, load_from_last_core
from tests.bench.machine import cpu_seconds, pin
from tests.bench.peers import MODEL, Peer
from tests.conformance.gateway.client import BOUNDARY, field, file, form
from tests.conformance.gateway.process import GatewayProcess

SECONDS: Final = 2
ROUNDS: Final = 3
MANY: Final = 32
MODELS: Final = 10_000
ASKED: Final = 2000
_WORDS: Final = "The quick brown fox jumps over the lazy dog. " * 20
_CHAT: Final = (
    f'{{"model": "{MODEL}", "messages": [{{"role": "user", "content": "{_WORDS}"}}], "temperature": 0.7}}'
)
_CHATS: Final = "/v1/chat/completions"
_AUDIO: Final = "/v1/audio/transcriptions"
_FORM: Final = form(field("model", MODEL), file(b"RIFF" * 200)).decode()

NGINX: Final = Figure(
    "gateway", "chat, 32 connections", "req/s", "higher", against="nginx", budget=0.3, noise=0.15, aim=0.45
)
GO: Final = Figure(
    "gateway",
    "chat, 32 connections, bare Go",
    "req/s",
    "higher",
    against="Go",
    budget=1.1,
    noise=0.15,
    aim=1.5,
)
FASTAPI: Final = Figure(
    "gateway", "chat, 32 connections, plain FastAPI", "req/s", "higher", against="FastAPI + aiohttp"
)
LITELLM: Final = Figure(
    "gateway", "chat, 32 connections, LiteLLM", "req/s", "higher", against="LiteLLM", budget=100, noise=0.2
)
BACKEND: Final = Figure(
    "gateway", "the backend itself, 32 connections", "req/s", "higher", against="nginx before it", aim=1.5
)
COPY: Final = Figure("gateway", "processor time of copying bytes, uvloop", "µs", "lower", against="nginx")
COST: Final = Figure(
    "gateway",
    "processor time of a chat request",
    "µs",
    "lower",
    against="nginx",
    budget=3.3,
    noise=0.15,
    aim=2.3,
)
ALONE: Final = Figure(
    "gateway", "chat, one connection, median", "µs", "lower", against="nginx", budget=2.0, noise=0.2
)
AUDIO: Final = Figure("gateway", "small transcriptions, 32 connections", "req/s", "higher", against="nginx")
AUDIO_COST: Final = Figure(
    "gateway",
    "processor time of a small transcription",
    "µs",
    "lower",
    against="nginx",
    budget=4,
    noise=0.2,
)
LIST: Final = Figure(
    "gateway",
    "GET /v1/models of 10,000",
    "req/s",
    "higher",
    against="nginx's file",
    budget=0.5,
    noise=0.2,
)
SCRAPE: Final = Figure(
    "gateway", "what scraping 10,000 models adds, 99th percentile", "ms", "lower", budget=5, noise=0.5
)
FIGURES: Final = (BACKEND, NGINX, GO, FASTAPI, LITELLM, COST, COPY, ALONE, AUDIO, AUDIO_COST, LIST, SCRAPE)


def measure() -> Iterator[Result]:
    peers.install_tools()
    with tempfile.TemporaryDirectory() as name, load_from_last_core() as first, ExitStack() as stack:
        folder = Path(name)
        backend = stack.enter_context(peers.backend(folder))
        with a_gateway(backend.port, variants=1, like=CHAT, keyed=True) as (gateway, _):
            yield from _chat(folder, gateway, backend, first)
        with a_gateway(backend.port, variants=1, keyed=True) as (gateway, _):
            yield from _audio(folder, gateway, backend, first)
        with a_gateway(backend.port, variants=MODELS, like=CHAT, keyed=True) as (gateway, _):
            yield from _many_models(folder, gateway, first)


def _chat(folder: Path, gateway: GatewayProcess, backend: Peer, first: int) -> Iterator[Result]:
    script = _script(folder, "chat", gateway, _CHAT, "application/json")
    ours = Peer("gateway", gateway.process.pid, gateway.port)
    with ExitStack() as stack:
        nginx = stack.enter_context(peers.nginx(folder, backend.port))
        kinds = (peers.go_proxy, peers.plain_proxy, peers.copier)
        others = [stack.enter_context(peer(backend.port)) for peer in kinds]
        slow = stack.enter_context(peers.litellm(folder, backend.port))
        alike = (ours, nginx, *others)
        for peer in (*alike, *([slow] if slow else [])):
            pin(peer.pid, first)
            _wrk(peer.port, script, MANY, _CHATS, seconds=1)
        rounds = [[_cost(peer, script, MANY) for peer in (*alike, backend)] for _ in range(ROUNDS)]
        mine, of_nginx, of_go, of_fastapi, of_copier, of_backend = zip(*rounds, strict=True)
        yield Result(BACKEND, _rate(of_backend), _rate(of_nginx))
        for figure, theirs in ((NGINX, of_nginx), (GO, of_go), (FASTAPI, of_fastapi)):
            yield Result(figure, _rate(mine), _rate(theirs))
        if slow:
            yield Result(LITELLM, _rate(mine), _wrk(slow.port, script, MANY, _CHATS)[0])
        yield Result(COST, _time(mine), _time(of_nginx))
        yield Result(COPY, _time(of_copier), _time(of_nginx))
        alone = [[_wrk(peer.port, script, 1, _CHATS)[1] for peer in (ours, nginx)] for _ in range(ROUNDS)]
        yield Result(ALONE, *(median(each[place] for each in alone) for place in (0, 1)))


def _audio(folder: Path, gateway: GatewayProcess, backend: Peer, first: int) -> Iterator[Result]:
    script = _script(folder, "audio", gateway, _FORM, f"multipart/form-data; boundary={BOUNDARY}")
    ours = Peer("gateway", gateway.process.pid, gateway.port)
    with peers.nginx(folder, backend.port) as nginx:
        for peer in (ours, nginx):
            pin(peer.pid, first)
            _wrk(peer.port, script, MANY, _AUDIO, seconds=1)
        rounds = [[_cost(peer, script, MANY, _AUDIO) for peer in (ours, nginx)] for _ in range(ROUNDS)]
    mine, of_nginx = zip(*rounds, strict=True)
    yield Result(AUDIO, _rate(mine), _rate(of_nginx))
    yield Result(AUDIO_COST, _time(mine), _time(of_nginx))


def _many_models(folder: Path, gateway: GatewayProcess, first: int) -> Iterator[Result]:
    script = _script(folder, "list", gateway)
    with peers.nginx_file(folder, gateway.get("/v1/models").body) as nginx:
        for pid in (gateway.process.pid, nginx.pid):
            pin(pid, first)
        ports = (gateway.port, nginx.port)
        rounds = [[_wrk(port, script, MANY, "/v1/models")[0] for port in ports] for _ in range(ROUNDS)]
    yield Result(LIST, *(median(each[place] for each in rounds) for place in (0, 1)))
    _times(gateway, [f"variant-{number:04}" for number in range(MODELS)])
    before = _times(gateway, [MODEL] * ASKED)
    with _scraping(gateway.metrics_port):
        during = _times(gateway, [MODEL] * ASKED)
    yield Result(SCRAPE, max(0.0, 1000 * (_late(during) - _late(before))))


@contextmanager
def _scraping(port: int) -> Iterator[None]:
    """Again and again, by a process that shares nothing with the one that measures."""
    again = f"while :; do curl -s -o /dev/null http://127.0.0.1:{port}/metrics; done"
    with subprocess.Popen(["sh", "-c", again], start_new_session=True) as scraper:
        try:
            yield
        finally:
            os.killpg(scraper.pid, signal.SIGKILL)


def _late(times: Sequence[float]) -> float:
    return quantiles(times, n=100)[-1]


def _times(gateway: GatewayProcess, models: Sequence[str]) -> list[float]:
    """How long each of them took to answer, one after the other on one connection."""
    connection = HTTPConnection("127.0.0.1", gateway.port, timeout=60)
    headers = {"Authorization": f"Bearer {gateway.key}", "Content-Type": "application/json"}
    taken: list[float] = []
    for model in models:
        began = time.perf_counter()
        connection.request("POST", _CHATS, _CHAT.replace(MODEL, model), headers)
        answer = connection.getresponse()
        said = answer.read()
        assert answer.status == 200, said
        taken.append(time.perf_counter() - began)
    connection.close()
    return taken


def _rate(found: Sequence[tuple[float, float]]) -> float:
    return median(rate for rate, _ in found)


def _time(found: Sequence[tuple[float, float]]) -> float:
    return median(cost for _, cost in found)


def _cost(peer: Peer, script: Path, connections: int, path: str = _CHATS) -> tuple[float, float]:
    """Requests a second, and microseconds of processor time for each."""
    before = cpu_seconds(peer.pid)
    rate, _ = _wrk(peer.port, script, connections, path)
    return rate, 1e6 * (cpu_seconds(peer.pid) - before) / (rate * SECONDS)


def _script(folder: Path, name: str, gateway: GatewayProcess, body: str = "", kind: str = "") -> Path:
    path = folder / f"{name}.lua"
    lines = [f'wrk.headers["authorization"] = "Bearer {gateway.key}"']
    if body:
        lines += [
            'wrk.method = "POST"',
            f"wrk.body = {json.dumps(body)}",
            f'wrk.headers["content-type"] = "{kind}"',
        ]
    path.write_text("\n".join(lines))
    return path


def _wrk(
    port: int, script: Path, connections: int, path: str, *, seconds: int = SECONDS
) -> tuple[float, float]:
    """Requests a second, and the median in microseconds."""
    options = ["-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "--timeout", "30s", "-s", str(script)]
    command = ["wrk", *options, f"http://127.0.0.1:{port}{path}"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "Non-2xx" not in said, said
    rate, half = re.search(r"Requests/sec:\s+([\d.]+)", said), re.search(r"50%\s+([\d.]+)(us|ms|s)", said)
    assert rate, said
    assert half, said
    return float(rate[1]), float(half[1]) * {"us": 1, "ms": 1e3, "s": 1e6}[half[2]]

"""What the gateway reaches: its list of models, and uploads to an engine that only reads them."""

import json
import os
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Final
from urllib.parse import urlsplit

from roundhouse_api.keys import Grant, issue
from roundhouse_api.names import SECRET_TYPE_API_KEY
from tests.bench.backends import backend
from tests.bench.figure import Figure, Result
from tests.bench.load import requests_per_second
from tests.bench.machine import MEGABYTE, cores, forget_peak, peak_mb, pin, resident_mb
from tests.conformance.gateway.client import answer_on, field, file, form, start_upload
from tests.conformance.gateway.fake_api_server import FakeApiServer
from tests.conformance.gateway.loop_thread import LoopThread
from tests.conformance.gateway.manifests import Variant, engine, slice_of
from tests.conformance.gateway.process import GatewayProcess, is_ready, start
from tests.support.tls import Authority
from tests.support.waiting import wait_until

VARIANTS: Final = 1000
CONNECTIONS: Final = 32
LOAD_SECONDS: Final = 2
LOAD_ROUNDS: Final = 3
UPLOAD_MB: Final = 100
UPLOAD_ROUNDS: Final = 7
AT_ONCE: Final = 8
SPEECH: Final = Variant("")
CHAT: Final = replace(SPEECH, stage="Chat")
_FIRST_PIECE: Final = 1 << 16
_KEYED: Final = {"KEYS_NAMESPACE": "keys"}

LIST: Final = Figure("gateway", "GET /v1/models of 1,000", "req/s", "higher", against="bare uvloop server")
GROWTH: Final = Figure(
    "gateway", "memory growth, 8 uploads of 100 MB at once", "MB", "lower", budget=12, noise=0.25
)
GROWTH_LAST: Final = Figure("gateway", "the same, `model` after `file`", "MB", "lower", budget=12, noise=0.25)
RESIDENT: Final = Figure(
    "gateway", "peak memory, 8 uploads of 100 MB at once", "MB", "lower", budget=85, noise=0.05, aim=80
)
UPLOAD: Final = Figure("gateway", "upload of 100 MB", "MB/s", "higher", against="direct to the engine")
FIRST_BYTE: Final = Figure(
    "gateway", "first byte of an upload at the engine", "ms", "lower", budget=5, noise=0.25
)
FIGURES: Final = (LIST, GROWTH, GROWTH_LAST, RESIDENT, UPLOAD, FIRST_BYTE)


def measure() -> Iterator[Result]:
    with backend("engine") as (_, engine_port):
        # A gateway of its own: memory that reading a thousand models has freed would hide what uploads take.
        with a_gateway(engine_port, variants=1) as (gateway, _):
            yield from _memory(gateway)
            yield from _uploads(gateway.port, engine_port)
        with a_gateway(engine_port, variants=VARIANTS) as (gateway, _):
            yield from _lists(gateway)


def _memory(gateway: GatewayProcess) -> Iterator[Result]:
    _upload(gateway.port, _body(1))
    content = bytes(UPLOAD_MB * MEGABYTE)
    before, peak = _memory_of(gateway, form(field("model", "variant-0000"), file(content)))
    yield Result(GROWTH, peak - before)
    yield Result(RESIDENT, peak)
    before, peak = _memory_of(gateway, form(file(content), field("model", "variant-0000")))
    yield Result(GROWTH_LAST, peak - before)


def _memory_of(gateway: GatewayProcess, body: bytes) -> tuple[float, float]:
    """Before the uploads, and at most while there are eight of them."""
    pid = gateway.process.pid
    forget_peak(pid)
    before = resident_mb(pid)
    with ThreadPoolExecutor(AT_ONCE) as threads:
        list(threads.map(lambda _: _upload(gateway.port, body), range(AT_ONCE)))
    return before, peak_mb(pid)


def _uploads(gateway_port: int, engine_port: int) -> Iterator[Result]:
    body = _body(UPLOAD_MB * MEGABYTE)
    pairs = [(_upload(gateway_port, body), _upload(engine_port, body)) for _ in range(UPLOAD_ROUNDS)]
    ours, direct = zip(*pairs, strict=True)
    yield Result(
        UPLOAD,
        median(UPLOAD_MB / total for total, _ in ours),
        median(UPLOAD_MB / total for total, _ in direct),
    )
    yield Result(FIRST_BYTE, median(1000 * first for _, first in ours))


def _lists(gateway: GatewayProcess) -> Iterator[Result]:
    """The servers take turns on the first core; the load comes from the last."""
    answer = gateway.get("/v1/models")
    assert len(answer.json["data"]) == VARIANTS
    with tempfile.NamedTemporaryFile() as same:
        same.write(answer.body)
        same.flush()
        with backend("file", same.name) as (bare_pid, bare_port), load_from_last_core() as first:
            pin(gateway.process.pid, first)
            pin(bare_pid, first)
            pairs = [(_list_rate(gateway.port), _list_rate(bare_port)) for _ in range(LOAD_ROUNDS)]
    ours, bare = zip(*pairs, strict=True)
    yield Result(LIST, median(ours), median(bare))


def _list_rate(port: int) -> float:
    return requests_per_second(port, "/v1/models", connections=CONNECTIONS, seconds=LOAD_SECONDS)


def _body(size: int) -> bytes:
    return form(field("model", "variant-0000"), file(bytes(size)))


def _upload(port: int, body: bytes) -> tuple[float, float]:
    """Seconds from the connect until the answer, and until the engine had the first byte of the body."""
    began = time.monotonic()
    with start_upload(port, body[:_FIRST_PIECE], total=len(body)) as connection:
        connection.sendall(memoryview(body)[_FIRST_PIECE:])
        with answer_on(connection) as answer:
            said = json.loads(answer.read())
            assert answer.status == 200, said
            return time.monotonic() - began, float(said["text"]) - began


@contextmanager
def a_gateway(
    engine_port: int, *, variants: int, like: Variant = SPEECH, keyed: bool = False, workers: int = 1
) -> Iterator[tuple[GatewayProcess, FakeApiServer]]:
    """A ready one that knows so many models of a kind, served by the one engine, and the API server it reads.

    `keyed`: it asks for keys, and has one whose limits are not met.
    """
    settings = {**(_KEYED if keyed else {}), "WORKERS": str(workers)}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        authority = Authority(folder)
        thread = LoopThread()
        stack.callback(thread.close)
        api = FakeApiServer(thread, authority.server_at("127.0.0.1"))
        stack.callback(api.stop)
        api.state.page = 500
        key = _put_key(api)
        api.put("engines", engine())
        for number in range(variants):
            made = replace(like, name=f"variant-{number:04}")
            api.put("modelvariants", made.manifest())
            api.put("endpointslices", slice_of(made.name, engine_port))
        gateway = _in_pod(folder, authority, api.url, settings)
        stack.callback(gateway.kill)
        gateway.key = key if keyed else ""
        wait_until(lambda: is_ready(gateway), seconds=60, what="the gateway is ready", every=0.05)
        yield gateway, api


def _in_pod(folder: Path, authority: Authority, url: str, settings: Mapping[str, str]) -> GatewayProcess:
    """Starts it; it may not be ready yet. `url`: of an API server with a certificate of the authority."""
    account = folder / "serviceaccount"
    account.mkdir()
    (account / "token").write_text("a-token")
    (account / "ca.crt").write_text(authority.pem)
    server = urlsplit(url)
    access = {"KUBERNETES_SERVICE_HOST": str(server.hostname), "KUBERNETES_SERVICE_PORT": str(server.port)}
    return start([sys.executable, "-m", "tests.bench.in_pod", str(account)], access, folder, settings)


def _put_key(api: FakeApiServer) -> str:
    issued = issue(Grant(requests_per_minute=10**9, max_concurrent=10_000))
    data = {name: b64encode(text.encode()).decode() for name, text in issued.data.items()}
    metadata = {"name": "bench", "namespace": _KEYED["KEYS_NAMESPACE"]}
    api.put("secrets", {"metadata": metadata, "type": SECRET_TYPE_API_KEY, "data": data})
    return issued.text


@contextmanager
def load_from_last_core() -> Iterator[int]:
    """This thread makes the load, on the last core; the first one is left to what is measured."""
    before = cores()
    os.sched_setaffinity(0, {before[-1]})
    try:
        yield before[0]
    finally:
        os.sched_setaffinity(0, before)

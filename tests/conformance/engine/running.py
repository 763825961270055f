"""Runs an engine as its container would, and talks to it over loopback with nothing in between."""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from openai import OpenAI
from prometheus_client.parser import text_string_to_metric_families

from tests.support.recordings import wav
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[3]
POCKETSPHINX = ("-m", "roundhouse_pocketsphinx")
FASTER_WHISPER = ("-m", "roundhouse_faster_whisper")
SCRIPTED = ("-m", "tests.conformance.engine.handlers", "Scripted")
LIVE = ("-m", "tests.conformance.engine.handlers", "Live")
LIVE_THREADED = ("-m", "tests.conformance.engine.handlers", "LiveThreaded")
TOGETHER = ("-m", "tests.conformance.engine.handlers", "Together")
THREADED = ("-m", "tests.conformance.engine.handlers", "Threaded")
INTERPRETER = ("-m", "tests.conformance.engine.handlers", "Interpreter")
TRANSCRIPTIONS = "/v1/audio/transcriptions"
MARK = "test-boundary"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.body)
        return parsed

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = self.json["error"]
        assert sorted(error) == ["code", "message", "param", "type"]
        return error


@dataclass
class Engine:
    process: subprocess.Popen[bytes]
    log: Path
    port: int
    admin_port: int | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def client(self) -> OpenAI:
        """The official client, without its retries: the first answer counts."""
        return OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=300)

    def connect(self, timeout: float = 120) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        return self.request("GET", path, headers=headers)

    def request(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        with contextlib.closing(self.connect()) as connection:
            connection.request(method, path, body, dict(headers or {}))
            return answer(connection)

    def post(self, audio: bytes | None, *, path: str = TRANSCRIPTIONS, **fields: str) -> Answer:
        body, headers = form(audio, **fields)
        return self.request("POST", path, body, headers)

    @contextlib.contextmanager
    def started(self, audio: bytes, **fields: str) -> Iterator[http.client.HTTPConnection]:
        """A request that the engine works on, its answer not read yet; hangs up at the end."""
        before = self.metric("slots_computing")
        body, headers = form(audio, **fields)
        with contextlib.closing(self.connect()) as connection:
            connection.request("POST", TRANSCRIPTIONS, body, headers)
            wait_until(
                lambda: self.metric("slots_computing") > before, seconds=30, what="it computes", every=0.02
            )
            yield connection

    @contextlib.contextmanager
    def uploading(self, audio: bytes) -> Iterator[tuple[http.client.HTTPConnection, bytes]]:
        """An admitted request of which half has come, and the other half; hangs up at the end."""
        body, headers = form(audio)
        half = len(body) // 2
        with contextlib.closing(self.connect()) as connection:
            connection.putrequest("POST", TRANSCRIPTIONS)
            for name, value in (headers | {"Content-Length": str(len(body))}).items():
                connection.putheader(name, value)
            connection.endheaders(body[:half])
            wait_until(lambda: self.in_use == 1, seconds=30, what="admitted", every=0.02)
            yield connection, body[half:]

    @property
    def in_use(self) -> int:
        return int(self.get("/health/live").headers["x-roundhouse-load"].partition("/")[0])

    @property
    def capacity(self) -> int:
        return int(self.get("/health/live").headers["x-roundhouse-load"].partition("/")[2])

    @property
    def ready(self) -> bool:
        return self.get("/health/ready").status == 200

    def until_ready(self, sessions: int = 0) -> None:
        """With places for so many realtime sessions: the engine is ready with the first."""
        wait_until(lambda: self.ready, seconds=60, what=f"ready; log:\n{self.logged}", every=0.05)

        def has_places() -> bool:
            models = json.loads(self.get("/v1/models").body)["data"]
            return all(model["sessions"]["capacity"] >= sessions for model in models)

        if sessions:
            wait_until(has_places, seconds=60, what=f"{sessions} places; log:\n{self.logged}", every=0.05)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples of that name with those labels."""
        families = text_string_to_metric_families(self.get("/metrics").body.decode())
        samples = (sample for family in families for sample in family.samples)
        return sum(
            sample.value
            for sample in samples
            if sample.name == f"roundhouse_engine_{name}" and labels.items() <= sample.labels.items()
        )

    @property
    def processor_seconds(self) -> float:
        """Of the server itself, all its threads together, and none of its children."""
        return processor_seconds(self.process.pid)

    @property
    def children(self) -> list[int]:
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    @property
    def logged(self) -> str:
        return self.log.read_text()

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def ended(self, seconds: float = 120) -> int:
        return self.process.wait(timeout=seconds)


def processor_seconds(pid: int) -> float:
    """Of the process, all its threads together."""
    return time.clock_gettime((~pid << 3) | 2)  # as clock_getcpuclockid makes it


def answer(connection: http.client.HTTPConnection) -> Answer:
    response = connection.getresponse()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, headers, response.read())


def form(audio: bytes | None, **fields: str) -> tuple[bytes, dict[str, str]]:
    """A multipart body: the fields (`model` is `m` unless given), then the recording."""
    parts = [
        f'--{MARK}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in ({"model": "m"} | fields).items()
    ]
    if audio is not None:
        head = f'--{MARK}\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        parts += [head.encode(), audio, b"\r\n"]
    body = b"".join([*parts, f"--{MARK}--\r\n".encode()])
    return body, {"Content-Type": f"multipart/form-data; boundary={MARK}"}


def environment(**variables: str) -> dict[str, str]:
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("ROUNDHOUSE_", "MODELS"))
    }
    defaults = {
        "ROUNDHOUSE_PORT": "0",
        "ROUNDHOUSE_POD_UID": "pod-uid",
        "MODELS": "m",
        "PYTHONWARNINGS": "error",
    }
    return kept | defaults | variables


@contextlib.contextmanager
def running(arguments: Iterable[str], folder: Path, **variables: str) -> Iterator[Engine]:
    """An engine that listens, not yet ready; killed at the end if it still runs."""
    log = folder / "engine.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=ROOT, env=environment(**variables), stdout=out, stderr=out
        )
    try:
        told = wait_until(lambda: _listens(log), seconds=60, what="it listens", every=0.02)
        assert told
        yield Engine(process, log, told["port"], told.get("admin_port"))
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def _listens(log: Path) -> dict[str, Any] | None:
    text = log.read_text()
    assert "Traceback" not in text, text
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return next((line for line in lines if line["message"] == "listening"), None)


def tones(count: int, *, seconds: float = 0.5, pause: float = 1.2) -> bytes:
    """A WAV file with so many separate sounds, each heard as one window."""
    at = np.arange(round(seconds * 16_000))
    sound = (np.sin(at * 0.1) * 8000 * (0.6 + 0.4 * np.sin(at * 0.002))).astype("<i2").tobytes()
    silence = bytes(round(pause * 16_000) * 2)
    return wav((silence + sound) * count + silence)

"""`wyoming-faster-whisper`, the server that Home Assistant's users run: what our engine is held against.

It speaks Wyoming over TCP: lines of JSON, each with so many bytes of data and of audio behind it.
"""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.bench.peers import installed, running
from tests.support.ports import free_port

WYOMING_NAME: Final = "wyoming-faster-whisper"
_PINNED: Final = f"{WYOMING_NAME}==3.8.1"
_RATE: Final = 16_000
_FORMAT: Final = {"rate": _RATE, "width": 2, "channels": 1}
_PIECE_BYTES: Final = 1 << 16
_PATIENCE_SECONDS: Final = 120


@dataclass(frozen=True, slots=True)
class Wyoming:
    """The server, which is up and has loaded its model."""

    port: int

    def transcribe(self, samples: bytes) -> str:
        """What it hears in 16 kHz mono samples, over a connection of its own."""
        address = ("127.0.0.1", self.port)
        with (
            socket.create_connection(address, timeout=_PATIENCE_SECONDS) as connection,
            connection.makefile("rwb") as stream,
        ):
            _send(stream, "transcribe", {"language": "en"})
            _send(stream, "audio-start", _FORMAT)
            for start in range(0, len(samples), _PIECE_BYTES):
                _send(stream, "audio-chunk", _FORMAT, samples[start : start + _PIECE_BYTES])
            _send(stream, "audio-stop", {})
            stream.flush()
            while (event := _receive(stream))["type"] != "transcript":
                pass
            return str(event["data"]["text"]).strip()


@contextmanager
def wyoming(folder: Path, model: Path, threads: int) -> Iterator[Wyoming | None]:
    """With the model at `model` and our engine's settings, silence left out included; None: not installed."""
    home = installed(WYOMING_NAME, _PINNED)
    if home is None:
        yield None
        return
    port = free_port()
    arguments = [
        *(str(home / "bin/python"), "-m", "wyoming_faster_whisper"),
        *("--uri", f"tcp://127.0.0.1:{port}", "--data-dir", str(folder), "--model", str(model)),
        *("--stt-library", "faster-whisper", "--language", "en", "--local-files-only"),
        *("--compute-type", "int8", "--beam-size", "5", "--cpu-threads", str(threads), "--vad-filter"),
    ]
    with running(WYOMING_NAME, arguments, port, seconds=180) as peer:
        server = Wyoming(peer.port)
        began = time.monotonic()
        server.transcribe(bytes(2 * _RATE))  # loads the model where the start did not
        print(f"{WYOMING_NAME} answered after {time.monotonic() - began:.1f} s", flush=True)
        yield server


def _send(stream: Any, kind: str, data: dict[str, Any], payload: bytes = b"") -> None:
    head: dict[str, Any] = {"type": kind, "data": data}
    if payload:
        head["payload_length"] = len(payload)
    stream.write(json.dumps(head).encode() + b"\n" + payload)


def _receive(stream: Any) -> dict[str, Any]:
    line = stream.readline()
    assert line, f"{WYOMING_NAME} hung up"
    event: dict[str, Any] = json.loads(line)
    if length := event.pop("data_length", 0):
        event["data"] = event.get("data", {}) | json.loads(stream.read(length))
    stream.read(event.pop("payload_length", 0) or 0)
    return event

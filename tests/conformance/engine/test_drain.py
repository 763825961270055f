"""SIGTERM: new work is refused, begun work ends, the process leaves with 0."""

import contextlib
import json
import socket
import subprocess
from pathlib import Path

import pytest

from roundhouse_engine.errors import Refusal
from tests.conformance.engine.running import SCRIPTED, THREADED, answer, running, tones
from tests.conformance.engine.test_contract import assert_refused
from tests.conformance.engine.test_texts import VECTORS
from tests.support.waiting import wait_until


def test_begun_work_ends_and_new_work_is_refused(tmp_path: Path) -> None:
    told = {"ROUNDHOUSE_CAPACITY": "2", "ROUNDHOUSE_DRAIN_SECONDS": "600"}
    with running(SCRIPTED, tmp_path, **told) as engine:
        engine.until_ready()
        wait_until(lambda: engine.capacity == 2, seconds=30, what="both are up")
        gate = tmp_path / "gate"
        with engine.started(tones(1), prompt=f"until {gate}") as begun:
            engine.terminate()
            wait_until(lambda: not engine.ready, seconds=30, what="readiness is off", every=0.02)
            assert engine.get("/health/ready").json["status"] == "draining"
            live = engine.get("/health/live")
            assert (live.status, live.headers["connection"]) == (200, "close")
            assert_refused(engine.post(tones(1)), 503, Refusal.DRAINING)
            gate.touch()
            ended = answer(begun)
        assert (ended.status, ended.json["text"]) == (200, "sound")
        assert engine.ended() == 0


def test_an_idle_engine_leaves_soon(tmp_path: Path) -> None:
    with running(SCRIPTED, tmp_path, ROUNDHOUSE_DRAIN_SECONDS="600") as engine:
        engine.until_ready()
        engine.terminate()
        assert engine.ended() == 0, "it does not wait for as long as a drain may take"


def test_an_engine_that_still_loads_leaves_as_well(tmp_path: Path) -> None:
    with running(SCRIPTED, tmp_path, TEST_LOAD_GATE=str(tmp_path / "never")) as engine:
        engine.terminate()
        assert engine.ended() == 0


def test_work_past_the_deadline_is_told_that_the_engine_leaves(tmp_path: Path) -> None:
    for arguments, prompt in [(SCRIPTED, "wait 600"), (THREADED, "wait 600"), (SCRIPTED, "stubborn 60")]:
        with running(
            arguments, tmp_path, ROUNDHOUSE_DRAIN_SECONDS="0.5", TEST_CANCEL_SECONDS="0.5"
        ) as engine:
            engine.until_ready()
            with engine.started(tones(1), prompt=prompt) as begun:
                engine.terminate()
                assert_refused(answer(begun), 503, Refusal.DRAINING)
            assert engine.ended() == 0


def test_an_upload_past_the_deadline_is_told_so_too(tmp_path: Path) -> None:
    with running(SCRIPTED, tmp_path, ROUNDHOUSE_DRAIN_SECONDS="0.5") as engine:
        engine.until_ready()
        with engine.uploading(tones(1)) as (slow, _):
            engine.terminate()
            assert_refused(answer(slow), 503, Refusal.DRAINING)
        assert engine.ended() == 0


def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    with running(SCRIPTED, tmp_path, ROUNDHOUSE_DRAIN_SECONDS="600") as engine:
        engine.until_ready()
        with engine.started(tones(1), prompt="wait 600"):
            engine.terminate()
            wait_until(lambda: not engine.ready, seconds=30, what="readiness is off", every=0.02)
            engine.terminate()
            engine.ended()


def test_an_answer_that_is_still_read_is_not_cut(tmp_path: Path) -> None:
    """Its request has no place any more, and its client takes its time."""
    documents = [letter * (1 << 20) for letter in "abcdefgh"]
    asked = {"model": "m", "query": "a", "documents": documents, "return_documents": True}
    limits = {"ROUNDHOUSE_BODY_LIMIT_BYTES": str(16 << 20), "ROUNDHOUSE_DRAIN_SECONDS": "600"}
    with running(VECTORS, tmp_path, **limits) as engine:
        engine.until_ready()
        with contextlib.closing(engine.connect(timeout=300)) as slow:
            slow.connect()
            slow.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
            slow.request("POST", "/v1/rerank", json.dumps(asked))
            response = slow.getresponse()
            wait_until(lambda: engine.in_use == 0, seconds=60, what="its place is free", every=0.02)
            engine.terminate()
            with pytest.raises(subprocess.TimeoutExpired):
                engine.ended(seconds=4)  # longer than connections have that are not waited for
            found = json.loads(response.read())
        assert [each["document"]["text"] for each in found["results"]] == documents
        assert engine.ended() == 0

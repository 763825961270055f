"""What goes wrong in an engine's life, and that it goes on: leaving clients, dying processes, bad uploads."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conformance.engine.running import (
    ROOT,
    SCRIPTED,
    TOGETHER,
    TRANSCRIPTIONS,
    Engine,
    answer,
    environment,
    form,
    running,
    tones,
)
from tests.support.waiting import wait_until

HANDLERS = ("-m", "tests.conformance.engine.handlers")


def free(engine: Engine) -> None:
    wait_until(lambda: engine.in_use == 0, seconds=30, what="the slot is free", every=0.02)


def alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_a_client_that_leaves_frees_its_slot_and_the_process_stays(scripted: Engine) -> None:
    cancelled, children = scripted.metric("cancelled_total"), scripted.children
    with scripted.started(tones(1), prompt="wait 600"):
        pass
    free(scripted)
    wait_until(
        lambda: scripted.metric("cancelled_total") == cancelled + 1,
        seconds=30,
        what="it is counted",
        every=0.02,
    )
    assert scripted.metric("cancel_seconds_bucket", le="10.0") >= 1
    assert scripted.children == children
    assert scripted.post(tones(1)).json["text"] == "sound"


def test_a_deadline_ends_the_work_and_a_stream(scripted: Engine) -> None:
    for stream in ("", "true"):
        body, headers = form(tones(1), prompt="wait 600", stream=stream)
        found = scripted.request("POST", TRANSCRIPTIONS, body, headers | {"X-Roundhouse-Deadline-Ms": "2000"})
        assert found.status == 504 or stream
        assert b"deadline_exceeded" in found.body
        free(scripted)
    assert scripted.request("POST", TRANSCRIPTIONS, *form(tones(1))).status == 200


def test_a_client_that_leaves_in_the_middle_of_its_upload(scripted: Engine) -> None:
    with scripted.uploading(tones(30)):
        pass
    free(scripted)


def test_work_that_does_not_stop_is_killed_and_its_process_started_again(tmp_path: Path) -> None:
    with running(SCRIPTED, tmp_path, TEST_CANCEL_SECONDS="0.5") as engine:
        engine.until_ready()
        children = engine.children
        with engine.started(tones(1), prompt="stubborn 60", stream="true") as connection:
            assert b"sound" in connection.getresponse().readline()  # from here on it is deaf
        free(engine)
        engine.until_ready()
        assert engine.children != children
        assert not any(alive(pid) for pid in children)
        assert engine.post(tones(1)).status == 200


def test_a_process_that_others_compute_in_is_killed_once_they_are_done(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with running(TOGETHER, tmp_path, TEST_CANCEL_SECONDS="0.5") as engine:
        engine.until_ready()
        wait_until(lambda: engine.capacity == 2, seconds=30, what="both are up")
        (child,) = engine.children
        with engine.started(tones(1), prompt=f"until {gate}") as other:
            with engine.started(tones(1), prompt="stubborn 600", stream="true") as connection:
                assert b"sound" in connection.getresponse().readline()
            wait_until(lambda: "did not stop" in engine.logged, seconds=30, what="it is deaf", every=0.02)
            assert alive(child)
            gate.touch()
            assert answer(other).json["text"] == "sound"
        wait_until(lambda: engine.metric("restarts_total") == 1, seconds=30, what="it is killed", every=0.02)
        assert not alive(child)
        assert "called off did not stop" in engine.logged
        assert "SIGKILL" not in engine.logged, "nobody is to look for memory that is not short"
        engine.until_ready()
        assert engine.post(tones(1)).status == 200


def test_a_process_takes_all_that_compute_in_it_along(tmp_path: Path) -> None:
    with running(TOGETHER, tmp_path) as engine:
        engine.until_ready()
        wait_until(lambda: engine.capacity == 2, seconds=30, what="both are up")
        with (
            engine.started(tones(1), prompt="wait 600") as first,
            engine.started(tones(1), prompt="wait 600") as second,
        ):
            os.kill(engine.children[0], signal.SIGKILL)
            failed = [answer(each) for each in (first, second)]
        assert [each.error["code"] for each in failed] == ["engine_process_died"] * 2
        engine.until_ready()
        assert len(engine.children) == 1
        assert engine.post(tones(1), prompt="\x01" * 65_000).json["text"] == "sound"


def test_a_killed_process_fails_its_request_and_comes_back(tmp_path: Path) -> None:
    with running(SCRIPTED, tmp_path) as engine:
        engine.until_ready()
        (child,) = engine.children
        with engine.started(tones(1), prompt="wait 600") as connection:
            os.kill(child, signal.SIGKILL)
            failed = answer(connection)
        assert (failed.status, failed.error["code"]) == (500, "engine_process_died")
        assert "SIGKILL" in failed.error["message"]
        engine.until_ready()
        assert engine.post(tones(1)).json["text"] == "sound"
        assert engine.metric("restarts_total") == 1


def test_what_a_dead_process_had_started_dies_with_it(tmp_path: Path, scripted: Engine) -> None:
    note = tmp_path / "pid"
    assert scripted.post(tones(1), prompt=f"orphan {note}").status == 500
    wait_until(lambda: not alive(int(note.read_text())), seconds=30, what="the orphan is gone", every=0.02)
    scripted.until_ready()


def test_a_prompt_longer_than_a_socket_takes_at_once(scripted: Engine) -> None:
    assert scripted.post(tones(1), prompt="\x01" * 65_000).json["text"] == "sound"


def test_an_upload_that_dawdles_keeps_nobody_out_and_is_served_in_the_end(scripted: Engine) -> None:
    with scripted.uploading(tones(1)) as (slow, rest):
        wait_until(lambda: scripted.post(tones(1)).status == 200, seconds=30, what="another is served")
        slow.send(rest)
        assert answer(slow).json["text"] == "sound"


def test_readiness_says_so_while_the_process_is_away(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    with running(SCRIPTED, tmp_path, TEST_LOAD_GATE=str(gate)) as engine:
        engine.until_ready()
        gate.unlink()
        os.kill(engine.children[0], signal.SIGKILL)
        wait_until(lambda: not engine.ready, seconds=30, what="not ready", every=0.02)
        assert engine.get("/health/live").status == 200
        gate.touch()
        engine.until_ready()


@pytest.mark.parametrize("order", ["die", "raise it"])
def test_an_engines_fault_is_a_500_and_the_next_request_is_served(order: str, scripted: Engine) -> None:
    failed = scripted.post(tones(1), prompt=order)
    assert (failed.status, failed.error["type"]) == (500, "server_error")
    scripted.until_ready()
    assert scripted.post(tones(1)).status == 200


def test_no_child_outlives_a_killed_server(tmp_path: Path) -> None:
    with running(SCRIPTED, tmp_path, ROUNDHOUSE_CAPACITY="2") as engine:
        engine.until_ready()
        wait_until(lambda: engine.capacity == 2, seconds=30, what="both are up")
        children = engine.children
        with engine.started(tones(1), prompt="stubborn 60"):
            engine.process.kill()
            wait_until(lambda: not any(map(alive, children)), seconds=30, what="no child lives", every=0.02)
    assert len(children) == 2


@dataclass(frozen=True)
class Upload:
    id: str
    audio: bytes
    code: str
    says: str


@pytest.mark.parametrize(
    "case",
    [
        Upload("empty", b"", "audio_empty", "empty"),
        Upload("garbage", os.urandom(50_000), "audio_unreadable", "not audio"),
        Upload("cut off", tones(4)[:-100_000], "audio_cut_off", "cut off"),
        Upload("no samples", tones(0)[:44], "audio_cut_off", "cut off"),
    ],
    ids=lambda case: case.id,
)
def test_a_bad_recording_is_a_400_and_the_engine_goes_on(case: Upload, scripted: Engine) -> None:
    children = scripted.children
    found = scripted.post(case.audio)
    assert (found.status, found.error["param"], found.error["code"]) == (400, "file", case.code)
    assert case.says in found.error["message"]
    assert scripted.post(tones(1)).status == 200
    assert scripted.children == children


def test_a_form_that_is_cut_off(scripted: Engine) -> None:
    body, headers = form(tones(1))
    found = scripted.request("POST", TRANSCRIPTIONS, body[:-2000], headers)
    assert (found.status, found.error["code"]) == (400, "form_malformed")


def test_uploads_are_bounded_and_leave_nothing_in_the_spool(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    with running(
        SCRIPTED,
        tmp_path,
        ROUNDHOUSE_SPOOL_DIR=str(spool),
        ROUNDHOUSE_UPLOAD_LIMIT_BYTES="500000",
        ROUNDHOUSE_UPLOAD_IDLE_SECONDS="3",
        ROUNDHOUSE_AUDIO_LIMIT_SECONDS="5",
    ) as engine:
        engine.until_ready()
        body, headers = form(tones(20))
        declared = engine.request("POST", TRANSCRIPTIONS, body, headers)
        chunked = engine.request("POST", TRANSCRIPTIONS, iter([body]), headers)
        for found in (declared, chunked):
            assert (found.status, found.error["code"]) == (413, "upload_too_large")
        too_long = engine.post(tones(5))
        assert (too_long.status, too_long.error["code"]) == (400, "audio_too_long")
        with contextlib.closing(engine.connect()) as stalled:
            stalled.putrequest("POST", TRANSCRIPTIONS)
            stalled.putheader("Content-Type", headers["Content-Type"])
            stalled.putheader("Content-Length", "1000")
            stalled.endheaders(body[:500])
            found = answer(stalled)
            assert (found.status, found.error["code"]) == (408, "upload_stalled")
        free(engine)
        assert list(spool.iterdir()) == []


@dataclass(frozen=True)
class NoStart:
    id: str
    environ: dict[str, str]
    says: str


def complaint(kind: str = "Scripted", **variables: str) -> str:
    """What an engine says on standard error that cannot serve."""
    done = subprocess.run(
        [sys.executable, *HANDLERS, kind],
        env=environment(**variables),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    return done.stderr


@pytest.mark.parametrize(
    "case",
    [
        NoStart("settings", {"ROUNDHOUSE_MODELS": "[{}]"}, "ROUNDHOUSE_MODELS[0]"),
        NoStart("model", {"MODELS": "broken"}, "'broken' has no weights in '/models/broken'"),
    ],
    ids=lambda case: case.id,
)
def test_an_engine_that_cannot_serve_says_why_and_exits(case: NoStart) -> None:
    last = complaint(**case.environ).splitlines()[-1]
    assert last.startswith("roundhouse engine: ")
    assert case.says in last


@pytest.mark.parametrize(
    ("kind", "how", "says"),
    [
        ("Weighty", "raise", "RuntimeError: a header is wrong. Its files may be damaged"),
        ("Isolated", "full", "there is not enough memory. Give the engine more"),
    ],
)
def test_the_log_of_a_load_that_fails_ends_with_the_reason(kind: str, how: str, says: str) -> None:
    """Told once, though several threads or processes wait for it."""
    *before, last = complaint(kind, MODELS=f"slow;{how}", ROUNDHOUSE_CAPACITY="3").splitlines()
    assert last.startswith(f"roundhouse engine: 'slow;{how}' cannot be loaded: {says}")
    assert not any(line.startswith(("Traceback", "Exception")) for line in before), before


def test_an_engine_that_ends_while_it_loads_has_failed_at_nothing(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with running((*HANDLERS, "Weighty"), tmp_path, MODELS=f"slow;gate={gate};fail") as engine:
        engine.terminate()
        wait_until(lambda: "draining" in engine.logged, seconds=30, what="it ends", every=0.02)
        assert engine.ended() == 0
        assert "Traceback" not in engine.logged
        assert "Exception" not in engine.logged


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        said = complaint(ROUNDHOUSE_PORT=port)
    assert f"port {port}" in said
    assert "ROUNDHOUSE_PORT" in said

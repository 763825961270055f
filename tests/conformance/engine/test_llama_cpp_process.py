"""llama.cpp in a process of its own: what it holds up or ends there, and that nothing of it stays behind."""

import contextlib
import http.client
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.engine.conversations import said
from tests.conformance.engine.running import Engine, running
from tests.conformance.engine.stalling import assert_others_are_answered
from tests.conformance.engine.test_faults import alive
from tests.conformance.engine.test_llama_cpp import CHAT, post, serving
from tests.support.gguf import Size, write_model
from tests.support.waiting import wait_until

CONTEXT = 32_768
ENDLESS: dict[str, Any] = {"messages": said("a"), "grammar": 'root ::= "a" root'}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("weights") / "tiny.gguf", context=CONTEXT).parent


@pytest.fixture
def llama(weights: Path, tmp_path: Path) -> Iterator[Engine]:
    told = {"ROUNDHOUSE_LLAMA_CONTEXT_TOKENS": str(CONTEXT), "ROUNDHOUSE_DRAIN_SECONDS": "1"}
    with serving("chat", weights, tmp_path, ROUNDHOUSE_CAPACITY="2", **told) as engine:
        engine.until_ready()
        yield engine


@contextlib.contextmanager
def writing(engine: Engine) -> Iterator[http.client.HTTPResponse]:
    """A stream of which the first event is here; hangs up at the end."""
    with contextlib.closing(engine.connect()) as connection:
        body = json.dumps({"model": "m", "stream": True} | ENDLESS)
        connection.request("POST", CHAT, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        assert response.readline().startswith(b"data: ")
        yield response


def ended_by_hand(engine: Engine, number: signal.Signals) -> None:
    """Its child is ended, and another one has loaded the model."""
    before = engine.metric("restarts_total")
    os.kill(engine.children[0], number)
    wait_until(lambda: engine.metric("restarts_total") == before + 1, seconds=60, what="it is noticed")
    engine.until_ready()


def test_others_are_answered_while_a_model_is_loaded(tmp_path: Path) -> None:
    """The library holds Python's lock meanwhile: half a second, of so many words."""
    write_model(tmp_path / "tiny.gguf", words=200_000, size=Size(width=8, layers=1, heads=1, inner=8))
    with serving("chat", tmp_path, tmp_path) as engine:
        engine.until_ready()
        assert_others_are_answered(engine, lambda: ended_by_hand(engine, signal.SIGKILL))
        assert "xllamacpp" not in Path(f"/proc/{engine.process.pid}/maps").read_text()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT, signal.SIGSEGV])
def test_a_library_that_dies_costs_its_requests_and_comes_back(llama: Engine, number: signal.Signals) -> None:
    (child,) = llama.children
    with writing(llama) as first, writing(llama) as second:
        ended_by_hand(llama, number)
        for stream in (first, second):
            *_, last = [line for line in stream.read().splitlines() if b"error" in line]
            told = json.loads(last.removeprefix(b"data: "))["error"]
            assert (told["type"], told["code"]) == ("server_error", "engine_process_died")
            assert number.name in told["message"]
    assert post(llama, messages=said("count")).status == 200
    assert not alive(child)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_an_engine_that_ends_leaves_no_process_behind(llama: Engine, number: signal.Signals) -> None:
    (child,) = llama.children
    with writing(llama):
        llama.process.send_signal(number)
        if number is signal.SIGKILL:
            wait_until(lambda: not alive(child), seconds=60, what="it is gone", every=0.02)
    assert llama.ended() == (0 if number is signal.SIGTERM else -number)
    assert not alive(child)


def test_models_of_one_engine_have_a_process_each_that_goes_with_them(weights: Path, tmp_path: Path) -> None:
    listed = tmp_path / "models.json"

    def want(generation: int, *names: str) -> None:
        source = {"type": "HuggingFace"}
        models = [{"name": name, "path": str(weights), "source": source} for name in names]
        fresh = listed.with_suffix(".new")
        fresh.write_text(json.dumps({"generation": generation, "models": models}))
        fresh.rename(listed)

    def are_ready(*names: str) -> bool:
        found = engine.get("/v1/models").json["data"]
        return {each["id"]: each["state"] for each in found} == dict.fromkeys(names, "ready")

    want(1, "m", "n")
    told = {"MODELS": "", "ROUNDHOUSE_MODELS_FILE": str(listed), "ROUNDHOUSE_LLAMA_THREADS": "1"}
    with running(("-m", "roundhouse_llama_cpp", "chat"), tmp_path, **told) as engine:
        wait_until(lambda: are_ready("m", "n"), seconds=60, what=f"both are ready: {engine.logged}")
        assert len(engine.children) == 2
        want(2, "m")
        wait_until(lambda: are_ready("m"), seconds=60, what="one has left")
        wait_until(lambda: len(engine.children) == 1, seconds=60, what="its process as well")
        assert post(engine, messages=said("count")).status == 200

"""`/admin/models` on a real server: who may, what is refused, and what becomes of models that come and go."""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.engine.running import (
    FASTER_WHISPER,
    THREADED,
    Answer,
    Engine,
    answer,
    environment,
    running,
)
from tests.conformance.engine.test_models_file import SCRIPT, SOUND
from tests.support.recordings import TEST_DATA, wav
from tests.support.waiting import wait_until
from tests.support.whisper import Whisper, make_whisper

TOKEN = "a-token-of-the-tests"  # noqa: S105 - opens nothing but the engines here
ADMIN = {"ROUNDHOUSE_ADMIN_TOKEN": TOKEN, "ROUNDHOUSE_ADMIN_PORT": "0"}


@dataclass(frozen=True)
class Admin:
    """An engine, and its list of models."""

    engine: Engine
    token: str | None = TOKEN

    def put(self, body: Any) -> Answer:
        return self.request("PUT", body if isinstance(body, bytes) else json.dumps(body).encode())

    def want(self, *names: str, **more: Any) -> Answer:
        return self.put({"models": [{"name": name} for name in names]} | more)

    def request(self, method: str, body: bytes | None = None, path: str = "/admin/models") -> Answer:
        assert self.engine.admin_port
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        with closing(HTTPConnection("127.0.0.1", self.engine.admin_port, timeout=60)) as connection:
            connection.request(method, path, body, headers)
            return answer(connection)

    @property
    def states(self) -> dict[str, str]:
        return {model["name"]: model["state"] for model in self.request("GET").json["models"]}

    def until(self, **states: str) -> None:
        wait_until(lambda: self.states == states, seconds=30, what=f"{states}", every=0.05)

    def ask(self, model: str, prompt: str = "") -> Answer:
        return self.engine.post(SOUND, model=model, prompt=prompt)


@pytest.fixture
def admin(tmp_path: Path) -> Iterator[Admin]:
    with running([SCRIPT], tmp_path, MODELS="alpha", **ADMIN) as engine:
        engine.until_ready()
        yield Admin(engine)


def test_the_list_is_replaced_as_a_whole_and_says_what_that_changes(admin: Admin) -> None:
    shown = admin.request("GET").json
    assert shown == {
        "generation": 1,
        "models": [
            {
                "name": "alpha",
                "path": None,
                "source": {"type": "Builtin"},
                "variant": None,
                "pooling": None,
                "state": "ready",
                "progress": 1.0,
                "loaded": True,
            }
        ],
    }
    told = admin.want("alpha", "beta")
    assert (told.status, told.json) == (
        202,
        {"generation": 2, "added": ["beta"], "removed": [], "changed": [], "unchanged": ["alpha"]},
    )
    admin.until(alpha="ready", beta="ready")
    assert admin.ask("beta").json["text"] == "beta"
    assert admin.engine.get("/v1/models").json["generation"] == 2
    again = admin.want("alpha", "beta")
    assert (again.status, again.json["generation"]) == (200, 2)
    changed = admin.put({"models": [{"name": "beta", "variant": "other"}], "generation": 7})
    assert (changed.json["changed"], changed.json["removed"]) == (["beta"], ["alpha"])
    assert admin.put({"models": [{"name": "beta", "variant": "other"}], "generation": 7}).status == 200
    assert admin.put({"models": [{"name": "beta", "variant": "other"}], "generation": 8}).status == 200
    assert admin.request("GET").json["generation"] == 8
    for generation in (6, 8):
        stale = admin.want("gamma", generation=generation)
        assert (stale.status, stale.error["code"], stale.error["param"]) == (
            409,
            "stale_generation",
            "generation",
        )
    admin.until(beta="ready")


def test_a_model_that_is_taken_out_finishes_what_it_has_begun(admin: Admin, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    admin.want("alpha", "beta")
    admin.until(alpha="ready", beta="ready")
    answers: list[Answer] = []
    asking = threading.Thread(target=lambda: answers.append(admin.ask("alpha", f"until {gate}")))
    asking.start()
    wait_until(lambda: admin.engine.in_use == 1, seconds=30, what="it computes", every=0.02)
    assert admin.want("beta").json["removed"] == ["alpha"]
    admin.until(beta="ready", alpha="unloading")
    wait_until(lambda: admin.ask("alpha").status == 503, seconds=30, what="it takes no more", every=0.1)
    assert not answers
    gate.touch()
    asking.join()
    assert answers[0].status == 200
    admin.until(beta="ready")
    assert admin.ask("alpha").status == 404
    assert admin.engine.metric("model_unloads_total", model="alpha", reason="removed") == 1


@dataclass(frozen=True)
class Bad:
    id: str
    body: Any
    param: str | None
    code: str = "invalid_value"
    status: int = 400


def entry(**fields: Any) -> dict[str, Any]:
    return {"models": [{"name": "good"}, {"name": "bad"} | fields]}


BAD = [
    Bad("no JSON", b"{", None, "json_malformed"),
    Bad("no object", [], None, "json_malformed"),
    Bad("half a character", b'{"models": [{"name": "\\ud800"}]}', None, "json_malformed"),
    Bad("nested deep", b"[" * 200_000, None, "json_too_deep"),
    Bad("no list", {"generation": 2}, "models"),
    Bad("a typing mistake", {"models": [], "generatoin": 2}, "generatoin"),
    Bad("generation", {"models": [], "generation": "2"}, "generation"),
    Bad("true is no number", {"models": [], "generation": True}, "generation"),
    Bad("an entry", {"models": ["alpha"]}, "models[0]"),
    Bad("name", entry(name=" "), "models[1].name"),
    Bad("path", entry(path="here"), "models[1].path"),
    Bad("source", entry(source="hub"), "models[1].source"),
    Bad("variant", entry(variant=3), "models[1].variant"),
    Bad("unknown field", entry(paht="/here"), "models[1].paht"),
    Bad("twice", entry(name="good"), "models[1].name"),
    Bad("too large", b" " * (5 << 20), None, "body_too_large", 413),
]


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    with running([SCRIPT], tmp_path_factory.mktemp("admin"), MODELS="alpha", **ADMIN) as engine:
        engine.until_ready()
        yield Admin(engine)


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.id)
def test_a_list_that_is_wrong_names_its_place_and_changes_nothing(bad: Bad, steady: Admin) -> None:
    told = steady.put(bad.body)
    assert (told.status, told.error["code"], told.error["param"]) == (bad.status, bad.code, bad.param)
    assert steady.states == {"alpha": "ready"}
    assert steady.request("GET").json["generation"] == 1


def test_only_the_token_opens_it_and_only_on_its_own_port(steady: Admin) -> None:
    for token in (None, "wrong", TOKEN + "x", "", "töken"):
        for method, body in (("GET", None), ("PUT", b'{"models": []}')):
            told = replace(steady, token=token and token.encode().decode("latin-1")).request(method, body)
            assert (told.status, told.error["code"]) == (401, "invalid_admin_token")
            assert told.headers["www-authenticate"] == "Bearer"
    assert steady.states == {"alpha": "ready"}
    assert steady.engine.get("/admin/models", {"Authorization": f"Bearer {TOKEN}"}).status == 404
    assert steady.request("GET", path="/v1/models").status == 404
    assert steady.request("POST").status == 405
    assert TOKEN not in steady.engine.logged


def test_without_a_token_nothing_listens_and_no_child_gets_it(tmp_path: Path) -> None:
    with running(THREADED, tmp_path) as engine:
        assert engine.admin_port is None
    isolated = ("-m", "tests.conformance.engine.handlers", "Isolated")
    with running(isolated, tmp_path, **ADMIN) as engine:
        engine.until_ready()
        for child in engine.children:
            assert TOKEN.encode() not in Path(f"/proc/{child}/environ").read_bytes()


def test_an_engine_may_begin_with_nothing_and_get_its_list_later(tmp_path: Path) -> None:
    with running([SCRIPT], tmp_path, MODELS="", **ADMIN) as engine:
        admin = Admin(engine)
        engine.until_ready()
        assert admin.ask("alpha").status == 404
        admin.want("alpha")
        admin.until(alpha="ready")
        assert admin.ask("alpha").status == 200
        assert admin.want().json["removed"] == ["alpha"]
        admin.until()


def test_a_file_that_changes_has_the_last_word(tmp_path: Path) -> None:
    file = tmp_path / "models.json"
    file.write_text('{"generation": 3, "models": [{"name": "alpha"}]}')
    with running([SCRIPT], tmp_path, MODELS="", ROUNDHOUSE_MODELS_FILE=str(file), **ADMIN) as engine:
        admin = Admin(engine)
        admin.until(alpha="ready")
        assert admin.want("beta", generation=2).status == 409
        assert admin.want("alpha", "beta").json["generation"] == 4
        admin.until(alpha="ready", beta="ready")
        fresh = tmp_path / "fresh"
        fresh.write_text('{"generation": 4, "models": [{"name": "alpha"}, {"name": "gamma"}]}')
        fresh.rename(file)
        admin.until(alpha="ready", gamma="ready")


def test_a_port_that_is_taken_and_a_short_token_end_the_engine(tmp_path: Path) -> None:
    def said(**told: str) -> str:
        done = subprocess.run(
            [sys.executable, SCRIPT], env=environment(**told), capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        return done.stderr.splitlines()[-1]

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        told = ADMIN | {"ROUNDHOUSE_ADMIN_PORT": port, "ROUNDHOUSE_HOST": "127.0.0.1"}
        assert "Set ROUNDHOUSE_ADMIN_PORT to a free port" in said(**told)
    short = said(ROUNDHOUSE_ADMIN_TOKEN="short-one")  # noqa: S106
    assert "ROUNDHOUSE_ADMIN_TOKEN must be 16 or more" in short
    assert "short-one" not in short


def test_faster_whisper_takes_a_model_and_refuses_what_it_cannot_load(tmp_path: Path) -> None:
    folder = make_whisper(tmp_path / "model", Whisper(says=("good", "day")))
    told = ADMIN | {"ROUNDHOUSE_DEVICE": "cpu", "OMP_NUM_THREADS": "1", "MODELS": ""}
    with running(FASTER_WHISPER, tmp_path, **told) as engine:
        admin = Admin(engine)
        refused = admin.put({"models": [{"name": "nowhere"}]})
        assert (refused.status, refused.error["code"], refused.error["param"]) == (
            400,
            "model_refused",
            "models[0]",
        )
        assert "has no path" in refused.error["message"]
        assert admin.put({"models": [{"name": "tiny", "path": str(folder)}]}).status == 202
        admin.until(tiny="ready")
        sound = wav((TEST_DATA / "goforward.raw").read_bytes())
        assert engine.post(sound, model="tiny", language="en").json["text"] == "good day"

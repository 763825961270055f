"""Models that come and go by a file while the engine runs, on a real server."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.engine.running import Answer, Engine, running, tones
from tests.support.waiting import wait_until

SCRIPT = str(Path(__file__).parents[2] / "support" / "scripted_engine.py")
SOUND = tones(1)


class Shared:
    """An engine that follows a file, and the file."""

    def __init__(self, engine: Engine, file: Path) -> None:
        self.engine = engine
        self.file = file
        self.generation = 0

    def want(self, *names: str, **more: Any) -> None:
        """As the kubelet does it: the new file appears whole in the place of the old one."""
        self.generation += 1
        models = [{"name": name, "path": None, "source": {"type": "Builtin"}} | more for name in names]
        fresh = self.file.with_suffix(".new")
        fresh.write_text(json.dumps({"generation": self.generation, "models": models}))
        fresh.rename(self.file)

    @property
    def told(self) -> dict[str, Any]:
        return self.engine.get("/v1/models").json

    @property
    def models(self) -> dict[str, dict[str, Any]]:
        return {model["id"]: model for model in self.told["data"]}

    def until(self, **states: str) -> None:
        """Until exactly these models are there, named up to the `;`, in these states."""

        def reached() -> bool:
            told = self.told
            found = {model["id"].partition(";")[0]: model["state"] for model in told["data"]}
            return bool(told["generation"] == self.generation and found == states)

        wait_until(reached, seconds=30, what=f"{states}; now {self.told}", every=0.05)

    def ask(self, model: str, prompt: str = "") -> Answer:
        return self.engine.post(SOUND, model=model, prompt=prompt)


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Shared]:
    file = tmp_path / "models.json"
    with running([SCRIPT], tmp_path, ROUNDHOUSE_MODELS_FILE=str(file), MODELS="") as engine:
        yield Shared(engine, file)


def test_it_is_ready_once_it_has_read_its_list(shared: Shared) -> None:
    assert not shared.engine.ready
    assert shared.ask("alpha").status == 503
    shared.want()
    shared.engine.until_ready()
    assert shared.told["generation"] == 1
    assert shared.models == {}
    assert shared.ask("alpha").status == 404


def test_models_are_loaded_and_each_answers_for_itself(shared: Shared) -> None:
    gate = shared.file.with_name("gate")
    beta = f"beta;gate={gate}"
    shared.want("alpha", beta)
    shared.engine.until_ready()
    wait_until(lambda: shared.ask("alpha").status == 200, seconds=30, what="alpha answers", every=0.05)
    loading = shared.ask(beta)
    assert (loading.status, loading.headers["x-roundhouse-reason"]) == (503, "loading")
    assert shared.ask("gamma").status == 404
    assert shared.models[beta]["state"] == "loading"
    gate.touch()
    shared.until(alpha="ready", beta="ready")
    assert shared.ask(beta).json["text"] == "beta"
    assert shared.models["alpha"].keys() >= {"capacity", "inUse", "progress", "state"}
    assert shared.models["alpha"]["capacity"] == 4


def test_a_model_that_leaves_the_list_finishes_what_it_has_begun(shared: Shared) -> None:
    shared.want("alpha", "beta")
    shared.until(alpha="ready", beta="ready")
    answers: list[Answer] = []
    gate = shared.file.with_name("gate")
    asking = threading.Thread(target=lambda: answers.append(shared.ask("alpha", f"until {gate}")))
    asking.start()
    wait_until(lambda: shared.models["alpha"]["inUse"] == 1, seconds=30, what="it computes", every=0.02)
    shared.want("beta")
    shared.until(alpha="unloading", beta="ready")
    assert shared.ask("alpha").status == 200, "routers have not heard yet"
    refused = wait_until(
        lambda: answer if (answer := shared.ask("alpha")).status != 200 else None,
        seconds=30,
        what="it takes no more",
        every=0.1,
    )
    assert refused
    assert (refused.status, refused.headers["x-roundhouse-reason"]) == (503, "draining")
    assert not answers, "the request is still at work"
    assert shared.ask("beta").status == 200
    gate.touch()
    asking.join()
    assert [answer.status for answer in answers] == [200]
    shared.until(beta="ready")
    assert shared.ask("alpha").status == 404


def test_a_client_that_takes_its_time_keeps_no_other_model_from_its_memory(tmp_path: Path) -> None:
    file = tmp_path / "models.json"
    asked = {"ROUNDHOUSE_MODELS_FILE": str(file), "MODELS": "", "ROUNDHOUSE_DRAIN_SECONDS": "0.5"}
    with running([SCRIPT], tmp_path, **asked) as engine:
        shared = Shared(engine, file)
        shared.want("alpha")
        shared.until(alpha="ready")
        answers: list[Answer] = []
        asking = threading.Thread(target=lambda: answers.append(shared.ask("alpha", "wait 300")))
        asking.start()
        wait_until(lambda: shared.models["alpha"]["inUse"] == 1, seconds=30, what="it computes", every=0.02)
        shared.want("beta")
        shared.until(beta="ready")
        asking.join(timeout=120)
        [answer] = answers
        assert (answer.status, answer.headers["x-roundhouse-reason"]) == (503, "draining")
        assert shared.ask("beta").status == 200


def test_a_model_that_is_wanted_again_at_once_never_stops(shared: Shared) -> None:
    shared.want("alpha")
    shared.until(alpha="ready")
    shared.want()
    shared.until(alpha="unloading")
    shared.want("alpha")
    shared.until(alpha="ready")
    deadline = time.monotonic() + 6
    while time.monotonic() < deadline:
        assert shared.ask("alpha").status == 200


def test_a_changed_entry_is_loaded_anew(shared: Shared) -> None:
    shared.want("alpha")
    shared.until(alpha="ready")
    shared.want("alpha", path="/elsewhere")
    shared.until(alpha="unloading")
    shared.until(alpha="ready")
    assert shared.ask("alpha").status == 200


def test_a_load_that_fails_is_told_and_tried_again(shared: Shared, tmp_path: Path) -> None:
    mended = tmp_path / "mended"
    beta = f"beta;fail={mended}"
    shared.want("alpha", beta, "gamma;fail")
    shared.until(alpha="ready", beta="failed", gamma="failed")
    assert shared.models["gamma;fail"]["error"] == "'gamma' is told to fail."
    answer = shared.ask("gamma;fail")
    assert (answer.status, answer.error["code"]) == (503, "model_failed")
    mended.touch()
    shared.until(alpha="ready", beta="ready", gamma="failed")
    assert "error" not in shared.models[beta]


def test_a_file_that_says_nothing_changes_nothing(shared: Shared) -> None:
    shared.want("alpha")
    shared.until(alpha="ready")
    shared.file.write_text("{")
    wait_until(lambda: "not taken over" in shared.engine.logged, seconds=30, what="it says so", every=0.05)
    assert shared.ask("alpha").status == 200
    assert shared.told["generation"] == 1


def test_memory_is_told_and_forgotten_with_its_model(shared: Shared) -> None:
    shared.want("alpha;vram=2048", "beta")
    shared.until(alpha="ready", beta="ready")
    assert shared.models["alpha;vram=2048"]["vramBytes"] == 2048 << 20
    assert "vramBytes" not in shared.models["beta"]
    assert shared.engine.metric("model_vram_bytes", model="alpha;vram=2048") == 2048 << 20
    shared.want("beta")
    shared.until(beta="ready")
    assert "model_vram_bytes{" not in shared.engine.get("/metrics").body.decode()


def test_isolated_models_are_processes_of_their_own(tmp_path: Path) -> None:
    """One whose process dies concerns no other, and one that leaves takes its process along."""
    file = tmp_path / "models.json"
    handlers = ("-m", "tests.conformance.engine.handlers", "Scripted")
    with running(handlers, tmp_path, ROUNDHOUSE_MODELS_FILE=str(file), MODELS="") as engine:
        shared = Shared(engine, file)
        shared.want("alpha", "beta", "broken")
        shared.until(alpha="ready", beta="ready", broken="failed")
        assert len(engine.children) == 2
        assert shared.ask("alpha", "die").status == 500
        assert shared.ask("beta").status == 200
        shared.until(alpha="ready", beta="ready", broken="failed")
        shared.want("beta")
        shared.until(beta="ready")
        wait_until(lambda: len(engine.children) == 1, seconds=30, what="its process is gone")


def test_it_drains_all_models_when_it_is_told_to_leave(shared: Shared) -> None:
    shared.want("alpha", "beta;load=30")
    wait_until(lambda: shared.ask("alpha").status == 200, seconds=30, what="alpha answers", every=0.05)
    with shared.engine.started(SOUND, model="alpha", prompt="wait 1") as connection:
        shared.engine.terminate()
        assert connection.getresponse().status == 200
    assert shared.engine.ended() == 0

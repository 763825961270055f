"""Models within a memory budget: who is unloaded for whom, who waits, and what is told; on real servers."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.conformance.engine.running import FASTER_WHISPER, TRANSCRIPTIONS, Answer, form, running
from tests.conformance.engine.streaming import streaming
from tests.conformance.engine.test_models_file import SOUND, Shared
from tests.support.recordings import TEST_DATA, wav
from tests.support.waiting import wait_until
from tests.support.whisper import Whisper, make_whisper

MIB = 1 << 20
HANDLERS = ("-m", "tests.conformance.engine.handlers")
ALPHA, BETA, GAMMA = (f"{name};vram=2000" for name in ("alpha", "beta", "gamma"))


@contextmanager
def sharing(
    folder: Path, budget_mib: int, *names: str, kind: str = "Weighty", **more: str
) -> Iterator[Shared]:
    """An engine with these models, each of which was loaded once."""
    file = folder / "models.json"
    told = {"ROUNDHOUSE_MODELS_FILE": str(file), "MODELS": ""} | more
    with running(
        (*HANDLERS, kind), folder, **told, ROUNDHOUSE_MEMORY_BUDGET_BYTES=str(budget_mib * MIB)
    ) as made:
        shared = Shared(made, file)
        shared.want(*names)
        ready = partial(settled, shared, len(names))
        wait_until(ready, seconds=60, what="all were loaded once", every=0.05)
        yield shared


def settled(shared: Shared, count: int) -> bool:
    models = shared.models.values()
    return len(models) == count and all(model["state"] != "loading" for model in models)


def loaded(shared: Shared) -> set[str]:
    return {name for name, model in shared.models.items() if model["loaded"]}


class Asking:
    """A request in a thread of its own, which works until `open` where it names the gate."""

    def __init__(self, shared: Shared, model: str, prompt: str = "") -> None:
        self._answers: list[Answer] = []
        self._thread = threading.Thread(target=lambda: self._answers.append(shared.ask(model, prompt)))
        self._thread.start()

    @property
    def answer(self) -> Answer:
        self._thread.join(timeout=120)
        return self._answers[0]


def in_a_second(shared: Shared, model: str) -> Answer:
    """Asked by a client that waits no longer."""
    body, headers = form(SOUND, model=model)
    return shared.engine.request("POST", TRANSCRIPTIONS, body, headers | {"X-Roundhouse-Deadline-Ms": "1000"})


def computing(shared: Shared, model: str) -> None:
    wait_until(lambda: shared.models[model]["inUse"] == 1, seconds=30, what="it computes", every=0.02)


def test_the_least_recently_used_model_makes_room_and_comes_back_when_it_is_asked_for(tmp_path: Path) -> None:
    with sharing(tmp_path, 5000, ALPHA, BETA, GAMMA) as shared:
        shared.until(alpha="ready", beta="ready", gamma="ready")
        assert loaded(shared) == {BETA, GAMMA}
        for asked, left in ((BETA, {BETA, GAMMA}), (ALPHA, {ALPHA, BETA}), (GAMMA, {ALPHA, GAMMA})):
            answer = shared.ask(asked)
            assert (answer.status, answer.json["text"]) == (200, asked.partition(";")[0])
            assert loaded(shared) == left
        engine = shared.engine
        assert engine.metric("model_load_seconds_count") == 5
        assert engine.metric("model_unloads_total", reason="memory") == 3
        assert engine.metric("model_unloads_total", reason="memory", model=BETA) == 1
        assert engine.metric("model_memory_bytes", model=GAMMA) == 2000 * MIB
        assert engine.metric("model_memory_bytes", model=BETA) == 0
        assert engine.metric("memory_budget_bytes") == 5000 * MIB
        memory = {"budgetBytes": 5000 * MIB, "neededBytes": 4000 * MIB}
        assert shared.told["memory"] == memory
        assert engine.get("/health/ready").json["memory"] == memory
        assert shared.models[BETA]["memoryBytes"] == 2000 * MIB


def test_a_busy_model_is_never_unloaded_and_who_needs_its_place_waits_for_it(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with sharing(tmp_path, 3000, ALPHA, BETA) as shared:
        busy = Asking(shared, BETA, f"until {gate}")
        computing(shared, BETA)
        loads = shared.engine.metric("model_load_seconds_count")
        waiting = [Asking(shared, ALPHA) for _ in range(3)]
        late = in_a_second(shared, ALPHA)
        assert (late.status, late.error["code"]) == (504, "deadline_exceeded")
        assert loaded(shared) == {BETA}
        gate.touch()
        assert [one.answer.status for one in (busy, *waiting)] == [200] * 4
        assert loaded(shared) == {ALPHA}
        assert shared.engine.metric("model_load_seconds_count") == loads + 1, "one load for all three"


def test_who_waits_is_bounded_in_number_and_time_and_may_leave(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    bounds = {"ROUNDHOUSE_CAPACITY": "1", "ROUNDHOUSE_MEMORY_WAIT_SECONDS": "6"}
    with sharing(tmp_path, 3000, ALPHA, BETA, **bounds) as shared:
        busy = Asking(shared, BETA, f"until {gate}")
        computing(shared, BETA)
        waiting = [Asking(shared, ALPHA) for _ in range(10)]
        answers = sorted((one.answer for one in waiting), key=lambda answer: answer.status)
        assert {(answer.status, answer.error["code"]) for answer in answers} <= {
            (503, "engine_memory_full"),
            (429, "engine_full"),  # refused before its body was read
        }
        full = answers[-1]
        assert int(full.headers["retry-after"]) >= 1
        assert "ROUNDHOUSE_MEMORY_BUDGET_BYTES" in full.error["message"]
        assert not gate.exists()
        loads = shared.engine.metric("model_load_seconds_count")
        connection = shared.engine.connect()
        connection.request("POST", TRANSCRIPTIONS, *form(SOUND, model=ALPHA))
        connection.close()
        gate.touch()
        assert busy.answer.status == 200
        assert shared.ask(BETA).status == 200
        wait_until(lambda: shared.engine.in_use == 0, seconds=30, what="nobody waits", every=0.02)
        assert shared.engine.metric("model_load_seconds_count") <= loads + 2
        assert shared.ask(ALPHA).status == 200


def test_a_model_that_can_never_fit_is_told_and_keeps_no_other_from_being_served(tmp_path: Path) -> None:
    huge = "huge;vram=9000"
    with sharing(tmp_path, 3000, ALPHA, huge) as shared:
        shared.until(alpha="ready", huge="failed")
        said = "takes 9437184000 bytes of memory, more than ROUNDHOUSE_MEMORY_BUDGET_BYTES (3145728000)"
        assert said in shared.models[huge]["error"]
        answer = shared.ask(huge)
        assert (answer.status, answer.error["code"]) == (503, "model_failed")
        assert said in answer.error["message"]
        assert "tried again" not in answer.error["message"]
        assert shared.ask(ALPHA).status == 200
        shared.want(ALPHA)
        shared.until(alpha="ready")


def test_a_model_that_left_the_list_makes_room_for_good(tmp_path: Path) -> None:
    with sharing(tmp_path, 3000, ALPHA, BETA) as shared:
        shared.want(BETA)
        shared.until(beta="ready")
        assert shared.engine.metric("model_unloads_total", model=ALPHA, reason="memory") == 1
        shared.want(GAMMA)
        shared.until(gamma="ready")
        assert loaded(shared) == {GAMMA}
        assert shared.engine.metric("model_unloads_total", model=BETA) == 1


def test_a_reload_that_fails_is_told_to_who_waits(tmp_path: Path) -> None:
    mended = tmp_path / "mended"
    mended.touch()
    frail = f"frail;vram=2000;fail={mended}"
    with sharing(tmp_path, 3000, frail, ALPHA) as shared:
        shared.until(frail="ready", alpha="ready")
        mended.unlink()
        answer = shared.ask(frail)
        assert (answer.status, answer.error["code"]) == (503, "model_failed")
        assert shared.models[frail]["state"] == "failed"
        mended.touch()
        shared.until(frail="ready", alpha="ready")
        assert shared.ask(frail).status == 200


async def test_a_session_holds_its_model_and_wakes_one_that_is_away(tmp_path: Path) -> None:
    with sharing(tmp_path, 3000, ALPHA, BETA) as shared:
        assert loaded(shared) == {BETA}
        async with streaming(shared.engine.port, {"model": ALPHA}) as stream:
            await stream.until("session.begin")
            assert loaded(shared) == {ALPHA}
            late = await asyncio.to_thread(in_a_second, shared, BETA)
            assert (late.status, late.error["code"]) == (504, "deadline_exceeded")
            assert loaded(shared) == {ALPHA}
            await stream.say("end")
            assert (await stream.rest())[0] == 1000
        assert (await asyncio.to_thread(shared.ask, BETA)).status == 200


@pytest.mark.parametrize("kind", ["Weighty", "Isolated"])
def test_memory_of_the_processes_is_measured_and_really_free_again(kind: str, tmp_path: Path) -> None:
    heavy, other = "heavy;ram=400", "other;ram=400"
    with sharing(tmp_path, 700, heavy, other, kind=kind) as shared:
        for model in (heavy, other, heavy):
            assert shared.ask(model).status == 200
            assert loaded(shared) == {model}
            assert 390 <= shared.models[model]["memoryBytes"] / MIB < 700
            held_mib = sum(resident_mib(pid) for pid in (shared.engine.process.pid, *shared.engine.children))
            assert held_mib < 800, "no more than one of them is there"


def resident_mib(pid: int) -> float:
    _, _, rest = Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")
    return int(rest.split()[0]) / 1024 if rest else 0.0


def test_models_of_the_environment_are_each_loaded_once_before_the_engine_is_ready(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    models = f"{ALPHA},{BETA};gate={gate}"
    budget = str(3000 * MIB)
    with running(
        (*HANDLERS, "Weighty"), tmp_path, MODELS=models, ROUNDHOUSE_MEMORY_BUDGET_BYTES=budget
    ) as engine:
        states = {"alpha": "ready", "beta": "loading"}

        def told() -> dict[str, str]:
            found = engine.get("/health/ready").json["models"]
            return {model["name"].partition(";")[0]: model["state"] for model in found}

        wait_until(lambda: told() == states, seconds=30, what="alpha was loaded", every=0.05)
        assert not engine.ready
        gate.touch()
        engine.until_ready()
        assert engine.post(SOUND, model=ALPHA).json["text"] == "alpha"


def test_faster_whisper_serves_more_models_than_its_memory_holds(tmp_path: Path) -> None:
    """Of base's size, so that what they take shows over what the process takes anyway."""
    words = {"first": ("hello", "world"), "second": ("good", "day")}
    models = [
        {
            "name": name,
            "path": str(
                make_whisper(
                    tmp_path / name, Whisper(says=says, width=512, layers=6, heads=8, text_tokens=50_000)
                )
            ),
            "source": {"type": "HuggingFace"},
        }
        for name, says in words.items()
    ]
    sound = wav((TEST_DATA / "goforward.raw").read_bytes())
    told = {"ROUNDHOUSE_MODELS": json.dumps(models), "ROUNDHOUSE_DEVICE": "cpu", "OMP_NUM_THREADS": "1"}
    with running(FASTER_WHISPER, tmp_path, **told, ROUNDHOUSE_MEMORY_BUDGET_BYTES=str(200 * MIB)) as engine:
        engine.until_ready()
        for name in ("first", "second", "first"):
            answer = engine.post(sound, model=name, language="en")
            assert (answer.status, answer.json["text"]) == (200, " ".join(words[name])), answer.body
            found = {model["id"]: model for model in engine.get("/v1/models").json["data"]}
            assert [each for each in found if found[each]["loaded"]] == [name]
            assert 50 < found[name]["memoryBytes"] / MIB < 200
        assert engine.metric("model_unloads_total", reason="memory") >= 3

"""Models that come and go, with runners that load, and stop loading, when the test says."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncGenerator, Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO, ClassVar, cast

import pytest
from typing_extensions import override

from roundhouse_engine import slot as slot_module
from roundhouse_engine import surroundings as surroundings_module
from roundhouse_engine.admin import read_list
from roundhouse_engine.batching import Batcher
from roundhouse_engine.errors import EngineError
from roundhouse_engine.events import Event, Loaded, Memory, Work
from roundhouse_engine.fleet import Fleet
from roundhouse_engine.handler import ModelSpec
from roundhouse_engine.lease import Lease
from roundhouse_engine.memory import Memory as Budget
from roundhouse_engine.metrics import Metrics
from roundhouse_engine.models_file import Desired, Given, ModelsFile
from roundhouse_engine.pool import Pool
from roundhouse_engine.server import build_pool
from roundhouse_engine.settings import read_settings
from roundhouse_engine.slot import Slot
from roundhouse_engine.surroundings import Surroundings, Turns
from roundhouse_engine.text_events import TextAsk, TextWork
from tests.conformance.engine.text_handlers import Vectors
from tests.support.scripted_engine import Scripted
from tests.support.waiting import eventually

ALPHA = ModelSpec("alpha")


class Gated:
    """Says that it is loaded, with 6 bytes of GPU memory, once `loads` is set, and then what is in `tells`.

    Its end takes until `ends` is set, as it is at first.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self.loads = asyncio.Event()
        self.tells: asyncio.Queue[Event] = asyncio.Queue()
        self.ends = asyncio.Event()
        self.ends.set()
        self.ending = False

    async def events(self) -> AsyncGenerator[Event, None]:
        try:
            await self.loads.wait()
            yield Memory(self._model, 6)
            yield Loaded(0.0)
            while True:
                yield await self.tells.get()
        finally:
            self.ending = True
            await self.ends.wait()

    def begin(self, ask: Work, file: BinaryIO) -> None:  # noqa: ARG002
        raise AssertionError("nothing is asked here")

    def cancel(self) -> None: ...

    def kill(self) -> None: ...

    def obituary(self) -> str:
        return ""


class Scene:
    """A fleet, and the runners that were started in it, by their models."""

    def __init__(
        self, budget_bytes: int | None = None, patience_seconds: float = 600.0, slots: int = 1
    ) -> None:
        told = {"MODELS": "alpha", "ROUNDHOUSE_LOAD_PATIENCE_SECONDS": str(patience_seconds)}
        budget = {} if budget_bytes is None else {"ROUNDHOUSE_MEMORY_BUDGET_BYTES": str(budget_bytes)}
        settings = read_settings(told | budget, Scripted)
        self.metrics = Metrics()
        self.runners: dict[str, list[Gated]] = {}
        self._slots = slots
        self.fleet = Fleet(Given(()), self._build, self.metrics, settings)

    def _build(self, model: ModelSpec) -> Pool:
        def launch() -> Gated:
            self.runners.setdefault(model.name, []).append(Gated(model.name))
            return self.runners[model.name][-1]

        slots = [Slot(launch, 1.0, self.metrics) for _ in range(self._slots)]
        return Pool(slots, self.metrics, [model.name])

    def want(self, *models: ModelSpec) -> None:
        self.fleet.take(Desired(self.fleet.generation + 1, models))

    def states(self) -> dict[str, str]:
        return {model.name: model.state.value for model in self.fleet.models}

    async def started(self, model: ModelSpec, number: int = 1) -> Gated:
        await until(lambda: len(self.runners.get(model.name, ())) == number, f"{model.name} is being loaded")
        return self.runners[model.name][-1]


async def until(probe: Callable[[], object], what: str) -> None:
    async def asked() -> object:
        return probe()

    await eventually(asked, seconds=3, what=what, every=0.001)


async def test_a_model_that_is_wanted_again_while_its_load_is_being_ended_is_loaded_anew() -> None:
    scene = Scene()
    scene.want(ALPHA)
    first = await scene.started(ALPHA)
    first.ends.clear()
    scene.want()
    await until(lambda: first.ending, "its load is being ended")
    scene.want(ALPHA)
    first.ends.set()
    (await scene.started(ALPHA, 2)).loads.set()
    await until(lambda: scene.states() == {"alpha": "ready"}, "it is ready")


async def test_a_model_that_stays_after_all_makes_room_for_who_was_to_follow_it(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"6bytes")
    beta = ModelSpec("beta", tmp_path)
    scene = Scene(budget_bytes=10)
    scene.want(ALPHA)
    (await scene.started(ALPHA)).loads.set()
    await until(lambda: scene.states() == {"alpha": "ready"}, "it is ready")
    scene.want(beta)
    await until(lambda: scene.states() == {"beta": "loading", "alpha": "unloading"}, "it leaves")
    waiting = scene.fleet._lives["beta"]  # that it waits for room shows nowhere else
    await until(lambda: waiting.needed_bytes == 6, "it waits for room")
    scene.want(ALPHA, beta)
    (await scene.started(beta)).loads.set()
    await until(lambda: scene.states() == {"alpha": "ready", "beta": "ready"}, "each was loaded")


async def test_a_load_that_does_not_end_keeps_no_other_waiting_for_ever(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scene, beta = Scene(budget_bytes=20, patience_seconds=0.05), ModelSpec("beta")
    scene.want(ALPHA, beta)
    stuck = await scene.started(ALPHA)
    following = await scene.started(beta)
    assert "others need not wait" in caplog.text, "one after the other as long as that lasts"
    following.loads.set()
    await until(lambda: scene.states() == {"alpha": "loading", "beta": "ready"}, "beta is served")
    stuck.loads.set()
    await until(lambda: scene.states() == {"alpha": "ready", "beta": "ready"}, "and alpha after all")


async def test_a_load_that_is_called_off_and_does_not_end_keeps_no_other_waiting_for_ever() -> None:
    scene, beta = Scene(patience_seconds=0.05), ModelSpec("beta")
    scene.want(ALPHA)
    stuck = await scene.started(ALPHA)
    stuck.ends.clear()
    scene.want(beta)
    (await scene.started(beta)).loads.set()
    await until(lambda: scene.states() == {"beta": "ready", "alpha": "unloading"}, "beta is served")
    stuck.ends.set()
    await until(lambda: scene.states() == {"beta": "ready"}, "alpha is gone")


async def test_nothing_is_freed_while_what_another_takes_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the process's growth, which would be less; and it is freed in the end."""
    monkeypatch.setattr("roundhouse_engine.model_life.LINGER_SECONDS", 0)
    scene, beta = Scene(budget_bytes=20), ModelSpec("beta")
    scene.want(ALPHA)
    (await scene.started(ALPHA)).loads.set()
    await until(lambda: scene.states() == {"alpha": "ready"}, "it is ready")
    freed_after_the_load: list[bool] = []
    scene.fleet.pool_of("alpha").release = lambda: freed_after_the_load.append(loading.loads.is_set())
    leaving = scene.fleet._lives["alpha"]
    scene.want(beta)
    loading = await scene.started(beta)
    await until(lambda: leaving.pool is None, "nothing but its memory is left of it")
    for _ in range(100):
        await asyncio.sleep(0)
    loading.loads.set()
    await until(lambda: scene.states() == {"beta": "ready"}, "it has left")
    assert freed_after_the_load == [True]


async def test_an_engine_that_cannot_unload_a_model_for_a_thread_that_hangs_is_no_longer_live(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One of its places hangs, which is no reason for as long as the other serves."""
    monkeypatch.setattr("roundhouse_engine.model_life.LINGER_SECONDS", 0)
    scene, stops = Scene(slots=2), threading.Event()
    scene.want(ALPHA)
    await scene.started(ALPHA, 2)
    for each in scene.runners["alpha"]:
        each.loads.set()
    await until(lambda: scene.fleet.capacity == 2, "it is ready")
    pool = scene.fleet.pool_of("alpha")
    pool.release = partial(wait_for, stops)
    pool._slots[0].overdue_since = time.monotonic() - 3600
    assert not scene.fleet.hung
    scene.want()
    await until(lambda: scene.fleet.hung, "it is not live any more")
    assert (scene.states(), scene.fleet.overdue) == ({"alpha": "unloading"}, 1)
    stops.set()
    await until(lambda: not scene.states(), "it has left after all")
    assert (scene.fleet.hung, scene.fleet.overdue) == (False, 0)


def wait_for(event: threading.Event) -> None:
    assert event.wait(60)


class Noted(Scripted):
    """Loads as its name says; notes that and its end."""

    noted: ClassVar[list[str]] = []

    @override
    def load(self, model: ModelSpec, progress: Callable[[float], None]) -> None:
        self.noted.append(f"{model.name[0]} loads")
        super().load(model, progress)
        self.noted.append(f"{model.name[0]} loaded")

    @override
    def unload(self) -> None:
        self.noted.append(f"{self.name} unloaded")


async def test_a_load_in_a_thread_is_over_before_its_memory_counts_as_free(tmp_path: Path) -> None:
    settings = read_settings({"MODELS": "a", "ROUNDHOUSE_MEMORY_BUDGET_BYTES": "1000000"}, Noted)
    metrics = Metrics()
    fleet = Fleet(Given(()), lambda model: build_pool(Noted, (model,), settings, metrics), metrics, settings)
    fleet.take(Desired(1, (ModelSpec(f"a;vram=0;gate={tmp_path / 'gate'}"),)))
    await until(lambda: Noted.noted, "it is being loaded")
    fleet.take(Desired(2, (ModelSpec("b;vram=0"),)))
    await until(lambda: [m.state.value for m in fleet.models] == ["loading", "unloading"], "it leaves")
    (tmp_path / "gate").touch()
    await until(lambda: [m.state.value for m in fleet.models] == ["ready"], "the next is there")
    assert Noted.noted == ["a loads", "a loaded", "a unloaded", "b loads", "b loaded"]


class Mortal(Gated):
    """Its tale ends with `dies`."""

    def __init__(self, model: str) -> None:
        super().__init__(model)
        self.dies = asyncio.Event()

    @override
    async def events(self) -> AsyncGenerator[Event, None]:
        if self.loads.is_set():
            yield Loaded(0.0)
        await self.dies.wait()


async def test_who_waits_in_a_model_that_is_given_up_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slot_module, "_RESTART_SECONDS", 0)
    settings, metrics = read_settings({"MODELS": "alpha"}, Vectors), Metrics()
    runners: list[Mortal] = []

    def launch() -> Mortal:
        runners.append(Mortal("alpha"))
        if len(runners) == 1:
            runners[0].loads.set()
        return runners[-1]

    def build(model: ModelSpec) -> Pool:
        pool = Pool([Slot(launch, 1.0, metrics)], metrics, [model.name])
        pool.together, pool.batcher = 8, Batcher(pool, 8, 100, metrics)
        return pool

    fleet = Fleet(Given(()), build, metrics, settings)
    fleet.take(Desired(1, (ALPHA,)))
    await until(lambda: fleet.ready, "it is ready")
    pool = fleet.pool_of("alpha")

    async def ask_for_a_text(lease: Lease) -> None:
        with lease:
            await lease.compute_together(TextAsk("alpha", TextWork.EMBED), ["text"])

    async def upload_slowly(lease: Lease) -> None:
        with lease:
            async with lease.upload():
                lease.stand_by()
                await lease.regain_place()

    leases = [pool.admit(), pool.admit()]
    runners[0].dies.set()
    await until(lambda: len(runners) == 2, "it is started again")
    waiting = [asyncio.create_task(ask_for_a_text(leases[0])), asyncio.create_task(upload_slowly(leases[1]))]
    await until(lambda: pool.waiting == 2, "both wait")
    for number in (1, 2):
        await until(lambda least=number: len(runners) > least, "it is started again")  # type: ignore[misc]
        runners[number].dies.set()
    for each in waiting:
        with pytest.raises(EngineError) as told:
            await asyncio.wait_for(each, 60)
        assert told.value.problem.code == "model_failed"
    await until(lambda: fleet.models[0].state.value == "failed", "it is tried again later")
    assert (fleet.in_use, fleet.waiting) == (0, 0)


async def test_a_model_at_which_something_unforeseen_happens_says_so_and_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene, built = Scene(budget_bytes=10), threading.Event()

    def build(model: ModelSpec) -> Pool:
        if not built.is_set():
            raise ValueError("lone surrogate")
        return scene._build(model)

    monkeypatch.setattr("roundhouse_engine.model_life.FIRST_RETRY_SECONDS", 0.05)
    monkeypatch.setattr(scene.fleet, "_build", build)
    scene.want(ModelSpec("alpha", Path("/no/such\0name")))
    await until(lambda: scene.states() == {"alpha": "failed"}, "it is told")
    assert scene.fleet.models[0].error == "ValueError: lone surrogate"
    built.set()
    (await scene.started(ALPHA)).loads.set()
    await until(lambda: scene.states() == {"alpha": "ready"}, "it is served after all")


def test_an_entry_that_cannot_be_looked_at_costs_itself_alone(tmp_path: Path) -> None:
    class Looking(Scripted):
        @classmethod
        @override
        def accept(cls, model: ModelSpec) -> None:
            if model.name == "bad":
                raise PermissionError(13, "Permission denied")

    file = tmp_path / "models.json"
    file.write_text(json.dumps({"generation": 1, "models": [{"name": "bad"}, {"name": "good"}]}))
    read = ModelsFile(file, Looking).read()
    assert read.refused == {"bad": "models[0]: PermissionError: [Errno 13] Permission denied"}
    assert [model.name for model in read.models] == ["bad", "good"]
    with pytest.raises(EngineError) as refusal:
        read_list(file.read_bytes(), Looking, Desired(0))
    problem = refusal.value.problem
    assert (problem.status, problem.code, problem.param) == (500, "engine_failure", "models[0]")
    assert "models[0] cannot be looked at: PermissionError: [Errno 13]" in problem.message


async def test_a_request_for_a_model_that_was_away_and_has_left_the_list_is_refused() -> None:
    scene = Scene(budget_bytes=10)
    scene.want()
    with pytest.raises(EngineError) as refusal:
        await scene.fleet.once_loaded("alpha", lambda pool: pool)
    assert refusal.value.problem.status == 503


async def test_a_model_whose_last_request_leaves_before_its_turn_is_not_loaded() -> None:
    scene, beta = Scene(budget_bytes=20), ModelSpec("beta")
    scene.want(ALPHA)
    (await scene.started(ALPHA)).loads.set()
    await until(lambda: scene.states() == {"alpha": "ready"}, "it is ready")
    scene.fleet._lives["alpha"].give_way()
    await until(lambda: held(scene) == 0, "it is unloaded")
    scene.want(ALPHA, beta)
    loading = await scene.started(beta)
    asking = asyncio.create_task(scene.fleet.once_loaded("alpha", lambda pool: pool))
    await until(lambda: held(scene) == 6, "it has its room, and waits behind the other's load")
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    loading.loads.set()
    await until(lambda: (held(scene), scene.fleet.models[1].loaded) == (6, True), "its room is given back")
    assert len(scene.runners["alpha"]) == 1


def held(scene: Scene) -> int:
    assert scene.fleet.memory
    return scene.fleet.memory.needed_bytes


async def test_a_model_that_a_request_took_beyond_the_budget_is_unloaded_and_serves_again() -> None:
    scene = Scene(budget_bytes=10)
    scene.want(ALPHA)
    first = await scene.started(ALPHA)
    first.loads.set()
    await until(lambda: scene.states() == {"alpha": "ready"}, "it is ready")
    first.tells.put_nowait(Memory("alpha", 20))
    await until(lambda: scene.fleet.models[0].vram_bytes == 20, "it holds more")
    scene.fleet.pool_of("alpha").note()  # a request is over
    await until(lambda: not scene.fleet.models[0].loaded, "it is unloaded")
    asking = asyncio.create_task(scene.fleet.once_loaded("alpha", lambda pool: pool.capacity))
    loading = await scene.started(ALPHA, 2)
    assert scene.fleet.waiting == 1
    loading.loads.set()
    assert await asking == 1
    assert scene.fleet.waiting == 0
    assert scene.states() == {"alpha": "ready"}


async def test_where_every_model_has_failed_a_request_is_read_to_be_told_which_and_why() -> None:
    scene = Scene(budget_bytes=5)
    scene.want(ALPHA)
    (await scene.started(ALPHA)).loads.set()
    await until(lambda: scene.states() == {"alpha": "failed"}, "it is too large")
    with scene.fleet.admit(), pytest.raises(EngineError) as refusal:
        scene.fleet.pool_of("alpha")
    assert refusal.value.problem.code == "model_failed"
    assert "6 bytes" in str(refusal.value.problem.message)


async def test_what_leaves_the_list_while_it_waits_to_be_freed_is_freed() -> None:
    freed, ignore = threading.Event(), cast("Any", None)
    pool = cast("Pool", SimpleNamespace(names=("a",), release=freed.set))
    surroundings = Surroundings(ignore, Turns(1, 600), ignore, Budget(1), ignore, 1, 1.0, 1.0)
    async with surroundings.loading.turn("b"):
        freeing = asyncio.create_task(surroundings.free(pool))
        await asyncio.sleep(0)
        assert not freed.is_set()
        freeing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await freeing
        assert await asyncio.to_thread(freed.wait, 60)


async def test_a_model_whose_thread_computes_on_keeps_others_from_loading_for_a_moment_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(surroundings_module, "FREED_SECONDS", 0.01)
    computed, ignore = threading.Event(), cast("Any", None)
    pool = cast("Pool", SimpleNamespace(names=("a",), release=computed.wait))
    surroundings = Surroundings(ignore, Turns(1, 600), ignore, Budget(1), ignore, 1, 1.0, 1.0)
    freeing = asyncio.create_task(surroundings.free(pool))
    await asyncio.sleep(0)
    async with asyncio.timeout(60), surroundings.loading.turn("b"):
        assert surroundings.being_freed == [pool]
    computed.set()
    await freeing
    assert not surroundings.being_freed

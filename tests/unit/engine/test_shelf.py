"""What is beside models in memory: loaded by who needs it, shared, and gone when its room is wanted."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import cast

import pytest
from typing_extensions import override

from roundhouse_engine import Cancellation, Cancelled
from roundhouse_engine.errors import EngineError
from roundhouse_engine.memory import Memory, Tenant
from roundhouse_engine.shelf import Shelf
from tests.support.waiting import eventually
from tests.unit.engine.test_memory import Model


class Scene:
    """A shelf of texts as long as they say, counted in a budget of 10; `loads` are those that were loaded."""

    def __init__(self, wait_seconds: float = 60.0, memory: Memory | None = None) -> None:
        self.loads: list[str] = []
        self.memory = memory or Memory(10)
        self.shelf = Shelf[str, bytes](self._load, len)
        self.shelf.count_in(self.memory, asyncio.get_running_loop(), wait_seconds)

    def _load(self, name: str) -> bytes:
        if name == "damaged":
            raise ValueError(name)
        self.loads.append(name)
        return bytes(4)

    @property
    def needed(self) -> int:
        assert self.memory.status is not None
        return self.memory.status.needed_bytes

    async def use(self, *names: str) -> None:
        def used() -> None:
            for name in names:
                with self.shelf.taken(name, 4, "model", Cancellation()) as thing:
                    assert len(thing) == 4

        await asyncio.to_thread(used)

    @contextlib.contextmanager
    def held(self, name: str) -> Iterator[None]:
        """In use by a thread of its own until the end, once it is loaded; nothing waits for that here."""
        over = threading.Event()

        def hold() -> None:
            with self.shelf.taken(name, 4, "model", Cancellation()):
                over.wait(60)

        thread = threading.Thread(target=hold, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()

    async def until_needed(self, count: int) -> None:
        async def asked() -> bool:
            return self.needed == count

        await eventually(asked, seconds=10, what=f"{count} bytes are needed", every=0.005)


async def test_what_is_being_loaded_is_there_before_all_of_it_is_measured() -> None:
    begun, gate = threading.Event(), threading.Event()

    def load(_: str) -> bytes:
        begun.set()
        assert gate.wait(60)
        return bytes(4)

    shelf = Shelf[str, bytes](load, len)

    def use() -> None:
        with shelf.taken("a", 9, "model", Cancellation()):
            pass

    def measured() -> int:
        with shelf.still() as held_bytes:
            return held_bytes

    async def is_waited_for() -> bool:
        return shelf._measuring == 1

    assert measured() == 0
    using = asyncio.create_task(asyncio.to_thread(use))
    await asyncio.to_thread(begun.wait, 60)
    measuring = asyncio.create_task(asyncio.to_thread(measured))
    await eventually(is_waited_for, seconds=60, what="it is to be measured")
    gate.set()
    assert await measuring == 4
    await using


async def test_what_was_used_longest_ago_makes_room_and_comes_back() -> None:
    scene = Scene()
    await scene.use("a", "b", "a", "c")
    assert scene.loads == ["a", "b", "c"]
    assert scene.needed == 8
    await scene.use("a")
    assert scene.loads == ["a", "b", "c"], "a was used after b, which is gone"
    await scene.use("b")
    assert scene.loads == ["a", "b", "c", "b"]


async def test_a_model_and_what_is_beside_it_make_room_for_each_other() -> None:
    scene, idle = Scene(), Model(8, used_at=0.0)
    await scene.memory.enter(idle)
    using = asyncio.create_task(scene.use("a"))

    async def told() -> bool:
        return idle.told > 0

    await eventually(told, seconds=10, what="the idle model is to give way", every=0.005)
    scene.memory.leave(idle)
    await using
    assert await scene.memory.enter(Model(9)), "which leaves no room for it"
    assert scene.needed == 9


async def test_one_in_use_stays_and_who_needs_its_room_waits_as_long_as_is_said() -> None:
    scene = Scene()
    hasty = Scene(0.2, scene.memory)
    with scene.held("a"):
        await scene.until_needed(4)
        await scene.memory.enter(Model(5, idle=False))
        with pytest.raises(EngineError) as refusal:
            await hasty.use("b")
        assert refusal.value.problem.code == "engine_memory_full"
        assert hasty.loads == []
    await scene.use("a")
    await scene.use("b")
    assert scene.loads == ["a", "b"]
    assert scene.needed == 9, "a has made room for b"


async def test_who_waits_is_told_once_it_is_idle_and_not_sooner() -> None:
    """Nothing would tell it again."""
    scene, loop = Scene(), asyncio.get_running_loop()
    idle: list[bool] = []

    class Watched:
        def call_soon_threadsafe(self, what: Callable[..., object], *args: object) -> None:
            idle.append(all(tenant.idle for tenant in scene.memory._tenants))
            loop.call_soon_threadsafe(what, *args)

    scene.shelf.count_in(scene.memory, cast("asyncio.AbstractEventLoop", Watched()), 60)
    for _ in range(2):
        await scene.use("a")
        assert idle[-1]
    assert scene.loads == ["a"]


async def test_who_leaves_waits_no_more_and_keeps_nothing() -> None:
    scene, cancellation = Scene(), Cancellation()
    await scene.memory.enter(Model(8, idle=False))

    def use() -> None:
        with scene.shelf.taken("a", 4, "model", cancellation):
            raise AssertionError("there is no room")

    using = asyncio.create_task(asyncio.to_thread(use))
    await asyncio.sleep(0)
    cancellation.cancel()
    with pytest.raises(Cancelled):
        await using
    assert scene.needed == 8


async def test_what_cannot_be_loaded_is_told_and_counts_for_nothing() -> None:
    scene = Scene()
    with pytest.raises(ValueError, match="damaged"):
        await scene.use("damaged")
    await scene.until_needed(0)
    await scene.use("a")


@pytest.mark.parametrize(("model_bytes", "needed_bytes"), [(8, 4), (0, 11)])
async def test_what_never_fits_beside_its_own_model_is_refused_at_once(
    model_bytes: int, needed_bytes: int
) -> None:
    scene = Scene(wait_seconds=20.0)
    await scene.memory.enter(Model(model_bytes, idle=False, model_name="model"))

    def use() -> None:
        with scene.shelf.taken("a", needed_bytes, "model", Cancellation()):
            raise AssertionError("there is never room")

    with pytest.raises(EngineError) as refusal:
        await asyncio.to_thread(use)
    problem = refusal.value.problem
    assert (problem.status, problem.code) == (503, "engine_memory_too_small")
    assert "Retry-After" not in problem.headers
    sizes = f"they take {needed_bytes} and {model_bytes} bytes, and ROUNDHOUSE_MEMORY_BUDGET_BYTES is 10"
    assert sizes in problem.message
    assert scene.needed == model_bytes


async def test_another_models_room_is_waited_for() -> None:
    scene, other = Scene(), Model(8, idle=False, model_name="other")
    await scene.memory.enter(other)
    using = asyncio.create_task(scene.use("a"))
    await asyncio.to_thread(lambda: None)
    scene.memory.leave(other)
    await using
    assert scene.needed == 4


def test_what_a_server_counted_is_nothing_to_the_next_one() -> None:
    shelf = Shelf[str, bytes](lambda _: bytes(4), len)

    def use() -> None:
        with shelf.taken("a", 4, "model", Cancellation()):
            pass

    async def serve() -> None:
        memory = Memory(10)
        shelf.count_in(memory, asyncio.get_running_loop(), 60.0)
        await asyncio.to_thread(use)
        assert memory.status is not None
        assert memory.status.needed_bytes == 4

    for _ in range(2):
        asyncio.run(serve())
    shelf.clear()
    use()


class Full(Memory):
    """Never has room; `asked` tells that somebody waits for it."""

    def __init__(self) -> None:
        super().__init__(10)
        self.asked = asyncio.Event()

    @override
    async def enter(self, tenant: Tenant) -> bool:
        self.asked.set()
        return await asyncio.Event().wait()


def test_a_server_that_ends_tells_who_waits_for_room() -> None:
    shelf = Shelf[str, bytes](lambda _: bytes(4), len)

    def use() -> None:
        with shelf.taken("a", 4, "model", Cancellation()):
            raise AssertionError("there is no room")

    async def serve(threads: ThreadPoolExecutor) -> "Future[None]":
        memory = Full()
        shelf.count_in(memory, asyncio.get_running_loop(), 600.0)
        using = threads.submit(use)
        await memory.asked.wait()
        return using

    with ThreadPoolExecutor(1) as threads:
        using = asyncio.run(serve(threads))
        with pytest.raises(EngineError, match="takes no more work"):
            using.result(60)


def test_where_the_loop_ends_or_stops_no_thread_waits_on() -> None:
    shelf, loop = Shelf[str, bytes](lambda _: bytes(4), len), asyncio.new_event_loop()
    codes: list[str] = []

    def use() -> None:
        with pytest.raises(EngineError) as refusal, shelf.taken("a", 4, "model", Cancellation()):
            raise AssertionError("nobody says that there is room")
        codes.append(refusal.value.problem.code)

    def used() -> str:
        thread = threading.Thread(target=use, daemon=True)
        thread.start()
        thread.join(60)
        assert not thread.is_alive()
        return codes.pop()

    shelf.count_in(Memory(10), loop, 0.1)
    assert used() == "engine_memory_full", "the loop does not run"
    loop.close()
    assert used() == "engine_draining", "the loop is closed"


def test_without_a_budget_everything_stays() -> None:
    shelf = Shelf[str, bytes](lambda name: name.encode(), len)
    with shelf.taken("a", 1 << 60, "model", Cancellation()) as first:
        pass
    with shelf.taken("a", 1 << 60, "model", Cancellation()) as again:
        assert again is first

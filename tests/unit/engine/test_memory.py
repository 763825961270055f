"""Who has to make room for whom, in tables and without an engine."""

import asyncio
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import pytest

from roundhouse_engine.memory import Memory, Tenant, file_bytes, trim


@dataclass(eq=False)
class Model:
    needed_bytes: int
    used_at: float = 0.0
    idle: bool = True
    wanted: bool = True
    giving_way: bool = False
    model_name: str | None = None
    told: int = field(default=0, init=False)

    def give_way(self) -> None:
        self.told += 1
        self.idle, self.giving_way = False, True


@dataclass(frozen=True)
class Case:
    id: str
    loaded: tuple[Model, ...]
    needs: int
    gives_way: tuple[int, ...] = ()
    enters: bool = False


CASES = [
    Case("there is room", (Model(4),), 6, enters=True),
    Case("the one used longest ago", (Model(4, 2.0), Model(4, 1.0)), 6, (1,)),
    Case("as many as it takes", (Model(4, 2.0), Model(3, 1.0), Model(3, 3.0)), 7, (1, 0)),
    Case("busy ones stay", (Model(4, 1.0, idle=False), Model(4, 2.0)), 6, (1,)),
    Case("none in vain", (Model(8, 1.0, idle=False), Model(2, 2.0)), 5),
    Case("one that leaves already counts", (Model(6, 1.0, idle=False, giving_way=True), Model(4)), 6),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
async def test_who_gives_way_for_a_model_that_is_to_be_loaded(case: Case) -> None:
    memory = Memory(10)
    for model in case.loaded:
        assert await Memory.enter(memory, model)
    for model in case.loaded:
        model.told = 0
    newcomer = asyncio.create_task(memory.enter(Model(case.needs)))
    await asyncio.sleep(0)
    assert newcomer.done() is case.enters
    assert [place for place, model in enumerate(case.loaded) if model.told] == sorted(case.gives_way)
    for model in case.loaded:
        memory.leave(model)
    assert await newcomer


async def test_one_that_nobody_wants_any_more_stops_waiting() -> None:
    memory = Memory(10)
    busy, newcomer = Model(8, idle=False), Model(5)
    await memory.enter(busy)
    entering = asyncio.create_task(memory.enter(newcomer))
    await asyncio.sleep(0)
    newcomer.wanted = False
    memory.note()
    assert await entering is False
    assert memory.status is not None
    assert memory.status.needed_bytes == 8


async def test_where_models_grow_over_the_budget_idle_ones_go_even_if_that_is_not_enough() -> None:
    memory = Memory(10)
    growing, idle = Model(4, idle=False), Model(2)
    for model in (growing, idle):
        await memory.enter(model)
    growing.needed_bytes = 20
    memory.note()
    assert (growing.told, idle.told) == (0, 1)
    assert memory.never_holds(growing.needed_bytes)


async def test_without_a_budget_everything_enters_and_nothing_goes() -> None:
    memory = Memory(None)
    models: list[Tenant] = [Model(1 << 60) for _ in range(3)]
    assert [await memory.enter(model) for model in models] == [True] * 3
    memory.note()
    assert not any(model.giving_way for model in models)
    assert memory.status is None


def test_weights_are_sized_by_their_files(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "a").write_bytes(b"x" * 100)
    (tmp_path / "b").write_bytes(b"x" * 20)
    found = [file_bytes(path) for path in (tmp_path, tmp_path / "b", tmp_path / "gone")]
    assert found == [120, 20, 0]


@pytest.mark.parametrize("there", [(), ("cuda",)], ids=["torch", "torch and torch.cuda"])
def test_memory_is_given_back_while_torch_is_half_imported(
    there: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = ModuleType("torch")
    for name in there:
        setattr(torch, name, ModuleType(f"torch.{name}"))
    monkeypatch.setitem(sys.modules, "torch", torch)
    trim()


ALLOCATES = """
import ctypes, threading
from roundhouse_engine.memory import share_one_heap
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
if {shared}:
    share_one_heap()
found = []
thread = threading.Thread(target=lambda: found.append(libc.malloc(1 << 14)))
thread.start()
thread.join()
(heap,) = [line.split()[0] for line in open("/proc/self/maps") if line.endswith("[heap]\\n")]
begin, end = (int(each, 16) for each in heap.split("-"))
print(begin <= found[0] < end)
"""


@pytest.mark.parametrize(
    ("told", "allowed", "shared"),
    [(True, {}, True), (False, {}, False), (True, {"MALLOC_ARENA_MAX": "8"}, False)],
)
def test_threads_allocate_in_the_heap_of_the_process_where_they_are_to(
    told: bool, allowed: dict[str, str], shared: bool
) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    ran = subprocess.run(
        [sys.executable, "-c", ALLOCATES.format(shared=told)],
        check=True,
        capture_output=True,
        text=True,
        env=environment | allowed,
    )
    assert ran.stdout.strip() == str(shared)


KEEPS = """
import ctypes
from contextlib import ExitStack
from roundhouse_engine.memory import keep_what_is_freed, mapped
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
def mapped_now():
    block = libc.malloc(64 << 20)
    (heap,) = [line.split()[0] for line in open("/proc/self/maps") if line.endswith("[heap]\\n")]
    begin, end = (int(each, 16) for each in heap.split("-"))
    return not begin <= block < end
keep_what_is_freed()
one, other = ExitStack(), ExitStack()
found = [mapped_now()]
one.enter_context(mapped())
other.enter_context(mapped())
one.close()
found.append(mapped_now())
other.close()
print(*found, mapped_now())
"""


@pytest.mark.parametrize(
    ("variables", "said"),
    [({}, "False True False"), ({"MALLOC_TRIM_THRESHOLD_": "131072"}, "True True True")],
    ids=["kept", "glibc's own variable"],
)
def test_large_blocks_are_mapped_as_long_as_one_of_several_models_loads(
    variables: dict[str, str], said: str
) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    ran = subprocess.run(
        [sys.executable, "-c", KEEPS],
        check=True,
        capture_output=True,
        text=True,
        env=environment | variables,
    )
    assert ran.stdout.strip() == said

"""What a model is told to take of a GPU, where there is one and where there is none."""

import ctypes
from collections.abc import Iterator
from typing import Any

import pytest

from roundhouse_engine import gpu_memory

TOTAL = 80 << 30


class Driver:
    """NVIDIA's, as far as it is asked; `broken` names a call that fails."""

    def __init__(self, broken: str = "") -> None:
        self.used_bytes = 0
        self.contexts = 0
        self.retained = 0
        self._broken = broken

    def __getattr__(self, name: str) -> Any:
        def call(*told: Any) -> int:
            if name == self._broken:
                return 100
            self.contexts += {"cuCtxPushCurrent_v2": 1, "cuCtxPopCurrent_v2": -1}.get(name, 0)
            self.retained += name == "cuDevicePrimaryCtxRetain"
            if name == "cuMemGetInfo_v2":
                free, total = told
                free._obj.value, total._obj.value = TOTAL - self.used_bytes, TOTAL
            return 0

        return call


@pytest.fixture(autouse=True)
def nothing_opened() -> Iterator[None]:
    """Neither by a test before, nor for one that comes later."""
    gpu_memory.opened.cache_clear()
    yield
    gpu_memory.opened.cache_clear()


def drive(monkeypatch: pytest.MonkeyPatch, driver: Driver) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: driver)


def test_a_model_takes_what_memory_grew_by(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver()
    drive(monkeypatch, driver)
    driver.used_bytes = 5 << 30
    growth = gpu_memory.Growth()
    driver.used_bytes = 7 << 30
    assert growth.bytes() == 2 << 30
    driver.used_bytes = 4 << 30  # somebody else left
    assert growth.bytes() == 0
    assert driver.contexts == 0, "the thread's own context is as it was"
    assert driver.retained == 1, "the GPU is opened once"


@pytest.mark.parametrize(
    "broken", ["cuInit", "cuDevicePrimaryCtxRetain", "cuCtxPushCurrent_v2", "cuMemGetInfo_v2"]
)
def test_a_driver_that_fails_tells_nothing(monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    driver = Driver(broken)
    drive(monkeypatch, driver)
    assert gpu_memory.used_bytes() is None
    assert gpu_memory.Growth().bytes() is None
    assert driver.contexts == 0


def test_without_a_driver_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", none)
    assert gpu_memory.used_bytes() is None

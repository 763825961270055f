"""What a model holds of a GPU, told by numbers of torch's that the test gives: no GPU is needed."""

from dataclasses import dataclass

import pytest

from tests.support.torch_base import prepare_torch

prepare_torch()

import torch  # noqa: E402 - it loads only from here on

from roundhouse_engine.torch_memory import Highest, vram_bytes  # noqa: E402


@dataclass
class Gpu:
    """As torch counts for the whole process."""

    now: int = 0
    highest: int = 0

    def takes(self, count: int, transient: int = 0) -> None:
        self.now += count
        self.highest = max(self.highest, self.now + transient)

    def forget(self) -> None:
        self.highest = self.now


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    made = Gpu()
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: made.now)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: made.highest)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", made.forget)
    monkeypatch.setattr("roundhouse_engine.torch_memory.HIGHEST", Highest())
    return made


def test_a_model_is_told_what_it_holds_and_computes_with_and_not_what_others_hold(gpu: Gpu) -> None:
    large, small = torch.nn.Linear(1000, 100, bias=False), torch.nn.Linear(10, 10, bias=False)
    gpu.takes(400_000)
    assert vram_bytes(large, "cuda") == 400_000
    gpu.takes(400, transient=50)
    assert vram_bytes(small, "cuda") == 450
    gpu.takes(0, transient=7000)
    assert vram_bytes(large, "cuda") == 407_000
    gpu.takes(-400_000)
    gpu.takes(0, transient=30)
    assert vram_bytes(small, "cuda") == 400, "what has left is not its own"
    gpu.takes(0, transient=30)
    assert vram_bytes(small, "cuda") == 430


def test_weights_that_are_shared_count_once_and_a_cpu_tells_nothing(gpu: Gpu) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(10, 10, bias=False), torch.nn.Linear(10, 10, bias=False))
    model[1].weight = model[0].weight
    model.register_buffer("view", model[0].weight.detach()[:5])
    gpu.takes(400)
    assert vram_bytes(model, "cuda") == 400
    assert vram_bytes(model, "cpu") is None

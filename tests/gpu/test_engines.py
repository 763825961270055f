"""Each engine on a GPU: it answers as on a processor, says what it holds, and gives it back.

Where the GPU is full, that is told, and survived.
"""

from pathlib import Path

import numpy as np
import pytest

from roundhouse_engine.gpu_memory import used_bytes
from tests.gpu.engines import CASES, DEVICE, Case, Serving, serving, write_embedder
from tests.support.waiting import wait_until

pytestmark = pytest.mark.gpu

EMBEDDINGS = next(case for case in CASES if case.id == "transformers-embeddings")
LARGE = {"intermediate_size": 1 << 15, "num_hidden_layers": 32}
"""Weights of a quarter of a gigabyte, beside which what is computed of a text takes next to nothing."""
fills_a_gpu = pytest.mark.skipif(DEVICE != "cuda", reason="the memory that is filled here is a GPU's")


def vram(serving: Serving, model: str) -> float:
    """Bytes, by the list of models and by the metric, which agree; 0 where neither knows of any."""
    metric = serving.engine.metric("model_vram_bytes", model=model)
    assert metric == serving.models.get(model, {}).get("vramBytes", 0)
    return metric


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_it_answers_as_on_a_processor_and_gives_back_what_it_held(case: Case, tmp_path: Path) -> None:
    weights = case.make(tmp_path / "weights")
    with serving(case, "cpu", tmp_path / "there") as there:
        there.want_models(m=weights)
        there.until_told(m="ready")
        expected = case.ask(there.engine, "m")
        assert vram(there, "m") == 0
    with serving(case, DEVICE, tmp_path / "here") as here:
        here.want_models(m=weights)
        here.until_told(m="ready")
        found = case.ask(here.engine, "m")
        if isinstance(expected, str):
            assert expected
            assert found == expected
        else:
            assert np.allclose(found, expected, atol=2e-3)
        if DEVICE == "cuda":
            assert vram(here, "m") > 0
        here.want_models()
        here.until_told()
        assert vram(here, "m") == 0
        here.want_models(m=weights)
        here.until_told(m="ready")
        assert np.array_equal(case.ask(here.engine, "m"), found), "loaded again, it answers the same"


def test_a_model_that_left_frees_its_weights_on_the_device(tmp_path: Path) -> None:
    large = write_embedder(tmp_path / "large", **LARGE)
    size = sum(file.stat().st_size for file in large.glob("*.safetensors"))
    with serving(EMBEDDINGS, DEVICE, tmp_path / "engine") as here:
        here.want_models(large=large)
        here.until_told(large="ready")
        EMBEDDINGS.ask(here.engine, "large")
        held = used_bytes() or 0
        if DEVICE == "cuda":
            assert vram(here, "large") >= size * 0.9
        here.want_models()
        here.until_told()

        def freed() -> bool:
            return DEVICE != "cuda" or held - (used_bytes() or 0) >= size * 0.9

        wait_until(freed, seconds=60, what=f"{size} bytes are free again")


@fills_a_gpu
def test_of_two_models_that_do_not_fit_together_the_one_that_is_asked_for_is_there(tmp_path: Path) -> None:
    large = write_embedder(tmp_path / "large", **LARGE)
    size = sum(file.stat().st_size for file in large.glob("*.safetensors"))
    budget = {"ROUNDHOUSE_MEMORY_BUDGET_BYTES": str(size * 3 // 2)}
    with serving(EMBEDDINGS, DEVICE, tmp_path / "engine", **budget) as here:
        here.want_models(one=large, other=large)
        here.until_told(one="ready", other="ready")
        for model in ("one", "other", "one"):
            EMBEDDINGS.ask(here.engine, model)
            assert {name for name, told in here.models.items() if told["loaded"]} == {model}


@fills_a_gpu
def test_a_model_that_a_full_gpu_does_not_hold_is_told_and_the_others_live(tmp_path: Path) -> None:
    import torch  # noqa: PLC0415 - with CUDA, where these tests run

    small = write_embedder(tmp_path / "small")
    large = write_embedder(tmp_path / "large", **LARGE)
    with serving(EMBEDDINGS, DEVICE, tmp_path / "engine") as here:
        here.want_models(small=small)
        here.until_told(small="ready")
        expected = EMBEDDINGS.ask(here.engine, "small")
        filled = []
        for size in (1 << 30, 1 << 24):
            while torch.cuda.mem_get_info()[0] > 2 * size:
                filled.append(torch.empty(size, dtype=torch.uint8, device="cuda"))
        here.want_models(small=small, large=large)
        here.until_told(small="ready", large="failed")
        assert "memory" in here.models["large"]["error"]
        filled.clear()
        torch.cuda.empty_cache()
        assert np.allclose(EMBEDDINGS.ask(here.engine, "small"), expected)
        here.want_models(small=small)
        here.until_told(small="ready")
        here.want_models(small=small, large=large)
        here.until_told(small="ready", large="ready")

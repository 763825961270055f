"""llama.cpp without memory: where its context does not fit, and within a request; others are served."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from roundhouse_engine import Cancellation, Cancelled
from roundhouse_llama_cpp.embeddings import LlamaEmbeddings
from tests.conformance.engine.conversations import said
from tests.conformance.engine.llama_engine import ADDRESSES_BYTES, TOO_MUCH
from tests.conformance.engine.running import running
from tests.conformance.engine.test_llama_cpp import models, post
from tests.support.gguf import Size, write_model
from tests.support.waiting import wait_until

ENGINE = ("-m", "tests.conformance.engine.llama_engine")
CONTEXT = 1 << 22
WIDE = Size(width=256, layers=32, heads=4, inner=8)
"""Of each token's context 32 KiB are kept, so that all of it is twice what there is."""
NARROW = Size(width=8, layers=1, heads=1, inner=8)


def test_a_model_whose_context_does_not_fit_is_told_and_another_one_serves(tmp_path: Path) -> None:
    assert CONTEXT * WIDE.width * WIDE.layers * 4 == 2 * ADDRESSES_BYTES
    for name, size in (("wide", WIDE), ("narrow", NARROW)):
        (tmp_path / name).mkdir()
        write_model(tmp_path / name / "tiny.gguf", size=size)
    listed = tmp_path / "models.json"
    source = {"type": "HuggingFace"}
    told = [{"name": name, "path": str(tmp_path / name), "source": source} for name in ("wide", "narrow")]
    listed.write_text(json.dumps({"generation": 1, "models": told}))
    variables = {
        "MODELS": "",
        "ROUNDHOUSE_MODELS_FILE": str(listed),
        "ROUNDHOUSE_LLAMA_THREADS": "1",
        "ROUNDHOUSE_LLAMA_CONTEXT_TOKENS": str(CONTEXT),
        "ROUNDHOUSE_CAPACITY": "1",
    }
    with running((*ENGINE, "chat"), tmp_path, **variables) as engine:

        def states() -> dict[str, str]:
            return {each["id"]: each["state"] for each in engine.get("/v1/models").json["data"]}

        wanted = {"wide": "failed", "narrow": "ready"}
        wait_until(lambda: states() == wanted, seconds=300, what=f"one serves; log:\n{engine.logged}")
        found = post(engine, model="wide", messages=said("a"))
        assert (found.status, found.error["code"]) == (503, "model_failed")
        assert f"its context of {CONTEXT} tokens for each request at once (1)" in found.error["message"]
        assert "ROUNDHOUSE_LLAMA_CONTEXT_TOKENS" in found.error["message"]
        assert post(engine, model="narrow", messages=said("a"), max_tokens=1).status == 200


@pytest.mark.parametrize("kind", ["chat", "embeddings"])
def test_a_request_without_memory_says_so_and_the_next_is_answered(kind: str, tmp_path: Path) -> None:
    write_model(tmp_path / "tiny.gguf")
    told = {"ROUNDHOUSE_MODELS": models(tmp_path), "MODELS": "", "ROUNDHOUSE_LLAMA_THREADS": "1"}
    with running((*ENGINE, kind), tmp_path, **told) as engine:
        engine.until_ready()
        path = "/v1/chat/completions" if kind == "chat" else "/v1/embeddings"
        first, second = (
            post(engine, path, **({"messages": said(text)} if kind == "chat" else {"input": ["a", text]}))
            for text in (TOO_MUCH, "a")
        )
        assert (first.status, first.error["code"]) == (503, "out_of_memory")
        assert first.error["type"] == "service_unavailable"
        assert second.status == 200, "by the same process"
        assert engine.metric("restarts_total") == 0


class Leaves:
    """In the place of llama.cpp: the client leaves while its first texts are computed."""

    def __init__(self) -> None:
        self.cancellation = Cancellation()
        self.asked: list[int] = []

    @property
    def server(self) -> "Leaves":
        return self

    def handle_embeddings(self, request: dict[str, Sequence[str]]) -> dict[str, object]:
        self.asked.append(len(request["input"]))
        self.cancellation.cancel()
        return {"data": [{"index": at, "embedding": [1.0]} for at in range(len(request["input"]))]}


def test_who_leaves_a_batch_of_embeddings_is_heard_of_within_eight_texts() -> None:
    """Of a whole batch a processor computes for minutes, and a process that goes on so long is killed."""
    embedder, llama = LlamaEmbeddings(), Leaves()
    embedder._llama = llama  # type: ignore[assignment]
    with pytest.raises(Cancelled):
        embedder.embed(["a"] * 64, llama.cancellation)
    assert llama.asked == [8]
    assert len(embedder.embed(["a"] * 19, Cancellation())) == 19
    assert llama.asked == [8, 8, 8, 3]

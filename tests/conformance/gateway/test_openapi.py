"""`/openapi.json` is true: no answer is a fault, and none is of a kind that it does not declare."""

import subprocess
import sys
from pathlib import Path

import pytest
from aiohttp import web

from roundhouse_gateway.guard import OPEN_PATHS, scope_of
from tests.conformance.gateway import text_engine
from tests.conformance.gateway.conftest import World
from tests.conformance.gateway.manifests import Variant
from tests.conformance.gateway.scripted_engine import Received, transcript

CHECKS = (
    *("not_a_server_error", "status_code_conformance", "content_type_conformance"),
    *("response_schema_conformance", "response_headers_conformance"),
)
FEATURES = ("Translation", "Diarization", "Vision", "StructuredOutputs")


async def answer(request: web.Request, received: Received) -> web.StreamResponse:
    """What an engine of each kind says, whatever it is asked."""
    match request.path:
        case "/v1/embeddings":
            data = [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}]
            return web.json_response({"object": "list", "data": data, "model": "m", "usage": {}})
        case "/v1/rerank" | "/v2/rerank" | "/rerank":
            return web.json_response({"results": [{"index": 0, "relevance_score": 0.5}]})
        case path if path.startswith("/v1/audio/"):
            return await transcript(request, received)
        case _:
            return await text_engine.chat(request, received)


@pytest.mark.req("S0-15")
def test_schemathesis_finds_no_fault_and_nothing_undeclared(world: World, tmp_path: Path) -> None:
    for stage in ("Transcribe", "Embed", "Chat", "Rerank"):
        variant = Variant(stage.lower(), stage=stage, languages=None, streaming="Chunked", features=FEATURES)
        engine = world.serve(variant)
        engine.answer = answer
    ran = subprocess.run(
        [
            *(
                Path(sys.executable).with_name("st"),
                "run",
                f"http://127.0.0.1:{world.gateway.port}/openapi.json",
            ),
            *("--checks", ",".join(CHECKS), "--phases", "examples,coverage,fuzzing", "--max-examples", "20"),
            *("--max-time", "20", "--request-timeout", "120", "--seed", "1", "--no-color", "--no-shrink"),
            *("--generation-database", "none", "--suppress-health-check", "all"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-20_000:] + ran.stderr[-5000:]


def test_every_route_that_is_described_asks_for_a_scope(world: World) -> None:
    paths = world.gateway.get("/openapi.json").json["paths"]
    assert [path for path in paths if path not in OPEN_PATHS and scope_of(path) is None] == []

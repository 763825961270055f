"""Each example of an engine that is not ours, before the gateway as the operator would leave it.

The engines behind are scripted and speak as those that the manifests name; what they are asked, and where, is
what the real ones serve.
"""

import asyncio
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import cohere
import httpx
import pytest
import yaml

from roundhouse_api.realtime import Close
from tests.conformance.engine.streaming import streaming
from tests.conformance.gateway import dialect_engines as speaking
from tests.conformance.gateway import text_engine as scripts
from tests.conformance.gateway.client import random_audio
from tests.conformance.gateway.conftest import World
from tests.conformance.gateway.manifests import NAMESPACE, Manifest, Variant, slice_of
from tests.conformance.gateway.realtime_engines import WORDS, OpenAI, Speaches, Vllm, speech
from tests.conformance.gateway.scripted_engine import ScriptedEngine, transcript

EXAMPLES = Path(__file__).parents[3] / "examples"
AUDIO = ("a.wav", random_audio(200_000))


def documents(example: str) -> Iterator[Manifest]:
    for found in yaml.safe_load_all((EXAMPLES / example).read_text()):
        found["metadata"] |= {"namespace": NAMESPACE}
        yield found


def publish(world: World, example: str) -> dict[str, ScriptedEngine]:
    """Engines and variants of the file as the operator leaves them; what is behind each variant, by name."""
    engines: dict[str, Manifest] = {}
    behind: dict[str, ScriptedEngine] = {}
    for found in documents(example):
        match found["kind"]:
            case "Secret":
                data = {key: b64encode(value.encode()).decode() for key, value in found["stringData"].items()}
                world.api.put("secrets", {"metadata": found["metadata"], "data": data})
            case "Engine":
                engines[found["metadata"]["name"]] = found
            case "ModelVariant":
                behind[found["metadata"]["name"]] = _serve(world, found, engines)
            case kind:
                raise AssertionError(kind)
    return behind


def _serve(world: World, variant: Manifest, engines: dict[str, Manifest]) -> ScriptedEngine:
    name, spec = variant["metadata"]["name"], variant["spec"]
    engine = engines[spec["engineRef"]["name"]]
    hosted = "upstream" in engine["spec"]
    made = world.engine()
    if hosted:
        engine["spec"]["upstream"]["baseURL"] = f"{made.url}/v1"
    status = Variant(name, engine=engine["metadata"]["name"]).manifest()["status"]
    status["effective"] |= {
        "stage": engine["spec"]["stage"],
        "dialect": engine["spec"]["api"]["dialect"],
        "interfaces": engine["spec"]["interfaces"],
        "capabilities": {**engine["spec"].get("capabilities", {}), **spec.get("capabilities", {})},
    }
    served = spec.get("servedName", name)
    status |= {"servedName": served, "publishedNames": [served, *spec.get("alternateNames", ())]}
    own_name = spec.get("engineModelName") or spec["source"]["huggingFace"]["repo"]
    backend = {"type": "Upstream" if hosted else "Service", "modelName": own_name}
    status["backends"] = [{"name": engine["metadata"]["name"] if hosted else name, "port": 8000, **backend}]
    if not hosted:
        world.api.put("endpointslices", slice_of(name, made.port))
    world.api.put("engines", engine)
    variant["metadata"]["creationTimestamp"] = "2026-11-01T09:00:00Z"
    world.api.put("modelvariants", {**variant, "status": status})
    world.wait_for(served, "running")
    return made


def asked(engine: ScriptedEngine) -> tuple[str, str]:
    """Where the only request went, and for which model."""
    (received,) = engine.requests
    return received.path, received.json["model"] if received.body else received.model or ""


@pytest.mark.parametrize(
    ("example", "name", "model", "own_name"),
    [
        ("vllm.yaml", "qwen3-4b", "Qwen/Qwen3-4B", "Qwen/Qwen3-4B"),
        ("llama-cpp.yaml", "qwen2-5-1-5b", "qwen2.5-1.5b-instruct", "Qwen/Qwen2.5-1.5B-Instruct-GGUF"),
        ("hosted-openai.yaml", "gpt-4o", "gpt-4o", "gpt-4o"),
    ],
)
def test_chat(example: str, name: str, model: str, own_name: str, world: World) -> None:
    engine = publish(world, example)[name]
    engine.answer = scripts.chat
    client = world.gateway.openai()
    said = client.chat.completions.create(model=model, messages=[{"role": "user", "content": "?"}])
    assert said.choices
    assert asked(engine) == ("/v1/chat/completions", own_name)
    sent = engine.requests[0].headers.get("authorization")
    assert sent == ("Bearer replace-me" if example == "hosted-openai.yaml" else None)


def test_embeddings_and_rerank_of_tei(world: World) -> None:
    behind = publish(world, "tei.yaml")
    embeds, ranks = behind["bge-small-en"], behind["bge-reranker-base"]
    embeds.answer, ranks.answer = scripts.embeddings(knows_base64=False), scripts.tei_rerank
    client = world.gateway.openai()
    assert client.embeddings.create(model="BAAI/bge-small-en-v1.5", input=["a", "b"], dimensions=384).data
    assert asked(embeds) == ("/v1/embeddings", "BAAI/bge-small-en-v1.5")
    with httpx.Client(timeout=60) as connections:
        root = world.gateway.base_url.removesuffix("/v1")
        ranked = cohere.ClientV2(api_key="c", base_url=root, httpx_client=connections).rerank(
            model="BAAI/bge-reranker-base", query="a b", documents=["c", "a b"], top_n=1
        )
    assert [each.index for each in ranked.results] == [1]
    (received,) = ranks.requests
    assert (received.path, set(received.json) & {"query", "texts"}) == ("/rerank", {"query", "texts"})


def test_hosted_speech(world: World) -> None:
    engine = publish(world, "hosted-openai.yaml")["whisper-1"]
    engine.answer = transcript
    said = world.gateway.openai().audio.transcriptions.create(model="whisper-1", file=AUDIO)
    assert said.text
    assert asked(engine) == ("/v1/audio/transcriptions", "whisper-1")
    assert engine.requests[0].headers["authorization"] == "Bearer replace-me"


async def test_hosted_sessions(world: World) -> None:
    engine, kind = publish(world, "hosted-openai.yaml")["gpt-4o-transcribe"], OpenAI("gpt-4o-transcribe")
    engine.talk = kind.talk
    async with streaming(world.gateway.port, {"model": "gpt-4o-transcribe", "vad": "false"}) as stream:
        await stream.next()
        await stream.send(speech(0.5), pace=1000)
        await stream.say("end")
        await stream.rest()
    assert stream.texts == ["go forward"]
    (received,) = engine.requests
    assert (received.path, received.headers["authorization"]) == (
        "/v1/realtime?intent=transcription",
        "Bearer replace-me",
    )


async def test_speaches_hears_recordings_and_sessions(world: World) -> None:
    engine = publish(world, "speaches.yaml")["speaches-whisper-small"]
    kind = Speaches()
    engine.answer, engine.talk = speaking.speaches, kind.talk
    client = world.gateway.openai()
    said = await asyncio.to_thread(
        client.audio.transcriptions.create, model="speaches-whisper-small", file=AUDIO, response_format="vtt"
    )
    assert str(said).startswith("WEBVTT")
    assert asked(engine) == ("/v1/audio/transcriptions", "Systran/faster-whisper-small")
    assert await heard(world, "speaches-whisper-small") == " ".join(WORDS)
    assert kind.queries == [{"model": "Systran/faster-whisper-small", "intent": "transcription"}]


async def test_voxtral_hears_sessions(world: World) -> None:
    engine = publish(world, "vllm-voxtral-realtime.yaml")["voxtral-streaming-4b"]
    kind = Vllm("mistralai/Voxtral-Mini-4B-Realtime-2602")
    engine.talk = kind.talk
    assert await heard(world, "mistralai/Voxtral-Mini-4B-Realtime-2602") == " ".join(WORDS)
    assert [each.path for each in engine.requests] == ["/v1/realtime"]
    assert await heard(world, "auto") == " ".join(WORDS)


async def heard(world: World, model: str) -> str:
    async with streaming(world.gateway.port, {"model": model, "vad": "false"}) as stream:
        await stream.send(speech(1.0))
        await stream.say("end")
        assert (await stream.rest())[0] == Close.NORMAL
    return " ".join(stream.texts)

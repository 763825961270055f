"""Which routes an engine has: those of the work that its handler does, and no other."""

from starlette.routing import BaseRoute, Route, WebSocketRoute

from roundhouse_engine.chat import Chats, Completions
from roundhouse_engine.door import Door
from roundhouse_engine.embeddings import Embeddings
from roundhouse_engine.generations import Generations
from roundhouse_engine.handler import Handler
from roundhouse_engine.metrics import Metrics
from roundhouse_engine.music import Music
from roundhouse_engine.reranking import Reranking
from roundhouse_engine.settings import Settings
from roundhouse_engine.speech import Speech, Task
from roundhouse_engine.text import Chat, Embedding, Rerank
from roundhouse_engine.transcriptions import Transcriptions


def speech_routes(
    handler: type[Handler], settings: Settings, door: Door, metrics: Metrics
) -> list[BaseRoute]:
    if not issubclass(handler, Speech):
        return []
    # Sessions bring the decoders of audio, whose import is half of the start of an engine of texts.
    from roundhouse_engine.realtime import PATH, Realtime  # noqa: PLC0415

    transcriptions, translations = (Transcriptions(handler, settings, door, metrics, task) for task in Task)
    return [
        Route("/v1/audio/transcriptions", transcriptions, methods=["POST"]),
        Route("/v1/audio/translations", translations, methods=["POST"]),
        WebSocketRoute(PATH, Realtime(handler, settings, door, metrics)),
    ]


def text_routes(handler: type[Handler], settings: Settings, door: Door, metrics: Metrics) -> list[BaseRoute]:
    routes: list[BaseRoute] = []
    if issubclass(handler, Chat):
        chats = Chats(handler, settings, door, metrics)
        routes.append(Route("/v1/chat/completions", chats, methods=["POST"]))
        if handler.completions:
            completions = Completions(handler, settings, door, metrics)
            routes.append(Route("/v1/completions", completions, methods=["POST"]))
    if issubclass(handler, Embedding):
        embeddings = Embeddings(handler, settings, door, metrics)
        routes.append(Route("/v1/embeddings", embeddings, methods=["POST"]))
    if issubclass(handler, Rerank):
        reranking = Reranking(settings, door, metrics)
        routes += [Route(path, reranking, methods=["POST"]) for path in ("/v1/rerank", "/v2/rerank")]
    if issubclass(handler, Music):
        generations = Generations(handler, settings, door, metrics)
        routes.append(Route("/v1/music/generations", generations, methods=["POST"]))
    return routes

"""The routes that tell of models and engines, and those by which a cluster looks after the gateway."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import AfterValidator

from roundhouse_api.enums import Stage
from roundhouse_api.keys import Grant
from roundhouse_api.selection import ModelStatus, UnknownModelError
from roundhouse_gateway.bodies import Filter
from roundhouse_gateway.credentials import Credentials
from roundhouse_gateway.errors import ModelNotFoundError, NotReadyError
from roundhouse_gateway.exchange import EXCHANGE, Exchange
from roundhouse_gateway.keyring import Keyring
from roundhouse_gateway.metrics import CONTENT_TYPE, Metrics
from roundhouse_gateway.registry import Registry
from roundhouse_gateway.transcription_request import MAX_LANGUAGE, read_language
from roundhouse_gateway.views import model_detail

JSON = "application/json"
TEXT = "text/plain"


def _known_stage(word: str) -> str:
    stages = [stage.lower() for stage in Stage]
    if word not in stages:
        raise ValueError(f"use one of {', '.join(stages)}")
    return word


StatusWord = Literal["running", "available", "unhealthy", "all"]
StageWord = Annotated[str, AfterValidator(_known_stage)]


@dataclass(slots=True)
class Readiness:
    """Whether requests should come here. Draining is for ever.

    `whole` says it of all workers, where there are several, given what this one has against it.
    """

    registry: Registry
    keyring: Keyring | None = None
    credentials: Credentials | None = None
    draining: bool = False
    whole: Callable[[str | None], str | None] | None = None

    def reason_against(self) -> str | None:
        return self.whole(self.own_reason()) if self.whole else self.own_reason()

    def own_reason(self) -> str | None:
        if self.draining:
            return "draining"
        if self.keyring is not None and not self.keyring.complete:
            return "the API keys have not been read yet"
        if not self.registry.complete:
            return "the cluster has not been read yet"
        if self.credentials is not None and not self.credentials.complete:
            return "the keys of upstreams have not been read yet"
        return None


def api_routes(registry: Registry) -> APIRouter:
    """What clients ask."""
    router = APIRouter(tags=["models"])

    @router.get("/v1/models", summary="Models that can be asked for now")
    async def list_models(
        request: Request,
        status: Annotated[StatusWord, Query(description="`all` lists the whole catalogue.")] = "running",
        stage: Annotated[StageWord | None, Query(description="Only models of this stage.")] = None,
        language: Annotated[
            str | None, Query(max_length=MAX_LANGUAGE, description="Only models that take this language.")
        ] = None,
    ) -> Response:
        wanted = Filter(
            status=None if status == "all" else ModelStatus(status),
            stage=stage,
            language=read_language(language),
            allowed=_grant(request).models,
        )
        return Response(_complete(registry).bodies.models(wanted), media_type=JSON)

    @router.get("/v1/models/{model_id:path}", summary="One model, running or not, by any of its names")
    async def get_model(
        request: Request, model_id: Annotated[str, Path(description="May hold slashes.")]
    ) -> Response:
        try:
            entry = _complete(registry).snapshot.resolve(model_id)
        except UnknownModelError as error:
            raise ModelNotFoundError(model_id) from error
        if not _grant(request).allows_model(entry.model.id):
            raise ModelNotFoundError(model_id)
        request.scope[EXCHANGE].model = entry.model.id
        return Response(msgspec.json.encode(model_detail(entry)), media_type=JSON)

    @router.get("/v1/engines", summary="The whole catalogue with hardware and performance, and the runtimes")
    async def list_engines(request: Request) -> Response:
        return Response(_complete(registry).bodies.engines(_grant(request).models), media_type=JSON)

    return router


def service_routes(readiness: Readiness, metrics: Metrics) -> APIRouter:
    """What the cluster asks."""
    router = APIRouter(tags=["service"])

    @router.get("/healthz", summary="Whether the process is alive")
    async def healthz() -> Response:
        return Response("ok\n", media_type=TEXT)

    @router.get("/readyz", summary="Whether requests should come here")
    async def readyz() -> Response:
        against = readiness.reason_against()
        return Response(f"{against or 'ok'}\n", 503 if against else 200, media_type=TEXT)

    @router.get("/metrics", summary="Prometheus metrics")
    async def exposition() -> Response:
        return StreamingResponse(metrics.exposition(), headers={"content-type": CONTENT_TYPE})

    return router


def _grant(request: Request) -> Grant:
    exchange: Exchange = request.scope[EXCHANGE]
    return exchange.grant


def _complete(registry: Registry) -> Registry:
    """A registry that knows all: before that, a name that is missing may only be late."""
    if not registry.complete:
        raise NotReadyError("The gateway has not read the cluster yet.")
    return registry

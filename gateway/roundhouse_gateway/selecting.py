"""`GET /v1/select`: which model `auto` would take for a request of such needs, and why each other not."""

from collections.abc import Iterable
from dataclasses import asdict
from itertools import islice
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from fastapi import APIRouter, Query, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from roundhouse_api.enums import Feature, Interface, Stage
from roundhouse_api.keys import Grant
from roundhouse_api.selection import (
    TASKS,
    MismatchReason,
    Needs,
    Verdict,
    explain,
)
from roundhouse_gateway.choice import refusal_of_auto
from roundhouse_gateway.errors import NotReadyError
from roundhouse_gateway.exchange import EXCHANGE, Exchange
from roundhouse_gateway.hints import MAX_CLASS, MAX_CLASSES, TIERS, Hints
from roundhouse_gateway.registry import Registry
from roundhouse_gateway.sleepers import Wish, sleeper
from roundhouse_gateway.snapshot import ALL_MODELS, Snapshot
from roundhouse_gateway.transcription_request import AUTO, MAX_LANGUAGE, read_language

PATH: Final = "/v1/select"
MOST: Final = 1000
"""Verdicts in one answer."""
USUAL: Final = 100
W = TypeVar("W", str, list[str])
_STAGES: Final = {stage.lower(): stage for stage in Stage}
_FEATURES: Final = {feature.lower(): feature for feature in Feature}


def _known(words: Iterable[str]) -> AfterValidator:
    """Of a word, or of each in a list: in small letters, and one of those that there are."""
    known = list(words)

    def check(given: W) -> W:
        if isinstance(given, list):
            return [check(each) for each in given]
        if given.lower() not in known:
            raise ValueError(f"use one of {', '.join(known)}")
        return given.lower()

    return AfterValidator(check)


class Asked(BaseModel):
    """What a request would need; every field is a parameter of the query, and there is no other."""

    model_config = ConfigDict(extra="forbid")

    stage: Annotated[str, _known(_STAGES)] = Field(default="transcribe", description="What is to be done.")
    interface: Literal["batch", "realtime"] = Field(default="batch", description="A file, or a session.")
    language: str | None = Field(
        default=None, max_length=MAX_LANGUAGE, description="The language of the input, where it is known."
    )
    streaming: bool = Field(default=False, description="Only models that can stream.")
    word_timestamps: bool = Field(default=False, description="Only models that tell the times of words.")
    feature: Annotated[list[str], _known(_FEATURES)] = Field(
        default=[], max_length=len(_FEATURES), description="Only models with this feature; may be repeated."
    )
    tier: Annotated[str, _known(TIERS)] | None = Field(default=None, description="What is preferred.")
    task: Annotated[str, _known(TASKS)] | None = Field(
        default=None, description="What it is for: stands for a tier and classes that are preferred."
    )
    classes: list[Annotated[str, Field(max_length=MAX_CLASS)]] = Field(
        default=[],
        alias="class",
        max_length=MAX_CLASSES,
        description="A class of models that is preferred; may be repeated.",
    )
    limit: int = Field(default=USUAL, ge=1, le=MOST, description="How many verdicts to show.")

    @property
    def needs(self) -> Needs:
        hints = Hints(TIERS.get(self.tier or ""), TASKS.get(self.task or ""), frozenset(self.classes))
        needs = Needs(
            stage=_STAGES[self.stage],
            interface=Interface(self.interface.capitalize()),
            language=read_language(self.language),
            streaming=self.streaming,
            word_timestamps=self.word_timestamps,
            features=frozenset(_FEATURES[word] for word in self.feature),
        )
        return hints.over(needs)


def select_routes(registry: Registry) -> APIRouter:
    router = APIRouter(tags=["models"])

    @router.get(PATH, summary="What `auto` would choose, and why not another")
    async def select(request: Request, asked: Annotated[Asked, Query()]) -> Response:
        if not registry.complete:
            raise NotReadyError("The gateway has not read the cluster yet.")
        exchange: Exchange = request.scope[EXCHANGE]
        told = explained(registry.snapshot, asked.needs, exchange.grant, asked.limit)
        return Response(msgspec.json.encode(told), media_type="application/json")

    return router


def explained(snapshot: Snapshot, needs: Needs, grant: Grant, limit: int) -> dict[str, Any]:
    """`model` answers now; where none does `wakes` is who would be waited for, and `message` the refusal."""
    allows = None if grant.models == ALL_MODELS else grant.allows_model
    verdicts = list(islice(explain(snapshot.catalogue, needs, allows), limit))
    chosen = verdicts[0].model.id if verdicts and verdicts[0].chosen else None
    asleep = None if chosen else sleeper(snapshot, Wish(AUTO, needs, grant.allows_model))
    return {
        "model": chosen,
        "wakes": asleep.model.id if asleep else None,
        "message": None if chosen else refusal_of_auto(snapshot, needs, grant).message,
        "needs": _needs(needs),
        "candidates": [_verdict(verdict) for verdict in verdicts],
        "total": len(snapshot.allowed(grant.models)),
    }


def _needs(needs: Needs) -> dict[str, Any]:
    return asdict(needs) | {
        "stage": needs.stage.lower(),
        "interface": needs.interface.lower(),
        "tier": needs.tier and needs.tier.lower(),
        "features": sorted(feature.lower() for feature in needs.features),
        "classes": sorted(needs.classes),
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    model, found = verdict.model, verdict.mismatch
    fits = "chosen" if verdict.chosen else "fits"
    seconds = model.seconds_per_audio_second
    return {
        "id": model.id,
        "verdict": "passed_over" if found else fits,
        "reason": found and _REASONS[found.reason],
        "message": found and f"Model '{model.id}' {found.message}.",
        "status": model.status,
        "tier": model.speed_tier and model.speed_tier.lower(),
        "priority": model.priority,
        "seconds_per_audio_second": None if seconds == float("inf") else seconds,
    }


_REASONS: Final = {reason: reason.name.lower() for reason in MismatchReason}

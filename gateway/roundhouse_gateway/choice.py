"""Which model answers a request: `auto` by what it needs, a name by what it stands for, else which error."""

from collections.abc import Sequence
from itertools import islice
from typing import Final, NoReturn

from roundhouse_api.enums import FallbackTrigger, Stage
from roundhouse_api.keys import Grant
from roundhouse_api.selection import (
    MismatchReason,
    Needs,
    UnknownModelError,
    mismatch,
    nothing_fits,
    ranked,
)
from roundhouse_gateway.errors import (
    GatewayError,
    HopelessRequestError,
    InvalidRequestError,
    NoEngineError,
    StageNotRoutedError,
    UnsupportedValueError,
)
from roundhouse_gateway.fallbacks import stand_ins
from roundhouse_gateway.key_errors import ModelNotAllowedError, NoneAllowedError
from roundhouse_gateway.metrics import UNKNOWN_MODEL, Metrics
from roundhouse_gateway.not_running import not_running, stands_still, would_fit
from roundhouse_gateway.snapshot import ALL_MODELS, Entry, Snapshot
from roundhouse_gateway.transcription_request import AUTO
from roundhouse_gateway.unknown import unknown
from roundhouse_gateway.upstream_errors import UpstreamAccessError

REMEMBERED: Final = 1024
"""Kinds of requests, for one snapshot: languages come from clients, so it is bounded."""
MOST: Final = 16
"""Models for one request: when so many have failed, the fault is not theirs."""
UNROUTED_STAGES = frozenset({Stage.ALIGN, Stage.DIARIZE, Stage.SPEAK})
PARAM_AT_FAULT = {
    MismatchReason.STAGE: "model",
    MismatchReason.INTERFACE: "model",
    MismatchReason.LANGUAGE: "language",
    MismatchReason.STREAMING: "streaming",
    MismatchReason.WORD_TIMESTAMPS: "timestamp_granularities",
    MismatchReason.FEATURE: "model",
}


class Search:
    """One request's, for a model. That it found none counts once, however often it is repeated."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._is_counted = False

    def unresolved(self, reason: str) -> None:
        if not self._is_counted:
            self._is_counted = True
            self._metrics.resolution_errors(reason).inc()


def choose(snapshot: Snapshot, name: str, needs: Needs, search: Search, grant: Grant) -> Sequence[Entry]:
    """The running entries to send the request to, the first first: for `auto` the best that fit.

    For a name its model, and those behind it that its variant names as fallbacks: never another. None that
    the `grant` excludes is chosen.
    """
    if name == AUTO:
        return _best(snapshot, needs, grant) or _refuse_auto(snapshot, needs, search, grant)
    entry = entry_named(snapshot, name, needs, search, grant)
    instead = stand_ins(snapshot, entry, needs, grant.allows_model)
    if entry.model.running:
        return [entry, *(each.entry for each in instead)]
    found = [each.entry for each in instead if FallbackTrigger.UNAVAILABLE in each.when]
    return found or _refuse(entry, search, grant)


def entry_named(snapshot: Snapshot, name: str, needs: Needs, search: Search, grant: Grant) -> Entry:
    """The model of that name, running or not. Raises where it may not be asked, or cannot do this."""
    try:
        entry = snapshot.resolve(name)
    except UnknownModelError as error:
        search.unresolved("unknown")
        raise unknown(snapshot, error, needs, grant) from error
    if not grant.allows_model(entry.model.id):
        search.unresolved("not_allowed")
        raise ModelNotAllowedError(name)
    try:
        if entry.model.stage is not None:
            check_fit(entry, needs)
    except InvalidRequestError:
        search.unresolved("unfit")
        raise
    return entry


def model_named(snapshot: Snapshot, name: str, grant: Grant) -> str:
    """The id of the model that a request names, running or not.

    `unknown` for `auto`, and where it may not be used: of models of others nothing is told.
    """
    try:
        model = UNKNOWN_MODEL if name == AUTO else snapshot.resolve(name).model.id
    except UnknownModelError:
        return UNKNOWN_MODEL
    return model if grant.allows_model(model) else UNKNOWN_MODEL


def _refuse(entry: Entry, search: Search, grant: Grant) -> NoReturn:
    """For a model that does not run and that none stands in for."""
    search.unresolved("not_running")
    if entry.access.trouble:
        raise UpstreamAccessError(entry.model.id)
    raise not_running(entry, grant)


def _best(snapshot: Snapshot, needs: Needs, grant: Grant) -> Sequence[Entry]:
    """The best of the running models that fit and that the key may use; the same for all requests alike."""
    asked = needs, grant.models
    found = snapshot.remembered.get(asked)
    if found is None:
        allows = None if grant.models == ALL_MODELS else grant.allows_model
        models = islice(ranked(snapshot.catalogue, needs, allows), MOST)
        found = tuple(snapshot.entries[model.id] for model in models)
        if len(snapshot.remembered) < REMEMBERED:
            snapshot.remembered[asked] = found
    return found


def _refuse_auto(snapshot: Snapshot, needs: Needs, search: Search, grant: Grant) -> NoReturn:
    error = refusal_of_auto(snapshot, needs, grant)
    search.unresolved("not_allowed" if error.status == 403 else "nothing_fits")
    raise error


def refusal_of_auto(snapshot: Snapshot, needs: Needs, grant: Grant) -> GatewayError:
    """What is told where nothing that the key may use fits and runs. Of other models it tells nothing."""
    if next(ranked(snapshot.catalogue, needs), None) is not None:
        return NoneAllowedError(needs.in_words())
    allows = None if grant.models == ALL_MODELS else snapshot.allowed(grant.models).__contains__
    error = nothing_fits(snapshot.catalogue, needs, allows)
    if error.hopeless:
        return HopelessRequestError(f"{error}{_nobody_offers(needs)}")
    fitting = (model.id for model in snapshot.catalogue.all.fitting(needs) if not model.running)
    asleep = [snapshot.entries[each] for each in islice(filter(allows, fitting), MOST)]
    if not asleep or error.of_one_language:  # which is helped by another request, and not by a start
        return NoEngineError(str(error))
    refusal = NoEngineError(f"{error}{would_fit(asleep[0], grant)}")
    if stands_still(asleep):
        refusal.retry_after, refusal.retry_is_useless = None, True
    return refusal


def _nobody_offers(needs: Needs) -> str:
    """A sentence where features are asked for: who reads it may not know of these."""
    if not needs.features:
        return ""
    asked = "".join(f"&feature={feature.lower()}" for feature in sorted(needs.features))
    return (
        ". No model here could, running or not: "
        f"`GET /v1/select?stage={needs.stage.lower()}{asked}` says why not of each."
    )


def check_fit(entry: Entry, needs: Needs) -> None:
    """A model asked for by name must be able to do what the request wants of it."""
    stage = entry.model.stage
    if stage in UNROUTED_STAGES:
        raise StageNotRoutedError(entry.model.id, stage.lower())
    found = mismatch(entry.model, needs)
    if found is not None:
        raise UnsupportedValueError(
            f"Engine '{entry.model.id}' {found.message}.", param=PARAM_AT_FAULT[found.reason]
        )

"""Which model answers a request: `auto` by what it needs, a name by what it stands for, else which error."""

from collections.abc import Sequence

from roundhouse_api.enums import Stage
from roundhouse_api.keys import Grant
from roundhouse_api.selection import (
    MismatchReason,
    Needs,
    NothingFitsError,
    UnknownModelError,
    candidates,
    mismatch,
)
from roundhouse_gateway.errors import (
    EngineNotSupportedError,
    HopelessRequestError,
    InvalidRequestError,
    NoEngineError,
    NotRunningError,
    StageNotRoutedError,
    UnknownModelRequestError,
    UnsupportedValueError,
)
from roundhouse_gateway.key_errors import ModelNotAllowedError
from roundhouse_gateway.metrics import Metrics
from roundhouse_gateway.snapshot import Entry, Snapshot
from roundhouse_gateway.transcription_request import AUTO

UNROUTED_STAGES = frozenset({Stage.ALIGN, Stage.DIARIZE, Stage.SPEAK})
PARAM_AT_FAULT = {
    MismatchReason.STAGE: "model",
    MismatchReason.INTERFACE: "model",
    MismatchReason.LANGUAGE: "language",
    MismatchReason.STREAMING: "streaming",
    MismatchReason.WORD_TIMESTAMPS: "timestamp_granularities",
}


def choose(snapshot: Snapshot, name: str, needs: Needs, metrics: Metrics, grant: Grant) -> Sequence[Entry]:
    """The running entries to send the request to: one, or for `auto` all that fit, the best first.

    A model that is asked for by name is never substituted, and none that the `grant` excludes is chosen.
    """
    if name == AUTO:
        try:
            fitting = [snapshot.entries[model.id] for model in candidates(snapshot.catalogue, needs)]
        except NothingFitsError as error:
            metrics.resolution_errors("nothing_fits").inc()
            kind = HopelessRequestError if error.hopeless else NoEngineError
            raise kind(str(error)) from error
        allowed = [entry for entry in fitting if grant.allows_model(entry.model.id)]
        if not allowed:
            metrics.resolution_errors("not_allowed").inc()
            raise ModelNotAllowedError(AUTO)
        return allowed
    try:
        entry = snapshot.resolve(name)
    except UnknownModelError as error:
        metrics.resolution_errors("unknown").inc()
        raise UnknownModelRequestError(name, str(error)) from error
    if not grant.allows_model(entry.model.id):
        metrics.resolution_errors("not_allowed").inc()
        raise ModelNotAllowedError(entry.model.id)
    try:
        if entry.model.stage is not None:
            check_fit(entry, needs)
    except InvalidRequestError:
        metrics.resolution_errors("unfit").inc()
        raise
    if entry.needs_upstream_key:
        raise EngineNotSupportedError(
            f"Engine '{entry.model.id}' is an upstream with an API key (`apiKeySecretRef`), "
            "which this version does not support yet."
        )
    if not entry.model.running:
        metrics.resolution_errors("not_running").inc()
        raise NotRunningError(entry.model.id)
    return [entry]


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

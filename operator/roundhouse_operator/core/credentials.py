"""Whether the Secret and the ConfigMap that an engine's upstream needs are there, and meant for that.

Only their metadata is known here. Without the label an author of engines could have the gateway post any
Secret of the namespace to an address of their choice. What is in them the gateway reads, and says where it is
of no use.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from roundhouse_api.conditions import ConditionStatus, ConditionType, Reason
from roundhouse_api.names import LABEL_CREDENTIAL
from roundhouse_operator.core.diagnose import Trouble
from roundhouse_operator.core.observed import Engine, Invalid
from roundhouse_operator.core.weights.asked import Answer, Ask, AskedKind

UPSTREAM: Final = "upstream"
_REFUSALS: Final = frozenset(
    {
        Reason.SECRET_NOT_FOUND,
        Reason.SECRET_UNREADABLE,
        Reason.SECRET_NOT_LABELLED,
        Reason.CONFIG_MAP_NOT_FOUND,
    }
)
REVISIT_SECONDS: Final = 15.0
"""Between looks at what nobody watches."""


def asked_of(engine: Engine) -> tuple[Ask, ...]:
    """What to look at."""
    upstream = None if isinstance(engine.spec, Invalid) else engine.spec.upstream
    if upstream is None:
        return ()
    named = (
        (AskedKind.SECRET, upstream.api_key_secret_ref),
        (AskedKind.CONFIG_MAP, upstream.ca_config_map_ref),
    )
    return tuple(Ask(kind, ref.name) for kind, ref in named if ref)


def told_by(engine: Engine) -> Trouble | None:
    """What the engine's own pass has found out, for its variants: of its status, because that outlasts us."""
    said = engine.condition(ConditionType.ACCEPTED) or {}
    if (
        not asked_of(engine)
        or said.get("status") != ConditionStatus.FALSE
        or said.get("reason") not in _REFUSALS
        or said.get("observedGeneration") != engine.generation
    ):
        return None
    return Trouble(Reason(said["reason"]), said["message"])


def foremost(credential: Trouble | None, found: Trouble | None) -> Trouble | None:
    """What is wrong with the Engine itself comes before what it lacks."""
    return found or credential


def refuse_credentials(answers: Mapping[Ask, Answer], asks: Iterable[Ask]) -> Trouble | None:
    """The first thing that is wrong with what was asked for."""
    return next((trouble for ask in asks if (trouble := _refuse(ask, answers[ask]))), None)


def _refuse(ask: Ask, answer: Answer) -> Trouble | None:
    if ask.kind is AskedKind.CONFIG_MAP:
        where = f"spec.upstream.caConfigMapRef: ConfigMap {ask.name!r}"
        absent = Trouble(Reason.CONFIG_MAP_NOT_FOUND, f"{where} does not exist in this namespace")
        return None if answer.found else absent
    where = f"spec.upstream.apiKeySecretRef: Secret {ask.name!r}"
    if answer.refused:
        return Trouble(Reason.SECRET_UNREADABLE, f"{where} may not be looked at: {answer.refused}")
    if not answer.found:
        return Trouble(Reason.SECRET_NOT_FOUND, f"{where} does not exist in this namespace")
    label = answer.labels.get(LABEL_CREDENTIAL)
    if label != UPSTREAM:
        said = f"has the label {LABEL_CREDENTIAL}={label}" if label else f"lacks the label {LABEL_CREDENTIAL}"
        return Trouble(Reason.SECRET_NOT_LABELLED, f"{where} {said}: it must be {UPSTREAM!r}")
    return None

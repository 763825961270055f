"""Whether the Secret that an engine's upstream needs is there, and meant for that.

Only its metadata is known here: an author of engines could otherwise have the gateway post any Secret of the
namespace to an address of their choice. Whether the key in it is right, the upstream says.
"""

from __future__ import annotations

from typing import Final

from roundhouse_api.conditions import ConditionStatus, ConditionType, Reason
from roundhouse_api.names import LABEL_CREDENTIAL
from roundhouse_operator.core.diagnose import Trouble
from roundhouse_operator.core.observed import Engine, Invalid
from roundhouse_operator.core.weights.asked import Answer, Ask, AskedKind

UPSTREAM: Final = "upstream"
_REFUSALS: Final = frozenset({Reason.SECRET_NOT_FOUND, Reason.SECRET_NOT_LABELLED})
REVISIT_SECONDS: Final = 15.0
"""Between looks at a Secret that nobody watches."""


def asked_of(engine: Engine) -> Ask | None:
    """The Secret to look at, if there is one."""
    upstream = None if isinstance(engine.spec, Invalid) else engine.spec.upstream
    ref = upstream.api_key_secret_ref if upstream else None
    return Ask(AskedKind.SECRET, ref.name) if ref else None


def told_by(engine: Engine) -> Trouble | None:
    """What the engine's own pass has found out, for its variants: of its status, because that outlasts us."""
    said = engine.condition(ConditionType.ACCEPTED) or {}
    if (
        asked_of(engine) is None
        or said.get("status") != ConditionStatus.FALSE
        or said.get("reason") not in _REFUSALS
        or said.get("observedGeneration") != engine.generation
    ):
        return None
    return Trouble(Reason(said["reason"]), said["message"])


def foremost(credential: Trouble | None, found: Trouble | None) -> Trouble | None:
    """What its author can mend comes before what this version lacks."""
    return credential if credential and (not found or found.reason is Reason.NOT_YET_SUPPORTED) else found


def refuse_credential(ask: Ask, answer: Answer) -> Trouble | None:
    where = f"spec.upstream.apiKeySecretRef: Secret {ask.name!r}"
    if not answer.found:
        return Trouble(Reason.SECRET_NOT_FOUND, f"{where} does not exist in this namespace")
    label = answer.labels.get(LABEL_CREDENTIAL)
    if label != UPSTREAM:
        said = f"has the label {LABEL_CREDENTIAL}={label}" if label else f"lacks the label {LABEL_CREDENTIAL}"
        return Trouble(Reason.SECRET_NOT_LABELLED, f"{where} {said}: it must be {UPSTREAM!r}")
    return None

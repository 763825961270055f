"""What live probes of its variants have shown of an engine's claims."""

from __future__ import annotations

from roundhouse_api.conditions import Reason
from roundhouse_api.model import Manifest
from roundhouse_operator.core.observed import Engine, Invalid
from roundhouse_operator.core.status.conditions import Finding, false, true, unknown
from roundhouse_operator.core.verification.probes import claims


def probed_status(engine: Engine, verified: frozenset[str], unproven: frozenset[str]) -> Manifest:
    """`status.verification` of an Engine; empty while no variant of it was probed."""
    shown, missing = _split(engine, verified, unproven)
    told = {"verifiedFeatures": shown, "unprovenFeatures": missing}
    return {name: value for name, value in told.items() if value}


def find_probed(engine: Engine, verified: frozenset[str], unproven: frozenset[str]) -> Finding:
    shown, missing = _split(engine, verified, unproven)
    if missing:
        return false(Reason.FEATURE_UNPROVEN, f"Claimed, and shown by no variant: {', '.join(missing)}")
    if shown:
        return true(Reason.VERIFIED, f"Shown by its variants: {', '.join(shown)}")
    return unknown(Reason.NOT_REQUESTED, "No variant of it has tests that show what it claims")


def _split(engine: Engine, verified: frozenset[str], unproven: frozenset[str]) -> tuple[list[str], list[str]]:
    """Claims of the engine itself: a variant may claim more or less."""
    claimed = () if isinstance(engine.spec, Invalid) else claims(engine.spec.capabilities)
    shown = [one for one in claimed if one in verified]
    return shown, [one for one in claimed if one in unproven and one not in verified]

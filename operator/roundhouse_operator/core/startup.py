"""The time that a start has: what the probe of a container is made of, and what its end is judged by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from roundhouse_api.v1alpha1 import Probes

STARTUP_SECONDS: Final = 600
STARTUP_PERIOD: Final = 2


@dataclass(frozen=True, slots=True)
class Startup:
    """How long a container may take from its start until it is ready, and how often it is asked meanwhile.

    The first question comes within a period, so the last may fail up to a period before the time is over.
    """

    seconds: int = STARTUP_SECONDS
    period: int = STARTUP_PERIOD


def startup_of(probes: Probes | None) -> Startup:
    seconds = (probes and probes.startup_timeout_seconds) or STARTUP_SECONDS
    return Startup(seconds, min((probes and probes.period_seconds) or STARTUP_PERIOD, seconds))

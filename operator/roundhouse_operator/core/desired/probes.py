"""Probes of the engine's container, by the manners of its image.

A start may take as long as loading a model takes; only when it is over are readiness and liveness asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Final

from roundhouse_api.model import Manifest
from roundhouse_api.v1alpha1 import Dialect, EngineSpec, Probes
from roundhouse_operator.core.startup import startup_of

READINESS_PERIOD: Final = 5
LIVENESS_PERIOD: Final = 10
ANSWER_SECONDS: Final = 5


@dataclass(frozen=True, slots=True)
class _Paths:
    """No path: an open port is all that can be asked."""

    ready: str | None
    live: str | None


_PATHS: Final[dict[Dialect, _Paths]] = {
    Dialect.ROUNDHOUSE: _Paths("/health/ready", "/health/live"),
    Dialect.OPENAI: _Paths("/v1/models", None),
    Dialect.VLLM: _Paths("/health", "/health"),
    Dialect.TEI: _Paths("/health", "/health"),
    Dialect.LLAMA_CPP: _Paths("/health", None),  # 503 while it loads: fit for readiness alone
    Dialect.SPEACHES: _Paths("/health", "/health"),
}


def build_probes(engine: EngineSpec) -> Manifest:
    probes, paths, startup = engine.probes or Probes(), _PATHS[engine.api.dialect], startup_of(engine.probes)
    ready = probes.readiness_path or paths.ready
    live = probes.liveness_path or paths.live
    return {
        "startupProbe": _probe(ready, startup.period, ceil(startup.seconds / startup.period)),
        "readinessProbe": _probe(ready, probes.period_seconds or READINESS_PERIOD, 2),
        "livenessProbe": _probe(live, probes.period_seconds or LIVENESS_PERIOD, 3),
    }


def _probe(path: str | None, period: int, failures: int) -> Manifest:
    return {
        **({"httpGet": {"path": path, "port": "http"}} if path else {"tcpSocket": {"port": "http"}}),
        "periodSeconds": period,
        "timeoutSeconds": ANSWER_SECONDS,
        "failureThreshold": failures,
    }

"""What stands before all routes, from the outside in: addresses, traces, origins, keys.

Each is there only where something is set for it; without any of it requests meet the routes at once.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import ASGIApp

from roundhouse_gateway.app import Layer
from roundhouse_gateway.cors import Cors
from roundhouse_gateway.proxies import Proxied
from roundhouse_gateway.settings import Settings
from roundhouse_gateway.traces import Traced, Tracer


def front(settings: Settings, guard: Layer | None, tracer: Tracer | None) -> Layer:
    """All of it around an application."""

    def around(app: ASGIApp) -> ASGIApp:
        app = guard(app) if guard else app
        if settings.cors_origins:
            app = Cors(app, frozenset(settings.cors_origins))
        app = Traced(app, tracer)
        return Proxied(app, settings.trusted_proxies) if settings.trusted_proxies else app

    return around


@contextmanager
def tracing(endpoint: str) -> Iterator[Tracer | None]:
    """What exports spans to the endpoint during the block; None where there is none. Raises ImportError."""
    if not endpoint:
        yield None
        return
    try:
        from roundhouse_gateway.otlp import OtlpTracer  # noqa: PLC0415 - the library is an extra, for some
    except ImportError as error:
        raise ImportError(
            f"OTLP_ENDPOINT is {endpoint!r}, and OpenTelemetry is not here: install `roundhouse[traces]`"
        ) from error
    tracer = OtlpTracer(endpoint)
    try:
        yield tracer
    finally:
        tracer.close()

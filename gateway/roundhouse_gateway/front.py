"""What stands before all routes, from the outside in: addresses, traces, origins, keys.

Each is there only where something is set for it; without any of it it is but looked at which page asks.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from starlette.types import ASGIApp, Receive

from roundhouse_gateway.app import Layer
from roundhouse_gateway.cors import Cors, NoStrangers, Pages
from roundhouse_gateway.proxies import Proxied
from roundhouse_gateway.settings import Settings
from roundhouse_gateway.traces import Traced, Tracer
from roundhouse_gateway.upload import Upload


def uploads(settings: Settings) -> Callable[[Receive], Upload]:
    """The bodies of requests that are refused before they have met a route."""

    def make_upload(receive: Receive) -> Upload:
        limit, idle = settings.body_limit_bytes, settings.client_idle_seconds
        return Upload(
            receive, limit_bytes=limit, idle_seconds=idle, least_rate=settings.upload_bytes_per_second
        )

    return make_upload


def front(settings: Settings, guard: Layer | None, tracer: Tracer | None) -> Layer:
    """All of it around an application."""
    pages = Pages(frozenset(settings.cors_origins), keys_asked=guard is not None)

    def around(app: ASGIApp) -> ASGIApp:
        app = guard(app) if guard else NoStrangers(app, pages, uploads(settings))
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

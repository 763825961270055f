"""Spans of requests, exported by OTLP over HTTP. Imported only where an endpoint is set: see `traces`."""

from collections.abc import Mapping
from http import HTTPStatus
from importlib.metadata import version

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from roundhouse_api.realtime import Close
from roundhouse_gateway.exchange import Exchange

_PATH = "/v1/traces"
_PROPAGATOR = TraceContextTextMapPropagator()
_CLOSE_CODES = 1000
_FAULTS = frozenset({Close.FAILED, Close.LAG, Close.NOTHING_RUNS})


class OtlpSpan:
    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def onwards(self) -> Mapping[str, str]:
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier, trace.set_span_in_context(self._span))
        return carrier

    def end(self, exchange: Exchange) -> None:
        """Names follow OpenTelemetry's conventions for HTTP; no key but its id, and no content, is told."""
        span = self._span
        span.update_name(f"{exchange.method} {exchange.route}")
        span.set_attributes(
            {
                "http.request.method": exchange.method,
                "http.route": exchange.route,
                **_ended(exchange.status),
                "client.address": exchange.client,
                "roundhouse.request_id": exchange.request_id,
                "roundhouse.model": exchange.model,
                "roundhouse.key_id": exchange.key_id,
            }
        )
        if exchange.status in _FAULTS or 500 <= exchange.status < _CLOSE_CODES:
            span.set_status(Status(StatusCode.ERROR, exchange.note))
        span.end()


def _ended(status: int) -> Mapping[str, int]:
    """A session's status is its close code, behind the handshake's."""
    if status < _CLOSE_CODES:
        return {"http.response.status_code": status}
    return {"http.response.status_code": HTTPStatus.SWITCHING_PROTOCOLS, "roundhouse.close_code": status}


class OtlpTracer:
    """To the collector at `endpoint`, `http://host:4318` or the whole URL of its traces."""

    def __init__(self, endpoint: str) -> None:
        url = endpoint if endpoint.endswith(_PATH) else endpoint.rstrip("/") + _PATH
        about = {SERVICE_NAME: "roundhouse-gateway", SERVICE_VERSION: version("roundhouse")}
        # What the environment says of the resource goes before.
        resource = Resource(about).merge(Resource.create())
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=url)))
        self._tracer = self._provider.get_tracer("roundhouse_gateway")

    def begin(self, exchange: Exchange, sent: Mapping[str, str]) -> OtlpSpan:
        parent = _PROPAGATOR.extract(dict(sent))
        return OtlpSpan(self._tracer.start_span(exchange.method, context=parent, kind=SpanKind.SERVER))

    def close(self) -> None:
        self._provider.shutdown()

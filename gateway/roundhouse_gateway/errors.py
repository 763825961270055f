"""What a client may be told instead of an answer, and its one shape on the wire.

The body is OpenAI's envelope with all four keys, plus `detail` for older clients: the message, or, where a
`model` was wrong, an object of type, message and param.
"""

from collections.abc import Callable
from typing import Any

import msgspec
from typing_extensions import override

RETRY_AFTER_SECONDS = 5

CLOSE = (b"connection", b"close")

Headers = list[tuple[bytes, bytes]]
Detail = dict[str, str | None] | str


class GatewayError(Exception):
    """An answer that is an error. Subclasses fix status, type and code; `param` names the field at fault."""

    status: int = 500
    type: str = "server_error"
    code: str | None = None
    retry_after: int | None = None
    retry_is_useless: bool = False

    def __init__(self, message: str, *, param: str | None = None, detail: Detail | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self._detail = detail

    @property
    def detail(self) -> Detail:
        """For older clients."""
        return self.message if self._detail is None else self._detail

    def body(self) -> bytes:
        return envelope(self.message, self.type, self.param, self.code, self.detail)

    def headers(self) -> Headers:
        found: Headers = [(b"content-type", b"application/json")]
        if self.retry_after is not None:
            found.append((b"retry-after", str(self.retry_after).encode()))
        if self.retry_is_useless:
            found.append((b"x-should-retry", b"false"))
        return found


def envelope(
    message: str, kind: str, param: str | None = None, code: str | None = None, detail: Detail | None = None
) -> bytes:
    error: dict[str, Any] = {"message": message, "type": kind, "param": param, "code": code}
    return msgspec.json.encode({"error": error, "detail": message if detail is None else detail})


def error_of(body: bytes) -> dict[str, str | None]:
    """The `error` within an envelope."""
    return msgspec.json.decode(body, type=dict[str, Any])["error"]  # type: ignore[no-any-return]


class InvalidRequestError(GatewayError):
    status = 400
    type = "invalid_request_error"
    code = "invalid_value"


class UnsupportedValueError(InvalidRequestError):
    code = "unsupported_value"


class StageNotRoutedError(InvalidRequestError):
    """The model does something that is listed and has no route of its own."""

    code = "stage_not_routed"

    def __init__(self, model_id: str, stage: str) -> None:
        super().__init__(
            f"Engine '{model_id}' serves stage '{stage}', which has no route (StageNotRouted): an engine "
            "that transcribes does it in the same call.",
            param="model",
        )


class MissingFieldError(InvalidRequestError):
    code = "missing_required_parameter"


class MalformedUploadError(InvalidRequestError):
    code = "malformed_upload"


class UnknownModelRequestError(InvalidRequestError):
    """The `model` of a request to an audio route is nobody's name."""

    code = "model_not_found"

    def __init__(self, name: str, there_are: str, explain: Callable[[], str]) -> None:
        super().__init__(f"Engine '{name}' not found. {there_are}", param="model")
        self._explain = explain

    @property
    @override
    def detail(self) -> Detail:
        """Lists more of the ids there are, and is made where somebody reads it."""
        return {"type": self.type, "message": self._explain(), "param": "model"}


class ModelNotFoundError(GatewayError):
    """`GET /v1/models/{id}` of an id that is nobody's name."""

    status = 404
    type = "invalid_request_error"
    code = "model_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"Model not found: {name}", param="model")


class RouteNotFoundError(GatewayError):
    status = 404
    type = "invalid_request_error"
    code = "unknown_url"


class MethodNotAllowedError(GatewayError):
    status = 405
    type = "invalid_request_error"
    code = "method_not_allowed"

    def __init__(self, where: str, allowed: str) -> None:
        """`allowed` as routes have it; `HEAD` is `GET` without its body, wherever that is."""
        methods = allowed.split(", ")
        if "GET" in methods and "HEAD" not in methods:
            allowed = f"{allowed}, HEAD"
        super().__init__(f"{where} is not allowed; allowed are: {allowed}.")
        self._allowed = allowed

    @override
    def headers(self) -> Headers:
        return [*super().headers(), (b"allow", self._allowed.encode())]


class UploadTimeoutError(GatewayError):
    status = 408
    type = "invalid_request_error"
    code = "upload_timeout"
    retry_is_useless = True


class UploadTooLargeError(GatewayError):
    status = 413
    type = "invalid_request_error"
    code = "upload_too_large"


class NotMultipartError(GatewayError):
    status = 415
    type = "invalid_request_error"
    code = "unsupported_media_type"


class InternalError(GatewayError):
    """A fault of the gateway itself. The log tells of it, under the request's id; the message does not."""

    code = "internal_error"
    retry_is_useless = True

    def __init__(self, request_id: str) -> None:
        super().__init__(f"The gateway failed on this request; its log has the reason under {request_id}.")


class NotRunningError(GatewayError):
    status = 503
    type = "service_unavailable"
    code = "model_not_running"
    retry_after: int | None = RETRY_AFTER_SECONDS

    def __init__(self, model_id: str, because: str = "") -> None:
        super().__init__(f"Engine '{model_id}' is not currently running{because}")


class NoEngineError(GatewayError):
    status = 503
    type = "service_unavailable"
    code = "no_engine_available"
    retry_after: int | None = RETRY_AFTER_SECONDS


class HopelessRequestError(NoEngineError):
    """No model of the catalogue could serve it, running or not: waiting does not help."""

    retry_after = None
    retry_is_useless = True


class NotReadyError(GatewayError):
    """The gateway does not know the cluster yet, has no room left, or is about to leave."""

    status = 503
    type = "service_unavailable"
    code = "gateway_not_ready"
    retry_after = RETRY_AFTER_SECONDS


class EngineUnreachableError(GatewayError):
    """No endpoint took the connection. Nothing was sent, so trying again is cheap."""

    status = 503
    type = "service_unavailable"
    code = "engine_unreachable"
    retry_after = 1


class EngineNotSupportedError(GatewayError):
    status = 503
    type = "service_unavailable"
    code = "engine_not_supported"
    retry_is_useless = True


class EngineFailedError(GatewayError):
    """The engine broke off, or answered something that is no answer."""

    status = 502
    type = "upstream_error"
    code = "engine_failed"
    retry_is_useless = True


class EngineTimeoutError(GatewayError):
    status = 504
    type = "upstream_error"
    code = "engine_timeout"
    retry_is_useless = True


class LoopDetectedError(GatewayError):
    """The request has come through Roundhouse so often that it must be going in circles."""

    status = 508
    type = "upstream_error"
    code = "loop_detected"
    retry_is_useless = True

    def __init__(self, model: str | None, hops: int) -> None:
        asked = f"Model '{model}'" if model else "The model asked for"
        super().__init__(
            f"{asked}: the request has passed through Roundhouse {hops} times, so an upstream leads back "
            "here. Correct the `upstream.baseURL` of its Engine.",
            param="model",
        )


class EngineAnsweredError(GatewayError):
    """The engine's own error, in the one shape."""

    def __init__(self, status: int, headers: Headers, body: bytes) -> None:
        super().__init__(f"The engine answered {status}.")
        self.status = status
        self._headers = headers
        self._body = body

    @override
    def body(self) -> bytes:
        return self._body

    @override
    def headers(self) -> Headers:
        return [*super().headers(), *self._headers]


class ClientGoneError(Exception):
    """The client left; nobody is there to be told anything."""


class BrokenAnswerError(Exception):
    """The answer had begun and cannot be completed: the connection is cut, so that the client notices."""

"""What a client is told whose connection brings no request that could be looked at, or has no place here."""

from roundhouse_gateway.errors import GatewayError, InvalidRequestError


class NotHttpError(InvalidRequestError):
    """What came is no request; the connection ends with this."""

    code = "malformed_request"

    def __init__(self, problem: str) -> None:
        super().__init__(f"The request is not HTTP/1.1 as it should be: {problem}.")


class ExpectationError(GatewayError):
    status = 417
    type = "invalid_request_error"
    code = "expectation_failed"

    def __init__(self, expected: str) -> None:
        super().__init__(
            f"The request expects {expected[:200]!r}, and all that is met here is '100-continue'."
        )


class HeadTooLargeError(GatewayError):
    status = 431
    type = "invalid_request_error"
    code = "headers_too_large"

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"The request's line and headers are longer than {limit_bytes} bytes.")


class HeadTimeoutError(GatewayError):
    status = 408
    type = "invalid_request_error"
    code = "headers_timeout"

    def __init__(self, seconds: float) -> None:
        super().__init__(f"The request's headers have not come within {seconds:g} seconds.")


class FullError(GatewayError):
    status = 503
    type = "service_unavailable"
    code = "too_many_connections"
    retry_after = 1

    def __init__(self, connections: int) -> None:
        super().__init__(f"This gateway has the {connections} connections that it takes at most.")

"""What a client is told whose body, pace or origin goes beyond what the gateway takes from anybody."""

from roundhouse_gateway.errors import RETRY_AFTER_SECONDS, GatewayError, InvalidRequestError, NotReadyError


class JsonTooDeepError(InvalidRequestError):
    code = "json_too_deep"
    retry_is_useless = True

    def __init__(self, limit: int) -> None:
        super().__init__(f"The JSON is nested deeper than this gateway's limit of {limit} levels.")


class NotUtf8Error(InvalidRequestError):
    code = "malformed_json"
    retry_is_useless = True

    def __init__(self, at: int) -> None:
        super().__init__(f"The body is not a JSON object: byte {at} is not UTF-8.")


class BodyTooLargeError(GatewayError):
    status = 413
    type = "invalid_request_error"
    code = "body_too_large"
    retry_is_useless = True

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"The JSON is larger than this gateway's limit of {limit_bytes} bytes.")


class NoRoomError(NotReadyError):
    """The bodies that are being answered fill what there is for them; others leave soon."""

    code = "no_room"
    retry_after = 1

    def __init__(self) -> None:
        super().__init__("The gateway holds as many request bodies as it has room for; try again.")


class UploadTooSlowError(GatewayError):
    status = 408
    type = "invalid_request_error"
    code = "upload_too_slow"
    retry_is_useless = True

    def __init__(self, least: int) -> None:
        super().__init__(f"The body comes slower than {least} bytes a second; send it faster.")


class LimitsUnavailableError(GatewayError):
    """The key has limits, nothing tells how much of them is used, and the gateway is set to refuse then."""

    status = 503
    type = "service_unavailable"
    code = "limits_unavailable"
    retry_after = RETRY_AFTER_SECONDS

    def __init__(self) -> None:
        super().__init__("The limits of API keys cannot be counted just now; try again.")


class OriginNotAllowedError(GatewayError):
    status = 403
    type = "invalid_request_error"
    code = "origin_not_allowed"
    retry_is_useless = True

    def __init__(self, origin: str) -> None:
        super().__init__(f"Pages of {origin!r} may not ask this gateway; its operator names those that may.")

"""What a client is told whose API key is missing or wrong, or does not go so far."""

from typing import Final

from typing_extensions import override

from roundhouse_gateway.errors import GatewayError, Headers


class AuthenticationError(GatewayError):
    status = 401
    type = "invalid_request_error"
    code = "invalid_api_key"
    retry_is_useless = True

    @override
    def headers(self) -> Headers:
        return [*super().headers(), (b"www-authenticate", b"Bearer")]


class MissingKeyError(AuthenticationError):
    code = "missing_api_key"

    def __init__(self) -> None:
        super().__init__(
            "No API key was sent. Send it as `Authorization: Bearer <key>`, as OpenAI's clients do with "
            "`api_key`, or as `xi-api-key: <key>`."
        )


class MissingSessionKeyError(AuthenticationError):
    """Of a WebSocket: a browser can set no header there."""

    code = "missing_api_key"

    def __init__(self) -> None:
        super().__init__(
            "No API key was sent. Send it as `Authorization: Bearer <key>`; from a browser as subprotocol "
            "`openai-insecure-api-key.<key>` or a token of it as `token` in the query."
        )


class InvalidKeyError(AuthenticationError):
    """One message for all that is wrong with a key but its age, so that nobody learns which ids there are."""

    def __init__(self, text: str, *, expired: bool = False) -> None:
        shown = f"{text[: min(6, len(text) // 4)]}…"
        super().__init__(
            f"The API key {shown} {'has expired' if expired else 'is not valid'}; ask for a new one."
        )


class ScopeError(GatewayError):
    status = 403
    type = "invalid_request_error"
    code = "insufficient_scope"
    retry_is_useless = True

    def __init__(self, scope: str) -> None:
        super().__init__(f"This API key has not the scope '{scope}', which this route needs.")


_LISTED: Final = "`GET /v1/models` lists what it may, if it has the scope 'models'"


class ModelNotAllowedError(GatewayError):
    status = 403
    type = "invalid_request_error"
    code = "model_not_allowed"
    retry_is_useless = True

    def __init__(self, name: str, message: str = "") -> None:
        super().__init__(
            message or f"This API key may not use '{name}'; {_LISTED}.",
            param="model",
        )


class NoneAllowedError(ModelNotAllowedError):
    """Of `auto`, which every key may name: what fits is for other keys."""

    def __init__(self, needs: str) -> None:
        message = f"This API key may use no model for {needs}; {_LISTED}."
        super().__init__("auto", message)


class LimitError(GatewayError):
    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


class RateLimitError(LimitError):
    def __init__(self, per_minute: int, retry_after: int) -> None:
        super().__init__(f"This API key may make {per_minute} requests a minute, and has made them.")
        self.retry_after = retry_after


class ConcurrencyLimitError(LimitError):
    code = "concurrency_limit_exceeded"
    retry_after = 1

    def __init__(self, at_once: int) -> None:
        super().__init__(f"This API key may have {at_once} requests at once, and has them running.")

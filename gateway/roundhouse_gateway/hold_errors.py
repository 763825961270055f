"""What a client is told that waited for a model in vain, or found too many who wait."""

from roundhouse_gateway.errors import RETRY_AFTER_SECONDS, GatewayError


class HeldTooLongError(GatewayError):
    """The request waited for a cold start, for as long as its model lets it."""

    status = 503
    type = "service_unavailable"
    code = "model_start_timeout"
    retry_after = RETRY_AFTER_SECONDS

    def __init__(self, model_id: str, seconds: int) -> None:
        super().__init__(
            f"Engine '{model_id}' is not currently running: it was not ready within {seconds} seconds. "
            "It may be starting still; try again."
        )


class BusyTooLongError(GatewayError):
    """The model runs. The request waited for a place in it, for as long as its model lets it."""

    status = 503
    type = "service_unavailable"
    code = "engine_busy"
    retry_after = RETRY_AFTER_SECONDS

    def __init__(self, model_id: str, seconds: int) -> None:
        super().__init__(
            f"Engine '{model_id}' is running and busy: none of its places came free within {seconds} "
            "seconds; try again."
        )


class HoldFullError(GatewayError):
    """As many requests as may wait for a model, or for a place in it, do so already."""

    status = 429
    type = "rate_limit_error"
    code = "hold_full"
    retry_after = RETRY_AFTER_SECONDS

    def __init__(self, model_id: str) -> None:
        super().__init__(
            f"Engine '{model_id}' cannot take the request now, and too many wait already; try again."
        )

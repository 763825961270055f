"""What went wrong with a request, in the words of a variant's `fallbacks[].when`."""

from typing import Final

from roundhouse_api.enums import FallbackTrigger
from roundhouse_gateway.errors import (
    EngineAnsweredError,
    EngineFailedError,
    EngineTimeoutError,
    EngineUnreachableError,
    GatewayError,
    HeldTooLongError,
    HoldFullError,
    NotRunningError,
)

_BY_KIND: Final = (
    (NotRunningError, FallbackTrigger.UNAVAILABLE),
    (HeldTooLongError, FallbackTrigger.UNAVAILABLE),
    (EngineUnreachableError, FallbackTrigger.UNAVAILABLE),
    (HoldFullError, FallbackTrigger.RATE_LIMITED),
    (EngineTimeoutError, FallbackTrigger.TIMEOUT),
    (EngineFailedError, FallbackTrigger.ERROR),
)
_BY_STATUS: Final = {
    429: FallbackTrigger.RATE_LIMITED,
    503: FallbackTrigger.UNAVAILABLE,
    504: FallbackTrigger.TIMEOUT,
}


def trigger_of(error: GatewayError) -> FallbackTrigger | None:
    """None where another model would be no help: the request itself is wrong, or its key."""
    if isinstance(error, EngineAnsweredError):
        other = FallbackTrigger.ERROR if error.status >= 500 else None
        return _BY_STATUS.get(error.status, other)
    return next((trigger for kind, trigger in _BY_KIND if isinstance(error, kind)), None)

"""Every way in which a request can fail, and what the client is told: OpenAI's envelope with all four keys.

Raised anywhere, also in a child process; turned into a response in one place, the application.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final


class Refusal(StrEnum):
    """Why the engine takes no work now; the value of the `X-Roundhouse-Reason` header."""

    FULL = "full"
    LOADING = "loading"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class Problem:
    """What went wrong, as plain data that crosses a process boundary."""

    status: int
    type: str
    code: str
    message: str
    param: str | None = None
    reason: Refusal | None = None
    retry_after_seconds: int | None = None

    @property
    def envelope(self) -> dict[str, str | None]:
        return {"type": self.type, "message": self.message, "param": self.param, "code": self.code}

    @property
    def headers(self) -> dict[str, str]:
        headers = {}
        if self.reason is not None:
            headers["X-Roundhouse-Reason"] = self.reason.value
        if self.retry_after_seconds is not None:
            headers["Retry-After"] = str(self.retry_after_seconds)
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return headers

    def to_wire(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> "Problem":
        reason = wire["reason"]
        return cls(**{**wire, "reason": Refusal(reason) if reason else None})


class EngineError(Exception):
    """A request that ends with `problem`; raised through the functions below, also by handlers."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def invalid(
    message: str, *, param: str | None = None, code: str = "invalid_value", status: int = 400
) -> EngineError:
    """The client sent something that cannot be served, and sending it again will not help."""
    return EngineError(Problem(status, "invalid_request_error", code, message, param))


def refused(reason: Refusal) -> EngineError:
    """No work is taken now; the body was not read."""
    match reason:
        case Refusal.FULL:
            message = "Every slot of this engine is in use. Try again shortly, or add replicas."
            return EngineError(Problem(429, "rate_limit_error", "engine_full", message, None, reason, 1))
        case Refusal.LOADING:
            message = "The engine is still loading its model. Try again in a few seconds."
            return EngineError(
                Problem(503, "service_unavailable", "engine_loading", message, None, reason, 5)
            )
        case Refusal.DRAINING:
            message = (
                "The engine, or this model in it, takes no more work. Try again: another replica will answer."
            )
            return EngineError(
                Problem(503, "service_unavailable", "engine_draining", message, None, reason, 1)
            )


def failed(message: str, *, code: str = "engine_failure", status: int = 500) -> EngineError:
    """The engine's own fault."""
    return EngineError(Problem(status, "server_error", code, message))


def unforeseen(error: BaseException) -> EngineError:
    """What nobody has words for, outside of a handler; its traceback belongs into the log."""
    return failed(f"The engine failed ({type(error).__name__}); its log says more.")


def model_failed(model: str, error: str, *, again: bool) -> EngineError:
    """It is in the list, and cannot be served; `again`: it is tried again to load it."""
    tried = "could not be loaded, which is tried again" if again else "cannot be served by this engine"
    message = f"The model {model!r} {tried}: {error}"
    return EngineError(
        Problem(503, "service_unavailable", "model_failed", message, "model", Refusal.LOADING, 5)
    )


def memory_full(model: str) -> EngineError:
    """All memory is held by models that are in use, or as many as may wait for this one do."""
    message = (
        f"The model {model!r} is not loaded, and models that are in use hold the memory for it. Try again "
        "shortly, or give the engine more memory (ROUNDHOUSE_MEMORY_BUDGET_BYTES) or fewer models."
    )
    return EngineError(
        Problem(503, "service_unavailable", "engine_memory_full", message, "model", Refusal.LOADING, 5)
    )


def shelf_full(thing: str) -> EngineError:
    """As `memory_full`, for what is used beside a model."""
    message = (
        f"There is no memory for {thing}: what is in use holds it. Try again shortly, or give the engine "
        "more memory (ROUNDHOUSE_MEMORY_BUDGET_BYTES)."
    )
    return EngineError(
        Problem(503, "service_unavailable", "engine_memory_full", message, retry_after_seconds=5)
    )


def schema_waiting(seconds: float) -> EngineError:
    """Others are being read, and its turn has not come; it may be read a moment later."""
    message = (
        f"The schemas of other requests are being read, and the turn of this one's has not come within "
        f"{seconds:g} s. Try again shortly."
    )
    return EngineError(Problem(503, "service_unavailable", "schema_waiting", message, retry_after_seconds=5))


def shelf_too_small(
    thing: str, needed_bytes: int, model: str, model_bytes: int, budget_bytes: int
) -> EngineError:
    """The budget never holds it beside the model that the request uses: to try again does not help."""
    message = (
        f"There is never memory for {thing} beside the model {model!r}: they take {needed_bytes} and "
        f"{model_bytes} bytes, and ROUNDHOUSE_MEMORY_BUDGET_BYTES is {budget_bytes}. Raise it, or use a "
        "smaller model."
    )
    return EngineError(Problem(503, "service_unavailable", "engine_memory_too_small", message))


def too_slow() -> EngineError:
    """An upload that makes room for others."""
    message = (
        "The upload is slow, and too many others are as well. Send it again, compressed (flac, mp3, ogg)."
    )
    return invalid(message, param="file", code="upload_too_slow", status=408)


def no_memory_left() -> EngineError:
    """For one request, which may fit when fewer are computed."""
    return EngineError(
        Problem(
            503,
            "service_unavailable",
            "out_of_memory",
            "The engine has no memory left for this request. Try again when it is less busy, or give the "
            "engine more memory or less ROUNDHOUSE_CAPACITY.",
            retry_after_seconds=5,
        )
    )


def memory_is_short(error: BaseException) -> bool:
    """Torch has an exception of its own, which cannot be imported where torch is not; others have words.

    An `EngineError` that says so already counts, too.
    """
    if isinstance(error, EngineError):
        return error.problem.code == "out_of_memory"
    named = any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__)
    return named or isinstance(error, MemoryError) or any(each in str(error) for each in _MEMORY_IS_SHORT)


_MEMORY_IS_SHORT: Final = (
    "can't allocate memory",  # torch, on a processor
    "out of memory",  # CUDA, by torch and by CTranslate2
    "CUBLAS_STATUS_ALLOC_FAILED",
    "failed to allocate memory",  # what CTranslate2 computes with on a processor
)


def device_is_lost(error: BaseException) -> bool:
    """Whether CUDA will fail in this process from now on, whatever is asked of it; also as the error's cause.

    Only by words that a library begins with: what a client has sent may stand in others.
    """
    cause: BaseException | None = error
    seen: set[int] = set()  # an error can be raised from itself, and causes can stand in a circle
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        told = str(cause) if isinstance(cause, RuntimeError) else ""
        if told.startswith("CUDA") and any(each in told for each in _DEVICE_IS_LOST):
            return True
        cause = cause.__cause__
    return False


_DEVICE_IS_LOST: Final = (
    "an illegal memory access was encountered",
    "an illegal instruction was encountered",
    "device-side assert triggered",
    "hardware stack error",
    "invalid program counter",
    "misaligned address",
    "operation not supported on global/shared address space",
    "the launch timed out and was terminated",
    "uncorrectable ECC error encountered",
    "uncorrectable NVLink error detected",
    "unspecified launch failure",
)
"""As CUDA itself words what ends a process's context; torch and CTranslate2 pass the words on."""

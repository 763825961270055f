"""Divides the library's work into steps, so that a request whose client left computes no further one."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Final, ParamSpec, TypeVar

from faster_whisper import WhisperModel

from roundhouse_engine import Cancellation
from roundhouse_engine.errors import EngineError, Problem

_STEPS: Final = frozenset({"encode", "detect_language", "generate", "align"})

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Steps:
    """CTranslate2's Whisper as the library uses it, for one request; each call that computes is a step."""

    def __init__(self, whisper: object, cancellation: Cancellation) -> None:
        self._whisper = whisper
        self._cancellation = cancellation

    def __getattr__(self, name: str) -> object:
        found = getattr(self._whisper, name)
        return partial(self._step, found) if name in _STEPS else found

    def _step(
        self, step: Callable[Arguments, Result], *args: Arguments.args, **options: Arguments.kwargs
    ) -> Result:
        self._cancellation.check()
        try:
            return step(*args, **options)
        except (RuntimeError, MemoryError) as error:
            if isinstance(error, MemoryError) or "out of memory" in str(error):
                raise _out_of_memory() from error
            raise


def in_steps(model: WhisperModel, cancellation: Cancellation) -> WhisperModel:
    """The same model, with the same weights, for one request."""
    mine = copy.copy(model)
    mine.model = Steps(model.model, cancellation)
    return mine


def _out_of_memory() -> EngineError:
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

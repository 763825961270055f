"""Between the thread in which the library generates and the one that tells what it wrote."""

import queue
import threading
from typing import Any

import torch

from roundhouse_engine import Cancellation, Cancelled
from roundhouse_engine.errors import EngineError, failed, memory_is_short, no_memory_left


class Telling:
    """Of one answer. The first tokens that come are the prompt."""

    def __init__(self, cancellation: Cancellation) -> None:
        self._cancellation = cancellation
        self._said: queue.SimpleQueue[int | BaseException | None] = queue.SimpleQueue()
        self._left = threading.Event()
        self._prompted = False
        self._thread: threading.Thread | None = None

    def begin(self, generate: Any, *arguments: Any) -> None:  # noqa: ANN401 - called as it is given
        def run() -> None:
            try:
                generate(*arguments, self)
            except BaseException as error:  # noqa: BLE001 - raised again by `next`; a panic is no Exception
                self._said.put(error)
            self._said.put(None)

        self._thread = threading.Thread(target=run, daemon=True, name="generate")
        self._thread.start()

    def put(self, tokens: Any) -> None:  # noqa: ANN401 - a tensor, of the library's streamers
        if self._prompted:
            self._said.put(int(tokens.reshape(-1)[-1]))
        self._prompted = True

    def should_end(self, tokens: Any, scores: Any, **_: Any) -> Any:  # noqa: ANN401, ARG002 - the library's
        return torch.full((tokens.shape[0],), self._over, dtype=torch.bool, device=tokens.device)

    @property
    def _over(self) -> bool:
        return self._left.is_set() or self._cancellation.cancelled

    def check(self) -> None:
        """Raises `Cancelled` where nobody listens any more."""
        if self._over:
            raise Cancelled

    def next(self) -> int | None:
        """The next token; None after the last. Raises `EngineError`, or what the library did."""
        said = self._said.get()
        if isinstance(said, BaseException):
            problem = _problem(said)
            raise problem from (None if problem is said else said)
        return said

    def end(self) -> None:
        """What the library tells its streamers after the last token; the thread's end says it here."""

    def leave(self) -> None:
        """Returns when nothing computes any more."""
        self._left.set()
        if self._thread is not None:
            self._thread.join()


def _problem(error: BaseException) -> Exception:
    if isinstance(error, EngineError):
        return error
    if memory_is_short(error):
        return no_memory_left()
    return error if isinstance(error, Exception) else failed(f"What computes has failed: {error}")

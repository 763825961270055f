"""llama.cpp is told to stop within the token in which its client has left."""

import contextlib
from typing import Any

from roundhouse_engine import Cancellation, Cancelled
from roundhouse_llama_cpp.chat import _written


def test_who_leaves_gets_no_further_token() -> None:
    cancellation, said = Cancellation(), 0

    def endless(_request: Any, hear: Any) -> None:
        """As the library does: it says what it wrote, and asks by the same call whether to go on."""
        nonlocal said
        while not hear({"choices": [{"text": f" {said}"}]}):
            said += 1
            if said == 3:
                cancellation.cancel()

    with contextlib.suppress(Cancelled):  # where the last word is long in coming
        for _ in _written(endless, {}, "prompt", cancellation):
            pass
    assert said == 3

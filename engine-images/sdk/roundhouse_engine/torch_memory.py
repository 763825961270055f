"""What a model of torch's holds of a GPU, where other models of the same process are on it.

For handlers that bring torch; nothing of the SDK itself imports this.
"""

import threading
from itertools import chain
from typing import Final

import torch


class Highest:
    """The highest point of the process's memory, which is all that torch knows, forgotten at each look."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._before = 0

    def beyond(self) -> int:
        """How far it was above what was there at the last look, and above what is there now.

        What came meanwhile is there now, and what went was there before: so neither counts.
        """
        with self._lock:
            highest, now = int(torch.cuda.max_memory_allocated()), int(torch.cuda.memory_allocated())
            beyond = max(highest - max(now, self._before), 0)
            torch.cuda.reset_peak_memory_stats()
            self._before = now
            return beyond


HIGHEST: Final = Highest()


def vram_bytes(model: torch.nn.Module, device: str) -> int | None:
    """Its weights, and what computing took beyond what stays; None where `device` is no GPU.

    What others computed at the same time counts as well, but not what they hold.
    """
    if device != "cuda":
        return None
    storages = (part.untyped_storage() for part in chain(model.parameters(), model.buffers()))
    held = {int(each.data_ptr()): int(each.nbytes()) for each in storages}
    return sum(held.values()) + HIGHEST.beyond()

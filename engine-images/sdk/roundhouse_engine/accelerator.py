"""Whether the accelerator of this process still computes: once CUDA has lost it, only a new process helps.

Each further call fails then, whatever it is of, so an engine of threads is neither live nor ready, and takes
no more requests: its pod is started again.
"""

import logging
import threading
from typing import Final

from roundhouse_engine.errors import device_is_lost

logger = logging.getLogger(__name__)


class Accelerator:
    """Of one process."""

    def __init__(self) -> None:
        self._lost = threading.Event()

    @property
    def lost(self) -> bool:
        return self._lost.is_set()

    def note(self, error: BaseException) -> None:
        """Something failed of this; looks whether that was the last of the accelerator. From any thread."""
        if not self.lost and device_is_lost(error):
            self._lost.set()
            logger.critical("the accelerator is lost: only a new process helps", extra={"why": str(error)})


ACCELERATOR: Final = Accelerator()

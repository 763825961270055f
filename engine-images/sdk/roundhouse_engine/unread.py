"""A client whose machine takes nothing of what is sent to it for two minutes is cut off.

Its answer would stay in memory, and whoever sends would wait, for as long as its connection lives: for ever.
Slow ones may take as long as they like.
"""

import asyncio
import fcntl
import logging
import struct
import termios
from typing import Final

from typing_extensions import override

logger = logging.getLogger(__name__)

UNREAD_SECONDS: Final = 120.0
"""A client's kernel that is full takes more once a sixteenth of it was read, which 4 kB/s do in time."""


class Unread(asyncio.Protocol):
    """What a protocol of uvicorn's is to be besides; stands before it among its bases."""

    transport: asyncio.Transport
    _looking: asyncio.TimerHandle | None = None

    @override
    def pause_writing(self) -> None:
        super().pause_writing()
        self._look_again()

    @override
    def resume_writing(self) -> None:
        self.stop_looking()
        super().resume_writing()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.stop_looking()
        super().connection_lost(exc)

    def stop_looking(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None

    def _look_again(self) -> None:
        self.stop_looking()
        self._looking = asyncio.get_running_loop().call_later(UNREAD_SECONDS, self._look, self._left_bytes())

    def _look(self, before_bytes: int) -> None:
        left_bytes = self._left_bytes()
        if left_bytes < before_bytes:
            self._look_again()
        else:
            logger.warning("client reads nothing, and is cut off", extra={"unread_bytes": left_bytes})
            self.transport.abort()

    def _left_bytes(self) -> int:
        """What the client's machine has not taken; this one's kernel, too, holds megabytes of it."""
        descriptor = self.transport.get_extra_info("socket").fileno()
        (kernels,) = struct.unpack("i", fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)))
        return self.transport.get_write_buffer_size() + int(kernels)

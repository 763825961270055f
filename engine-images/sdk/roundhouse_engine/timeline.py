"""Where the pieces of a recording stand: what no piece was sent for is silence, and has its time, too.

Microphones that are muted send nothing, packets are lost, and a video's sound may begin after its picture.
Who strings the samples together tells all later words too early.
"""

from typing import Final

import av
import av.container

# Containers round the times of their packets, and a sound card's clock is not theirs.
_GAP_SECONDS: Final = 0.1

# Where a clock may jump, as in broadcasts and in recordings that were put together, this is no silence.
_JUMP_SECONDS: Final = 10.0
_CLOCK_MAY_JUMP: Final = 0x0200
"""FFmpeg's AVFMT_TS_DISCONT, in a format's flags."""

# Bare streams of frames: what is told of their times is a guess from their size.
ESTIMATED: Final = frozenset({"aac", "ac3", "amr", "dts", "eac3", "mp2", "mp3", "mpeg", "mpegts"})
_TIMELESS: Final = ESTIMATED - {"mpeg", "mpegts"}


class Timeline:
    """Takes the pieces of a container's sound in their order; `end` is where the last one ends, in seconds.

    It counts from where the container begins, with whatever that begins.
    """

    def __init__(self, container: av.container.InputContainer) -> None:
        self._begin = _seconds(container.start_time)
        self._timeless = container.format.name in _TIMELESS
        self._jumps = bool(container.format.flags & _CLOCK_MAY_JUMP)
        self.end = 0.0

    def place(self, time: float | None, seconds: float) -> float:
        """The silence before a piece that is so long and begins at `time`, by the container's clock."""
        gap = 0.0 if time is None or self._timeless else self._gap(time)
        self.end += gap + seconds
        return gap

    def _gap(self, time: float) -> float:
        if self._begin is None:
            self._begin = time
        gap = time - self._begin - self.end
        if gap < -_GAP_SECONDS or (self._jumps and gap > _JUMP_SECONDS):
            self._begin = time - self.end  # another recording follows, whose clock begins anew
            return 0.0
        return gap if gap > _GAP_SECONDS else 0.0


def _seconds(ticks: int | None) -> float | None:
    return None if ticks is None else ticks / av.time_base

"""An answer of Whisper's to segments, by the time stamps that it wrote. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spoken:
    """A segment: seconds from the beginning of what was listened to, and the tokens of its text."""

    start: float
    end: float
    tokens: tuple[int, ...]


def divide(
    tokens: Sequence[int], seconds: float, time_of: Callable[[int], float | None], *, whole: bool
) -> tuple[list[Spoken], float | None]:
    """The segments of so many seconds, and where the model broke off: None where it came to the end.

    `time_of` tells of a token the time that it stands for, and None of text. The model breaks off where it
    writes a second time and no text after it, or, where the answer is not `whole`, at the last time that it
    wrote. A segment without a time at its end lasts to the end of all. It never breaks off where it began.
    """
    found: list[Spoken] = []
    said: list[int] = []
    start = 0.0
    times = [time_of(token) for token in tokens]
    for token, time in zip(tokens, times, strict=True):
        if time is None:
            said.append(token)
            continue
        at = max(min(time, seconds), start)
        if said:
            found.append(Spoken(start, at, tuple(said)))
        said, start = [], at
    if found and start > 0 and not whole:
        return found, start
    if said:
        found.append(Spoken(start, max(seconds, start), tuple(said)))
    twice = len(times) > 2 and times[-1] is not None and times[-2] is not None
    return found, times[-1] if twice and times[-1] else None

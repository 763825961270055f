"""What a model says outside of its calls: up to a stop sequence, with the blanks that are the text's own."""

from collections.abc import Sequence

from roundhouse_engine.writing import StopSequences


class Prose:
    """Of one answer."""

    def __init__(self, ignored: Sequence[str], stop: Sequence[str]) -> None:
        """`ignored`: marks that say nothing. `stop`: sequences, heard in all that stands between calls."""
        self._ignored = ignored
        self._ears = StopSequences(stop)
        self._told = ""
        self._blanks = ""
        """What follows the text so far: the text's if it goes on, and nobody's where only calls come."""
        self._begun, self._parted = False, False
        """Whether there is any text so far, and whether a call has begun after it."""

    @property
    def stopped(self) -> bool:
        """Whether it came to a stop sequence: nothing after that is said."""
        return self._ears.heard

    def say(self, text: str) -> None:
        for mark in self._ignored:
            text = text.replace(mark, "")
        self._add(self._ears.feed(text))

    def part(self) -> None:
        """A call begins here."""
        self._add(self._ears.rest())
        self._parted = True

    def end(self) -> None:
        """Nothing more is said."""
        self._add(self._ears.rest())
        self._told += "" if self._parted else self._blanks
        self._blanks = ""

    def take(self) -> str:
        """What can be told by now, once."""
        told, self._told = self._told, ""
        return told

    def _add(self, text: str) -> None:
        """Blanks around calls stay where there is text on both sides, whose words are never one."""
        said = text.rstrip()
        if not said:
            self._blanks += text
            return
        said, self._blanks = self._blanks + said, text[len(said) :]
        if self._parted and not self._begun:
            said = said.lstrip()
        elif self._parted and not said[0].isspace():
            said = f"\n{said}"
        self._begun, self._parted = True, False
        self._told += said


def started(text: str, mark: str) -> int:
    """Letters at the text's end that may begin the mark."""
    longest = min(len(mark) - 1, len(text))
    return next((size for size in range(longest, 0, -1) if text.endswith(mark[:size])), 0)

"""Holds calls to the schemas of their tools where a model may call or speak: from a call's opening mark on.

Before that the model writes what it likes, and nothing is computed for it. A token in which a mark ends and
something follows that begins no call is passed over, because all that stands after the mark is held.
"""

from collections.abc import Mapping
from typing import Any

import torch

from roundhouse_transformers.families import BETWEEN, Family
from roundhouse_transformers.grammar import Held


class HeldCalls:
    """Of one answer. It reads the same text as `Calls`, and finds the same calls in it."""

    over = False
    """An answer of calls and texts may always go on."""

    def __init__(self, call: Held, family: Family, marks: Mapping[int, str]) -> None:
        """`call`: what follows the opening mark, or all of a call where the family has none."""
        self._call, self._family, self._marks = call, family, marks
        self._held: Held | None = None
        self._text = b""
        """What may become an opening mark, or is nothing yet."""
        self._bare = not family.opening
        """Whether a brace begins a call here."""

    def allowed(self, device: Any) -> Any:  # noqa: ANN401 - torch has no types here
        """[words], true where the token may come next; None: any that `fits`."""
        return None if self._held is None else self._held.allowed(device)

    def fits(self, token: int) -> bool:
        """Whether it may come next, where it is allowed."""
        if self._held is not None:
            return True
        begun = self._begun(self._text + self._spelt(token))
        return begun is None or self._call.after(begun) is not None

    def should_end(self, tokens: Any, scores: Any, **told: Any) -> Any:  # noqa: ANN401 - the library's
        """Takes the token that the library has just written."""
        if self._held is not None:
            self._held.should_end(tokens, scores, **told)
        else:
            self._read(self._text + self._spelt(int(tokens[0, -1])))
        if self._held is not None and self._held.over:
            self._held, self._text = None, b""
            self._bare = self._family.listed or not self._family.opening
        return torch.zeros((tokens.shape[0],), dtype=torch.bool, device=tokens.device)

    def _read(self, text: bytes) -> None:
        begun = self._begun(text)
        if begun is not None:
            self._held = self._call.after(begun)
            return
        rest = self._rest(text)
        self._bare = self._bare and any(mark.startswith(rest) for mark in ("", *self._family.ignored))
        if self._bare:  # of a character that is not all there what is there may still become a blank
            self._text = rest.encode() + text[len(_whole(text).encode()) :]
        else:
            kept = len(self._family.opening) - 1
            self._text = text[-kept:] if kept > 0 else b""

    def _begun(self, text: bytes) -> bytes | None:
        """What of the text belongs to a call after its mark; None where no call has begun."""
        opening = self._family.opening.encode()
        if opening and opening in text:
            return text.partition(opening)[2]
        rest = self._rest(text)
        return rest.encode() if self._bare and rest.startswith("{") else None

    def _rest(self, text: bytes) -> str:
        """Without what may stand before a bare call."""
        blanks = BETWEEN + "}" + ("]" if self._family.listed else "")
        return self._family.unmarked(_whole(text).lstrip().lstrip(blanks))

    def _spelt(self, token: int) -> bytes:
        mark = self._marks.get(token)
        return self._call.spelt(token) if mark is None else mark.encode()


def _whole(text: bytes) -> str:
    """The characters that are all there."""
    return text.decode(errors="ignore")

"""Tokens to text, as they come: a character that several make is told with its last."""

from collections.abc import Iterable
from typing import Any

from tokenizers.decoders import DecodeStream


class Spelling:
    """Of one answer, which goes on from the tokens `before`.

    Decoders leave out the blank that a text's first word has before it, so what it goes on from counts.
    """

    def __init__(self, backend: Any, before: Iterable[int] = ()) -> None:  # noqa: ANN401 - tokenizers' own
        self._backend = backend
        self._stream = DecodeStream(skip_special_tokens=True)
        self._held: list[int] = []
        """Those of which nothing was told yet."""
        for token in before:
            self.add(token)

    def add(self, token: int) -> str:
        """What is certain now; empty within a character, and of tokens that mark something."""
        self._held.append(token)
        try:
            text = self._stream.step(self._backend, token)
        except Exception:  # noqa: BLE001 - the library has no kind of its own for it
            # Vocabularies with tokens of single bytes (Llama 2, Mistral, Gemma) read a run of them as one:
            # of one that is no character none is, and what was told of its beginning does not hold any more.
            text = self._backend.decode(self._held)
            self._stream = DecodeStream(skip_special_tokens=True)
            self._stream.step(self._backend, token)
        if text:
            self._held = []
        return text or ""

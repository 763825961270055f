"""From a conversation or a prompt to what the model writes, told in events. Standard library alone.

Where a text ends at a stop sequence is decided here, so that every handler can stop and none must.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, BinaryIO, Final

from roundhouse_engine.authoring import checked
from roundhouse_engine.handler import Cancellation
from roundhouse_engine.large_json import loads
from roundhouse_engine.text import (
    Chat,
    Conversation,
    Finish,
    FinishReason,
    Piece,
    Prompted,
    TextOptions,
    Writing,
)
from roundhouse_engine.text_events import TextAsk, TextWork

_TOLD_TOGETHER: Final = 8


def write(
    handler: Chat, file: BinaryIO, ask: TextAsk, cancellation: Cancellation
) -> Iterator[Prompted | Piece | Finish]:
    """What the handler writes, up to the first stop sequence; always with a `Finish` that counts tokens."""
    file.seek(0)
    told = loads(file.read())
    options = _options(told["options"])
    if ask.work is TextWork.CHAT:
        writing = handler.chat(_conversation(told), options, cancellation)
    else:
        prompt = told["prompt"]
        writing = handler.complete(
            prompt if isinstance(prompt, str) else tuple(prompt), options, cancellation
        )
    with contextlib.ExitStack() as ended:
        if close := getattr(writing, "close", None):
            ended.callback(close)  # a generator of the handler's learns at once that it is over
        method = "chat" if ask.work is TextWork.CHAT else "complete"
        written = cut(checked(handler, method, writing), options.stop, cancellation)
        yield from gathered(written) if ask.whole else written


def _options(told: dict[str, Any]) -> TextOptions:
    return TextOptions(**{**told, "stop": tuple(told["stop"])})


def _conversation(told: dict[str, Any]) -> Conversation:
    return Conversation(
        tuple(told["messages"]), tuple(told["tools"]), told["tool_choice"], told["parallel_tool_calls"]
    )


def cut(
    writing: Writing, stop: Sequence[str], cancellation: Cancellation
) -> Iterator[Prompted | Piece | Finish]:
    """A piece counts the tokens before it of which nothing was told, too: who leaves takes none along."""
    ears = StopSequences(stop)
    tokens = untold = 0
    finish = Finish()
    for event in writing:
        cancellation.check()
        if isinstance(event, Prompted):
            yield event
        elif isinstance(event, Finish):
            finish = event
            break
        else:
            tokens += event.tokens
            untold += event.tokens
            piece = replace(event, text=ears.feed(event.text), tokens=untold)
            if piece.text or piece.reasoning or piece.tool_calls:
                yield piece
                untold = 0
            if ears.heard:
                yield Finish(FinishReason.STOP, tokens)
                return
    if rest := ears.rest():
        yield Piece(rest, tokens=untold)
    yield replace(finish, tokens=tokens if finish.tokens is None else finish.tokens)


def gathered(written: Iterator[Prompted | Piece | Finish]) -> Iterator[Prompted | Piece | Finish]:
    """Pieces in fewer: each one told takes time from a model that computes on all processors.

    The first is told at once, so that it is known when it came.
    """
    held: list[Piece] = []
    began = False
    try:
        for event in written:
            if isinstance(event, Piece) and began and not event.tool_calls:
                held.append(event)
                if len(held) == _TOLD_TOGETHER:
                    yield _one(held)
                    held.clear()
                continue
            if held:
                yield _one(held)
                held.clear()
            yield event
            began = began or isinstance(event, Piece)
    except Exception:
        if held:  # what is written counts also where it fails
            yield _one(held)
        raise


def _one(pieces: Sequence[Piece]) -> Piece:
    return Piece(
        "".join(piece.text for piece in pieces),
        sum(piece.tokens for piece in pieces),
        "".join(piece.reasoning for piece in pieces),
    )


class StopSequences:
    """Lets a text through up to the first of the sequences, wherever its pieces are cut."""

    def __init__(self, sequences: Sequence[str]) -> None:
        self._sequences = tuple(filter(None, sequences))
        self._held = ""
        self.heard = False

    def feed(self, text: str) -> str:
        """What can be told by now: what may be the beginning of a sequence is held back."""
        self._held += text
        if self.heard or not self._sequences:
            return self.rest()
        places = [at for each in self._sequences if (at := self._held.find(each)) >= 0]
        if places:
            self.heard = True
            told, self._held = self._held[: min(places)], ""
            return told
        keep = max(self._begun(each) for each in self._sequences)
        told, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return told

    def rest(self) -> str:
        """What was held back, once no more comes."""
        told, self._held = self._held, ""
        return "" if self.heard else told

    def _begun(self, sequence: str) -> int:
        longest = min(len(sequence) - 1, len(self._held))
        return next((size for size in range(longest, 0, -1) if self._held.endswith(sequence[:size])), 0)

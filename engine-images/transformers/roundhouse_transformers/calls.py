"""Reads the calls of tools out of what a model writes, while it writes: the rest is told as text."""

import contextlib
import json
import re
import secrets
import string
from collections.abc import Collection, Generator, Sequence
from dataclasses import replace
from enum import Enum, auto
from typing import Any, Final

from roundhouse_engine import Finish, FinishReason, Piece, Prompted, ToolCall
from roundhouse_transformers.families import BETWEEN, Family
from roundhouse_transformers.prose import Prose, started

_HEAD: Final = re.compile(
    r'\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)'
)
"""A call whose arguments can be told while they come."""
_HEAD_LETTERS: Final = 4096
_NAME: Final = re.compile(r"[\w.-]*")
_LETTERS: Final = string.ascii_letters + string.digits
_ID_LETTERS: Final = 9
"""Mistral's templates take no others."""

Events = Generator[Prompted | Piece | Finish]


def told_calls(
    writing: Events, family: Family, names: Collection[str], *, parallel: bool, stop: Sequence[str] = ()
) -> Events:
    """The same with calls apart from the text; ends after the first call where they are not `parallel`.

    And before a stop sequence, which is looked for here: what is told has not all the blanks around calls.
    """
    calls = Calls(family, names, stop)
    with contextlib.closing(writing):
        for event in writing:
            if isinstance(event, Piece):
                yield replace(calls.feed(event.text), tokens=event.tokens)
                if calls.stopped or (calls.whole and not parallel):
                    yield Finish(calls.reason(FinishReason.STOP))
                    return
            elif isinstance(event, Finish):
                yield replace(calls.rest(), tokens=0)
                yield replace(event, reason=calls.reason(event.reason))
            else:
                yield event


class _State(Enum):
    START = auto()
    TEXT = auto()
    OPEN = auto()
    HEAD = auto()
    ARGUMENTS = auto()
    AFTER = auto()


class Calls:
    """Of one answer. What begins like a call and is none stays text."""

    def __init__(self, family: Family, names: Collection[str], stop: Sequence[str] = ()) -> None:
        self._family, self._names = family, frozenset(names)
        self._prose = Prose(family.ignored, stop)
        self._state = _State.TEXT if family.opening else _State.START
        self._held = ""
        self._json, self._seen = _Json(), 0
        self._before: list[str] = []
        """Of a call whose arguments cannot be told yet: what was read of it, `_seen` letters."""
        self._fresh, self._opening = False, ""
        self._told: list[ToolCall] = []
        self.count = 0
        """Calls that have begun."""
        self.whole = 0
        """Calls that have ended."""

    @property
    def stopped(self) -> bool:
        """Whether the text came to a stop sequence: nothing after that is read."""
        return self._prose.stopped

    def reason(self, ended: FinishReason) -> FinishReason:
        """Why the answer ends, where the writing `ended` for that reason."""
        ended = FinishReason.STOP if self.stopped else ended
        return FinishReason.TOOL_CALLS if self.count and ended is FinishReason.STOP else ended

    def feed(self, text: str) -> Piece:
        """What can be told by now."""
        self._held += text
        while text and not self.stopped and self._step():
            pass
        if self.stopped:
            self._prose.end()
        return self._piece()

    def rest(self) -> Piece:
        """What was held back, once no more comes."""
        self._join()
        if self._state in (_State.START, _State.TEXT):
            self._prose.say(self._held)
        elif self._state in (_State.OPEN, _State.HEAD) and self._held.strip(BETWEEN + "[]"):
            self._prose.say(self._opened + self._held)
        self._held = ""
        self._prose.end()
        return self._piece()

    def _piece(self) -> Piece:
        piece = Piece(self._prose.take(), tool_calls=tuple(self._told))
        self._told = []
        return piece

    @property
    def _opened(self) -> str:
        return self._opening if self._fresh else ""

    def _step(self) -> bool:
        """Whether something was read, so that more may be."""
        match self._state:
            case _State.START:
                return self._start()
            case _State.TEXT:
                return self._read_text()
            case _State.OPEN:
                return self._open()
            case _State.HEAD:
                return self._head()
            case _State.ARGUMENTS:
                return self._arguments()
            case _State.AFTER:
                return self._after()

    def _start(self) -> bool:
        begun = self._held.lstrip()
        self._prose.say(self._held[: len(self._held) - len(begun)])
        self._held, begun = begun, self._family.unmarked(begun)
        if any(mark.startswith(begun.rstrip()) for mark in ("", *self._family.ignored)):
            return False
        if begun.startswith("{"):
            self._held = begun
            self._expect()
        else:
            self._state = _State.TEXT
        return True

    def _expect(self) -> None:
        """What is held begins with a brace."""
        self._json, self._seen, self._before, self._state = _Json(), 0, [], _State.HEAD

    def _join(self) -> None:
        self._held = "".join(self._before) + self._held
        self._before.clear()

    def _read_text(self) -> bool:
        opening = self._family.opening
        before, found, after = self._held.partition(opening) if opening else (self._held, "", "")
        if found:
            self._prose.say(before)
            self._held, self._opening, self._fresh, self._state = after, opening, True, _State.OPEN
            return True
        told = len(self._held) - max(started(self._held, mark) for mark in (opening, *self._family.ignored))
        self._prose.say(self._held[:told])
        self._held = self._held[told:]
        return False

    def _open(self) -> bool:
        within = self._held.lstrip(BETWEEN + ("[" if self._family.listed else ""))
        if not within:
            return False
        self._opening += self._held[: len(self._held) - len(within)]
        self._held = within
        if within.startswith("{"):
            self._expect()
            return True
        if self._family.named:
            return self._bare_name(within)
        return self._is_text()

    def _bare_name(self, within: str) -> bool:
        found = _NAME.match(within)
        name = found[0] if found else ""
        rest = within[len(name) :]
        if not rest:
            return not any(each.startswith(name) for each in self._names) and self._is_text()
        if self._family.named.startswith(rest):
            return False
        if name not in self._names or not rest.startswith((self._family.named, "{")):
            return self._is_text()
        self._held = rest.removeprefix(self._family.named)
        self._begin(name)
        return True

    def _head(self) -> bool:
        if self._seen <= _HEAD_LETTERS:
            begun = "".join(self._before) + self._held
            if found := _HEAD.match(begun):
                self._before, self._held = [], begun
                name = _loaded(found[1])
                if name not in self._names:
                    return self._is_text()
                self._held = begun[found.end() :]
                self._begin(str(name))
                return True
        end = self._json.read(self._held)
        if end is None:
            # Pieces, and no text that grows by each: that would cost the square of a long one.
            self._before.append(self._held)
            self._seen += len(self._held)
            self._held = ""
            return False
        end += self._seen
        self._join()
        call = _loaded(self._held[:end])
        arguments = call.get("arguments", call.get("parameters", {})) if isinstance(call, dict) else None
        if not isinstance(call, dict) or call.get("name") not in self._names:
            return self._is_text()
        self._held = self._held[end:]
        self._begin(str(call["name"]))
        told = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        self._end(told)
        return True

    def _begin(self, name: str) -> None:
        self._prose.part()
        made = "".join(secrets.choice(_LETTERS) for _ in range(_ID_LETTERS))
        self._told.append(ToolCall(self.count, "", made, name))
        self.count += 1
        self._json, self._fresh, self._state = _Json(), False, _State.ARGUMENTS

    def _end(self, arguments: str) -> None:
        self._told.append(ToolCall(self.count - 1, arguments))
        self.whole += 1
        self._state = _State.AFTER

    def _arguments(self) -> bool:
        end = self._json.read(self._held)
        if end is None:
            if self._held:
                self._told.append(ToolCall(self.count - 1, self._held))
            self._held = ""
            return False
        told, self._held = self._held[:end], self._held[end:]
        self._end(told)
        return True

    def _after(self) -> bool:
        """What ends a call, and then the next or a text."""
        family = self._family
        rest = family.unmarked(self._held.lstrip(BETWEEN + "}" + ("]" if family.listed else "")))
        if not rest or any(started(rest, mark) == len(rest) for mark in (family.closing, *family.ignored)):
            return False
        passed = self._held[: len(self._held) - len(rest)]
        self._held = rest
        if (family.listed or not family.opening) and rest.startswith("{"):
            self._expect()
            return True
        self._held, self._state = rest.removeprefix(family.closing), _State.TEXT
        if len(self._held) == len(rest):  # nothing closed it, so the blanks are no part of the call
            self._prose.say(passed[len(passed.rstrip()) :])
        return True

    def _is_text(self) -> bool:
        self._prose.say(self._opened)
        self._fresh = False
        self._state = _State.TEXT
        return True


class _Json:
    """Where a JSON value that begins with a bracket ends, in pieces."""

    def __init__(self) -> None:
        self._depth, self._quoted, self._escaped = 0, False, False

    def read(self, text: str) -> int | None:
        """How much of the text still belongs to it; None: all, and more is to come."""
        for at, letter in enumerate(text):
            if self._quoted:
                self._quoted = self._escaped or letter != '"'
                self._escaped = letter == "\\" and not self._escaped
            elif letter == '"':
                self._quoted = True
            elif letter in "{[":
                self._depth += 1
            elif letter in "}]":
                self._depth -= 1
                if self._depth <= 0:
                    return at + 1
        return None


def _loaded(text: str) -> Any:  # noqa: ANN401 - any JSON
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None

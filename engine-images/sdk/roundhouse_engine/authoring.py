"""What an engine's author can get wrong, told in words: of the class before it serves, of an answer at once.

Python lets much of it pass until a request comes, or for ever: a method that is `async`, a list of languages
that is a word, a vector that is a number. Standard library alone.
"""

import inspect
import logging
import math
from collections.abc import Callable, Collection, Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Any, Final

from roundhouse_engine.errors import EngineError, failed
from roundhouse_engine.formats import Segment
from roundhouse_engine.handler import Handler, Isolation
from roundhouse_engine.handlers import in_child
from roundhouse_engine.languages import is_code, language_code
from roundhouse_engine.music import Music
from roundhouse_engine.presentable import plain_text, presentable
from roundhouse_engine.speech import Speech
from roundhouse_engine.text import (
    Chat,
    Embedding,
    Finish,
    FinishReason,
    Piece,
    Prompted,
    Rerank,
    ToolCall,
    Writing,
)

logger = logging.getLogger(__name__)

_KINDS: Final = (Speech, Chat, Embedding, Rerank, Music)
_TOGETHER: Final = frozenset({Embedding, Rerank})
_SDK: Final = __name__.partition(".")[0]
_REASONS: Final = frozenset(map(str, FinishReason))


class HandlerError(Exception):
    """A class that can serve nothing as it is written; the message says what of it to change."""


def check_handler(handler: object) -> None:
    """Raises `HandlerError`. `handler` is what an author gave to `serve`."""
    if isinstance(handler, Handler):
        name = type(handler).__name__
        raise HandlerError(f"serve({name}) takes the class, and was given one of its instances.")
    if not isinstance(handler, type) or not issubclass(handler, _KINDS):
        kinds = ", ".join(kind.__name__ for kind in _KINDS)
        raise HandlerError(f"{handler!r} is no engine: its class has to extend one of {kinds}.")
    extended = [kind for kind in _KINDS if issubclass(handler, kind)]
    if len(extended) > 1 and not _TOGETHER.issuperset(extended):
        both = " and ".join(kind.__name__ for kind in extended)
        raise HandlerError(
            f"{handler.__name__} extends {both}, and an engine is one of them: make two. "
            "Only Embedding and Rerank go together."
        )
    if lacking := sorted(handler.__abstractmethods__):
        missing = ", ".join(lacking)
        raise HandlerError(f"{handler.__name__} lacks what every engine of its kind has: {missing}.")
    try:
        inspect.signature(handler).bind()
    except TypeError as error:
        raise HandlerError(
            f"{handler.__name__} is made without arguments, and its __init__ wants some ({error}): "
            "read in `load` what it needs."
        ) from error
    if handler.isolation == Isolation.PROCESS and "." in handler.__qualname__:
        raise HandlerError(
            f"{handler.__qualname__} must stand at the top level of its module, where its processes look."
        )
    for method, promised, written in _written(handler):
        _check_method(f"{handler.__name__}.{method}", promised, written)
    for attribute, (fits, wanted) in _ATTRIBUTES.items():
        found = getattr(handler, attribute, None)
        if hasattr(handler, attribute) and not isinstance(found, property) and not fits(found):
            raise HandlerError(f"{handler.__name__}.{attribute} must be {wanted}, not {found!r}.")
    _check_languages(handler.__name__, getattr(handler, "languages", None))


def check_process(handler: type[Handler]) -> None:
    """Raises `HandlerError` where a file that is imported for its handler serves it."""
    if in_child():
        name = handler.__name__
        raise HandlerError(
            f"serve({name}) is called wherever its file is imported, as the processes of {name} do: "
            'write `if __name__ == "__main__":` above it.'
        )


def _check_languages(name: str, languages: object) -> None:
    for written in sorted(languages) if isinstance(languages, AbstractSet) else ():
        if not is_code(written):
            known = language_code(written)
            meant = f": write {known!r}" if known else ""
            raise HandlerError(f"{name}.languages has {written!r}, which is no code of ISO 639-1{meant}.")


def _written(handler: type[Handler]) -> Iterator[tuple[str, Any, Any]]:
    """Name, the SDK's own and the author's, of each method of the protocol that the author has written."""
    for kind in handler.__mro__:
        if kind.__module__.partition(".")[0] != _SDK:
            continue
        for name in vars(kind):
            promised, written = getattr(kind, name), getattr(handler, name)
            if not name.startswith("_") and callable(promised) and promised != written:
                yield name, promised, written


def _check_method(where: str, promised: Any, written: Any) -> None:  # noqa: ANN401 - any callable
    if not callable(written):
        raise HandlerError(f"{where} is a method of every engine of its kind, and here it is {written!r}.")
    if inspect.iscoroutinefunction(written) or inspect.isasyncgenfunction(written):
        raise HandlerError(f"{where} is `async`: write `def`, it has a thread or a process of its own.")
    if inspect.signature(promised).return_annotation is None and inspect.isgeneratorfunction(written):
        raise HandlerError(
            f"{where} has a `yield`: Python runs nothing of it when it is called. Take it out."
        )
    by_place: list[str] = []
    by_name: dict[str, None] = {}
    for parameter in inspect.signature(promised).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY:
            by_name[parameter.name] = None
        else:
            by_place.append(parameter.name)
    try:
        inspect.signature(written).bind(*by_place, **by_name)
    except TypeError as error:
        given = ", ".join(inspect.signature(promised).parameters)
        taken = ", ".join(inspect.signature(written).parameters)
        raise HandlerError(f"{where} is called with ({given}) and takes ({taken}): {error}.") from error


def _whole(lowest: int, highest: float = float("inf")) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest


def _words(value: Any) -> bool:  # noqa: ANN401 - whatever an author wrote
    if isinstance(value, str) or not isinstance(value, Collection):
        return False
    return all(isinstance(each, str) for each in value)


def _positive(value: Any) -> bool:  # noqa: ANN401 - as above
    return isinstance(value, int | float) and value > 0


_ATTRIBUTES: Final[dict[str, tuple[Callable[[Any], bool], str]]] = {
    "isolation": (lambda value: isinstance(value, Isolation), "Isolation.THREAD or Isolation.PROCESS"),
    "capacity": (_whole(1), "a whole number from 1 on"),
    "sessions": (_whole(0), "a whole number from 0 on"),
    "cancel_seconds": (_positive, "a number of seconds"),
    "imports": (_words, "a tuple of modules' names, such as ('torch',)"),
    "sample_rate": (_whole(8_000, 192_000), "a rate in Hz from 8000 to 192000"),
    "window_seconds": (_positive, "a number of seconds"),
    "languages": (
        lambda value: value is None or (isinstance(value, AbstractSet) and _words(value)),
        "a set of codes, such as frozenset({'en'}), or None",
    ),
    "batch_items": (_whole(1), "a whole number from 1 on"),
    "batch_tokens": (_whole(1), "a whole number from 1 on"),
    "response_formats": (_words, "a set of 'json_object' and 'json_schema'"),
    "extensions": (_words, "a set of names of fields"),
}


def at_fault(handler: object, method: str, gave: str) -> EngineError:
    """A method gave what its protocol has no place for: told to the log, and to who asked."""
    said = f"The engine's own code is at fault: {type(handler).__name__}.{method} {gave}."
    logger.error(said)
    return failed(said)


def check_vectors(handler: Embedding, vectors: Any, texts: int) -> None:  # noqa: ANN401 - whatever an author gave
    """Raises `EngineError` for anything but a vector for each text, all of one length."""
    wanted = f"where a vector for each of {texts} texts is wanted"
    try:
        lengths = {len(vector) for vector in vectors}
        count = len(vectors)
    except TypeError as error:
        raise at_fault(handler, "embed", f"gave {kind_of(vectors)}, {wanted}") from error
    if count != texts:
        raise at_fault(handler, "embed", f"gave {count} vectors, {wanted}")
    if any(isinstance(vector, str) or getattr(vector, "ndim", 1) != 1 for vector in vectors):
        raise at_fault(handler, "embed", f"gave {kind_of(vectors)}, {wanted}")
    if handler.vector_length is not None:
        lengths.add(handler.vector_length)
    if len(lengths) > 1:
        between = f"{min(lengths)} and {max(lengths)}"
        raise at_fault(handler, "embed", f"gave vectors of different lengths, {between}")
    handler.vector_length = lengths.pop()


def check_scores(handler: Rerank, scores: Any, pairs: int) -> None:  # noqa: ANN401 - as above
    """Raises `EngineError` for anything but a number for each pair."""
    wanted = f"where a number for each of {pairs} pairs is wanted"
    try:
        count = len(scores)
    except TypeError as error:
        raise at_fault(handler, "score", f"gave {kind_of(scores)}, {wanted}") from error
    if count != pairs or isinstance(scores, str) or getattr(scores, "ndim", 1) != 1:
        raise at_fault(handler, "score", f"gave {kind_of(scores)}, {wanted}")


def kind_of(value: Any) -> str:  # noqa: ANN401 - as above
    """In words, with its size where it has one."""
    shape = getattr(value, "shape", None)
    if shape is not None:
        return f"an array of the shape {tuple(shape)}"
    sized = f" of {len(value)}" if isinstance(value, Collection) else ""
    return type(value).__name__ + sized


def part_done(handler: Handler, method: str, part: Any) -> float:  # noqa: ANN401 - as above
    """What a method told `progress`, from 0 to 1; raises `EngineError` at what is no number."""
    try:
        done = math.nan if isinstance(part, str) else float(part)
    except (TypeError, ValueError):
        done = math.nan
    if math.isnan(done):
        raise at_fault(
            handler, method, f"called progress({part!r:.60}), where a number from 0 to 1 is wanted"
        )
    return min(max(done, 0.0), 1.0)


def heard(who: object, method: str, segments: Any, seconds: float) -> Iterator[Segment]:  # noqa: ANN401 - as above
    """What a handler or an utterance of its own found in so many seconds, as every format can say it.

    Raises `EngineError` at what is no segment, or one of wrong fields.
    """
    if isinstance(segments, str) or not isinstance(segments, Iterable):
        gave = type(segments).__name__
        raise at_fault(who, method, f"gave {gave}: yield a Segment for each stretch of speech")
    for segment in segments:
        if not isinstance(segment, Segment):
            raise at_fault(who, method, f"yielded {type(segment).__name__}: wanted are Segments")
        try:
            found = presentable(segment, seconds)
        except (AttributeError, TypeError, ValueError) as error:
            raise at_fault(who, method, f"yielded {segment!r:.200}: {error}") from error
        yield found


def _are_calls(calls: Any) -> bool:  # noqa: ANN401 - as above
    if not isinstance(calls, tuple | list):
        return False
    for call in calls:
        match call:
            case ToolCall(int(), str(), str() | None, str() | None):
                pass
            case _:
                return False
    return True


def _plain(piece: Piece) -> Piece:
    calls = (
        replace(call, arguments=plain_text(call.arguments), name=call.name and plain_text(call.name))
        for call in piece.tool_calls
    )
    text, reasoning = plain_text(piece.text), plain_text(piece.reasoning)
    return replace(piece, text=text, reasoning=reasoning, tool_calls=tuple(calls))


def checked(handler: Chat, method: str, writing: Any) -> Writing:  # noqa: ANN401 - as above
    """What is written, piece by piece; raises `EngineError` at what is no piece."""
    if isinstance(writing, str) or not isinstance(writing, Iterable):
        raise at_fault(handler, method, f"gave {type(writing).__name__}: yield Prompted, Piece and Finish")
    for event in writing:
        match event:
            case Piece(str(), int(tokens), str(), calls) if tokens >= 0 and _are_calls(calls):
                plain = event.text.isascii() and event.reasoning.isascii() and not calls
                yield event if plain else _plain(event)
            case Prompted(tokens=int(tokens), cached=int()) if tokens >= 0:
                yield event
            case Finish(reason=str(reason), tokens=int() | None) if reason in _REASONS:
                yield event
            case Piece() | Prompted() | Finish():
                raise at_fault(handler, method, f"yielded {event!r:.200}")
            case _:
                what = type(event).__name__
                raise at_fault(handler, method, f"yielded {what}: wanted are Prompted, Piece and Finish")

"""Cuts documents to what a model takes beside the query, as Cohere does: what stands first counts.

Tokenizers add tokens of their own to each text, to an empty one as well: these take room, and say nothing.
"""

from collections.abc import Callable
from operator import index as whole

from roundhouse_engine.errors import EngineError, invalid
from roundhouse_engine.text import Batched


def cut_pair(
    handler: Batched, query: str, document: str, most: int | None, count: Callable[[str], int] | None = None
) -> tuple[tuple[str, str], int]:
    """The pair, its document of about `most` tokens at most, and how many tokens both have.

    `count` counts the query's, where the caller knows a quicker way than to have them counted for each pair.
    The tokens that are added are counted for both: pairs have as many, or one less. Raises `EngineError`
    where the query leaves no room for any word of the document.
    """
    count = count or handler.count_tokens
    asked, tokens = whole(count(query)), whole(handler.count_tokens(document))
    limit = handler.limit_tokens()
    room = None if limit is None else limit - asked
    bounds = [each for each in (room, most) if each is not None]
    if all(tokens <= each for each in bounds):
        return (query, document), asked + tokens
    added = count("")
    if limit is not None and asked + added >= limit:
        raise _no_room(asked, limit)
    longest = min(each for each in (room, None if most is None else most + added) if each is not None)
    if tokens > longest:
        document = _cut(handler, document, longest, guess=len(document) * longest // tokens, added=added)
        tokens = whole(handler.count_tokens(document))
    if limit is not None and asked + tokens > limit:
        raise _no_room(asked, limit)
    return (query, document), asked + tokens


def _no_room(asked: int, limit: int) -> EngineError:
    return invalid(
        f"The query is {asked} tokens long, and the model takes {limit} with a document. Shorten it.",
        param="query",
        code="context_length_exceeded",
    )


def _cut(handler: Batched, text: str, most: int, *, guess: int, added: int) -> str:
    """The longest beginning that is found to have at most so many tokens: near the right length at once.

    One character stays in any case, and the last of blanks is followed by what they stand before.
    """
    fits, over, says = 0, len(text), False
    while over - fits > (max(over // 64, 1) if says else 1):
        tokens = handler.count_tokens(text[:guess])
        if tokens <= most:
            fits, says = guess, tokens > added
        else:
            over = guess
        guess = (fits + over) // 2
    return text[: max(fits, 1)]

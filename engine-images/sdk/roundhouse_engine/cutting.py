"""Cuts documents to what a model takes beside the query, as Cohere does: what stands first counts."""

from roundhouse_engine.errors import invalid
from roundhouse_engine.text import Batched


def cut_pair(handler: Batched, query: str, document: str, most: int | None) -> tuple[tuple[str, str], int]:
    """The pair, its document of at most `most` tokens, and how many tokens both have.

    Raises `EngineError` where the query leaves no room.
    """
    asked = handler.count_tokens(query)
    limit = handler.limit_tokens()
    if limit is not None:
        if asked >= limit:
            raise invalid(
                f"The query is {asked} tokens long, and the model takes {limit} with a document. Shorten it.",
                param="query",
                code="context_length_exceeded",
            )
        most = min(limit - asked, most or limit)
    tokens = handler.count_tokens(document)
    if most is not None and tokens > most:
        document = _cut(handler, document, tokens, most)
        tokens = handler.count_tokens(document)
    return (query, document), asked + tokens


def _cut(handler: Batched, text: str, tokens: int, most: int) -> str:
    """The longest beginning that is found to have at most so many tokens: near the right length at once."""
    fits, over = 0, len(text)
    guess = len(text) * most // tokens
    while over - fits > max(over // 64, 1):
        if handler.count_tokens(text[:guess]) <= most:
            fits = guess
        else:
            over = guess
        guess = (fits + over) // 2
    return text[:fits]

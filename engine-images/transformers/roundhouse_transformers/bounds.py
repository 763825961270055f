"""How much of a text is read to learn that it is too long: a tokenizer takes seconds for each megabyte.

Nothing stops one meanwhile, other requests wait for it, and it takes a hundred times the memory of the text.
"""

from typing import Any, Final

from roundhouse_engine.errors import invalid

_CHARACTERS: Final = 16
"""For each token: prose has four or five, or one of a script without an alphabet; few texts have ten."""


def check_length(text: str, limit_tokens: int, param: str | None, what: str = "The prompt is") -> None:
    """Raises `EngineError` for a text that cannot be of so few tokens."""
    most = limit_tokens * _CHARACTERS
    if len(text) > most:
        raise invalid(
            f"{what} {len(text)} characters long; at most {most} are read where the model takes "
            f"{limit_tokens} tokens. Send less.",
            param=param,
            code="context_length_exceeded",
        )


def counted(tokenizer: Any, text: str, limit_tokens: int | None) -> int:  # noqa: ANN401 - has no types
    """How many tokens the text is, with those that are added.

    Of one that cannot be within the limit, which is to be cut: as many as its beginning lets expect.
    """
    begins = text if limit_tokens is None else text[: limit_tokens * _CHARACTERS]
    tokens = len(tokenizer(begins)["input_ids"])
    if limit_tokens is None or len(begins) == len(text):
        return tokens
    return max(tokens * len(text) // len(begins), limit_tokens + 1)

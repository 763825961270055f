"""What is read and written, in the words that the models' tokenizers know."""

from typing import Final


def _text(number: int, words: int) -> str:
    return " ".join(f"w{(7 * number + 3 * place) % 40}" for place in range(words))


LONG: Final = [_text(number, 64) for number in range(8)]
PARAGRAPHS: Final = [_text(number, 32) for number in range(8)]
"""All of them take the libraries a fifth of a second at least."""
SHORT: Final = [_text(number, 5) for number in range(8)]
"""As searches are."""
MANY: Final = [SHORT[number % len(SHORT)] for number in range(2000)]
CALL: Final = MANY[:64]
"""As many of them as an engine gives a model at once."""
QUERY: Final = _text(11, 6)
WRITTEN_TOKENS: Final = 24
CHATS: Final = 8
"""At once."""
MESSAGES: Final = [{"role": "user", "content": "count"}]
PROMPT: Final = "one two three"
MUSIC_SECONDS: Final = 1.0

"""What a Whisper model's tokens mean: read from its tokenizer, with what its generation_config adds.

Fine-tunes are published with an old generation_config, with a bare one, or with none. Their tokenizers know
all that is needed, so nothing else has to be there; `forced_decoder_ids`, by which old configurations force
one language upon every request, are not looked at.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from roundhouse_engine import ModelError
from roundhouse_engine.languages import NAMES, language_code
from roundhouse_transformers.repository import Repository

logger = logging.getLogger(__name__)

TICK_SECONDS: Final = 0.02
"""Between one time stamp and the next."""
_TICKS: Final = 1501
_ENGLISH_ONLY_TOKENS: Final = 51_864
"""How many OpenAI's models for English alone have; all others have more."""
_NO_SPEECH: Final = ("<|nospeech|>", "<|nocaptions|>")
_NEEDED: Final = ("<|endoftext|>", "<|startoftranscript|>", "<|startofprev|>", "<|notimestamps|>")
_TASKS: Final = ("transcribe", "translate")

Head = tuple[int, int]
"""A layer of the decoder, and a head of its attention to the sound."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Ids of tokens. `languages` is empty for a model of English alone."""

    end: int
    begin: int
    previous: int
    untimed: int
    no_speech: int | None
    languages: Mapping[str, int]
    tasks: Mapping[str, int]
    suppressed: tuple[int, ...]
    """What is never said, specials between the text and the time stamps among them."""
    suppressed_first: tuple[int, ...]
    timed: bool
    """Whether its generation_config says that it writes time stamps: old fine-tunes mostly do not."""
    language: str | None
    """The one that its generation_config names for requests that name none."""
    alignment_heads: tuple[Head, ...] | None

    @property
    def first_tick(self) -> int:
        return self.untimed + 1

    @property
    def last_tick(self) -> int:
        return self.untimed + _TICKS

    def opening(self, language: str | None, task: str, *, timed: bool) -> list[int]:
        """What the decoder's answer begins with."""
        told = [self.languages[language], self.tasks[task]] if self.languages and language else []
        return [self.begin, *told, *([] if timed else [self.untimed])]

    def seconds(self, token: int) -> float | None:
        """The time that a time stamp says; None for any other token."""
        number = token - self.first_tick
        return number * TICK_SECONDS if 0 <= number < _TICKS else None


def read_vocabulary(repository: Repository, tokenizer: Any) -> Vocabulary:  # noqa: ANN401 - a backend of it
    """Raises `ModelError` where it is no tokenizer of Whisper's."""
    name, size = repository.name, int(repository.config.get("vocab_size") or 0)
    said = repository.json("generation_config.json")
    ids = {token: _id(tokenizer, token, size) for token in _NEEDED}
    if missing := [token for token, number in ids.items() if number is None]:
        raise ModelError(f"{name!r}: its tokenizer has no {missing[0]!r}, so it is none of Whisper's.")
    end, begin, previous, untimed = (number for number in ids.values() if number is not None)
    multilingual = _is_multilingual(said, size)
    languages, tasks = _tongues(tokenizer, size) if multilingual else ({}, {})
    if multilingual and not (languages and tasks):
        raise ModelError(f"{name!r}: its tokenizer has no languages, so it is none of Whisper's.")
    beyond = range(untimed + _TICKS + 1, size)
    unspoken = _numbers(said, repository.config, "suppress_tokens", size)
    timed = said.get("no_timestamps_token_id") is not None
    _tell_what_is_missing(name, said, timed=timed)
    return Vocabulary(
        end=end,
        begin=begin,
        previous=previous,
        untimed=untimed,
        no_speech=next((found for each in _NO_SPEECH if (found := _id(tokenizer, each, size))), None),
        languages=languages,
        tasks=tasks,
        suppressed=tuple(sorted({*unspoken, *range(end + 1, untimed + 1), *beyond})),
        suppressed_first=_numbers(said, repository.config, "begin_suppress_tokens", size) or (end,),
        timed=timed,
        language=_own_language(said, languages),
        alignment_heads=_heads(said, repository.config),
    )


def _tell_what_is_missing(name: str, said: Mapping[str, Any], *, timed: bool) -> None:
    if not timed:
        logger.warning(
            "no generation_config that tells of time stamps: tokens are those of the tokenizer, and segments "
            "end where a pause is (ROUNDHOUSE_SEGMENTS)",
            extra={"model": name},
        )
    if not said.get("alignment_heads"):
        logger.warning(
            "no alignment_heads: times of words are taken from all heads of the decoder's upper half",
            extra={"model": name},
        )


def _id(tokenizer: Any, token: str, size: int) -> int | None:  # noqa: ANN401
    number = tokenizer.token_to_id(token)
    return int(number) if number is not None and number < size else None


def _is_multilingual(said: Mapping[str, Any], size: int) -> bool:
    told = said.get("is_multilingual")
    return told if isinstance(told, bool) else size != _ENGLISH_ONLY_TOKENS


def _tongues(tokenizer: Any, size: int) -> tuple[dict[str, int], dict[str, int]]:  # noqa: ANN401
    languages = {code: _id(tokenizer, f"<|{code}|>", size) for code in NAMES}
    tasks = {task: _id(tokenizer, f"<|{task}|>", size) for task in _TASKS}
    return (
        {code: number for code, number in languages.items() if number is not None},
        {task: number for task, number in tasks.items() if number is not None},
    )


def _own_language(said: Mapping[str, Any], languages: Mapping[str, int]) -> str | None:
    told = said.get("language")
    code = language_code(told.strip("<|>")) if isinstance(told, str) else None
    return code if code in languages else None


def _numbers(said: Mapping[str, Any], config: Mapping[str, Any], name: str, size: int) -> tuple[int, ...]:
    """As the generation_config says, else as old configurations do."""
    told = said[name] if name in said else config.get(name)
    listed = told if isinstance(told, list) else []
    return tuple(each for each in listed if isinstance(each, int) and 0 <= each < size)


def _heads(said: Mapping[str, Any], config: Mapping[str, Any]) -> tuple[Head, ...] | None:
    told = said.get("alignment_heads")
    layers, heads = config.get("decoder_layers", 0), config.get("decoder_attention_heads", 0)
    if not isinstance(told, Sequence) or not told:
        return None
    try:
        found = tuple((int(layer), int(head)) for layer, head in told)
    except (TypeError, ValueError):
        return None
    fits = all(0 <= layer < layers and 0 <= head < heads for layer, head in found)
    return found if fits else None

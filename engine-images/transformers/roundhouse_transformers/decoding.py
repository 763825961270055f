"""Whisper's decoder: sounds that were encoded to tokens, several at a time, under Whisper's own rules.

The library's `generate` takes one request after the other, and tells neither how sure it was nor whether
anybody spoke. The rules of what may follow what are the library's; the loop is here, so that requests share
it and one whose client left drops out before the next token.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from transformers import GenerationConfig, LogitsProcessorList
from transformers.generation.logits_process import (
    SuppressTokensAtBeginLogitsProcessor,
    SuppressTokensLogitsProcessor,
    WhisperTimeStampLogitsProcessor,
)

from roundhouse_engine import Cancellation
from roundhouse_engine.errors import failed
from roundhouse_transformers.vocabulary import Vocabulary

LONGEST: Final = 224
"""Tokens of one answer: half of what the decoder takes. What is told before it may leave a few less."""
_FIRST_TICKS: Final = 50
"""The first time stamp is within the first second."""


@dataclass(frozen=True, slots=True)
class Decoding:
    """One window: its sound, [positions, width], and what the decoder's answer begins with."""

    sound: torch.Tensor
    opening: tuple[int, ...]
    temperature: float
    timed: bool
    cancellation: Cancellation

    @property
    def key(self) -> tuple[int, float, bool]:
        """Of one batch, all have the same."""
        return len(self.opening), self.temperature, self.timed


@dataclass(frozen=True, slots=True)
class Decoded:
    """`avg_logprob` is over the tokens and the end; `no_speech_prob` is 0 where the model does not tell."""

    tokens: tuple[int, ...]
    whole: bool
    """Whether the model ended it: else it was cut, for want of room or because its client left."""
    avg_logprob: float
    no_speech_prob: float


class Decoder:
    """Several threads may call it."""

    def __init__(self, model: Any, vocabulary: Vocabulary, device: str) -> None:  # noqa: ANN401
        self._decoder = model.model.decoder
        self._project = model.proj_out
        self._vocabulary = vocabulary
        self._device = device
        self._room = int(model.config.max_target_positions)

    def language(self, sound: torch.Tensor) -> tuple[str, float]:
        """The likeliest code, and how likely it is among all languages."""
        numbers = list(self._vocabulary.languages.values())
        with torch.inference_mode():
            hidden = self._pass([(self._vocabulary.begin,)], sound[None]).last_hidden_state
            chances = self._project(hidden[:, -1]).float()[0, numbers].softmax(-1)
            best = int(chances.argmax())
            return list(self._vocabulary.languages)[best], float(chances[best])

    def decode(self, decodings: Sequence[Decoding]) -> list[Decoded]:
        """Of one key. What was cancelled meanwhile comes back unfinished."""
        with torch.inference_mode():
            return self._decoded(decodings)

    def _decoded(self, decodings: Sequence[Decoding]) -> list[Decoded]:
        first, end = decodings[0], self._vocabulary.end
        sounds = torch.stack([each.sound for each in decodings])
        tokens = torch.tensor([each.opening for each in decodings], device=self._device)
        begin = tokens.shape[1]
        rules = self._rules(begin, timed=first.timed)
        # One each: what is drawn for a window does not hang on who else is in the batch.
        chances = [torch.Generator(self._device).manual_seed(0) for _ in decodings]
        said = self._pass(tokens, sounds)
        silent = self._no_speech(said.last_hidden_state, first.opening)
        over = torch.zeros(len(decodings), dtype=torch.bool, device=self._device)
        sums = torch.zeros(len(decodings), device=self._device)
        for _ in range(min(LONGEST, self._room - begin)):
            scores = rules(tokens, self._project(said.last_hidden_state[:, -1]).float())
            chosen = _chosen(scores, first.temperature, chances)
            sure = scores.log_softmax(-1).gather(1, chosen[:, None])[:, 0]
            sums += torch.where(over, 0.0, sure)
            tokens = torch.cat([tokens, torch.where(over, end, chosen)[:, None]], 1)
            gone = [each.cancellation.cancelled for each in decodings]
            over = over | (chosen == end) | torch.tensor(gone, device=self._device)
            if bool(over.all()):
                break
            said = self._pass(tokens[:, -1:], sounds, said.past_key_values)
        return [
            _answered(end, written, total, quiet)
            for written, total, quiet in zip(tokens[:, begin:].tolist(), sums.tolist(), silent, strict=True)
        ]

    def _pass(self, tokens: Any, sounds: torch.Tensor, past: Any = None) -> Any:  # noqa: ANN401
        ids = torch.as_tensor(tokens, device=self._device)
        return self._decoder(
            input_ids=ids, encoder_hidden_states=sounds, past_key_values=past, use_cache=True
        )

    def _no_speech(self, hidden: torch.Tensor, opening: tuple[int, ...]) -> list[float]:
        """How likely it is that nobody speaks: what the model says first of all."""
        place, token = opening.index(self._vocabulary.begin), self._vocabulary.no_speech
        if token is None:
            return [0.0] * len(hidden)
        chances: list[float] = self._project(hidden[:, place]).float().softmax(-1)[:, token].tolist()
        return chances

    def _rules(self, begin: int, *, timed: bool) -> LogitsProcessorList:
        known, device = self._vocabulary, self._device
        rules = LogitsProcessorList(
            [
                SuppressTokensAtBeginLogitsProcessor(list(known.suppressed_first), begin, device=device),
                SuppressTokensLogitsProcessor(list(known.suppressed), device=device),
            ]
        )
        if timed:
            told = GenerationConfig(
                eos_token_id=known.end,
                no_timestamps_token_id=known.untimed,
                max_initial_timestamp_index=_FIRST_TICKS,
            )
            rules.append(WhisperTimeStampLogitsProcessor(told, begin_index=begin))
        return rules


def _chosen(scores: torch.Tensor, temperature: float, chances: Sequence[torch.Generator]) -> torch.Tensor:
    """The next token of each row, drawn by its own chance.

    Raises `EngineError` for what is no number, of which a draw would end the process on a GPU.
    """
    if bool(scores.isnan().any()):
        raise failed(
            "The model computes what is no number: its weights are damaged, or too large for float16 "
            "(ROUNDHOUSE_DTYPE)."
        )
    if temperature == 0:
        return scores.argmax(-1)
    likely = (scores / temperature).softmax(-1)
    drawn = [torch.multinomial(row, 1, generator=own) for row, own in zip(likely, chances, strict=True)]
    return torch.cat(drawn)


def _answered(end: int, written: list[int], total: float, quiet: float) -> Decoded:
    whole = end in written
    tokens = tuple(written[: written.index(end)] if whole else written)
    return Decoded(tokens, whole, total / (len(tokens) + 1), quiet)

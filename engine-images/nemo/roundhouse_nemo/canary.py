"""Canary: a model that is told what to do with a recording, and writes it down token by token.

It is told which language is spoken, which one to write and whether to write times and punctuation, as a
prompt that its tokens begin with. It does not find out any of that itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch.nn.utils.rnn import pad_sequence
from typing_extensions import override

from roundhouse_engine import Cancellation, ModelError, SpeechOptions, Task, Word
from roundhouse_engine.errors import invalid
from roundhouse_engine.languages import NAMES, english_name
from roundhouse_engine.together import Together
from roundhouse_nemo.heard import Heard
from roundhouse_nemo.hearing import MOST, Hearing
from roundhouse_nemo.restore import RATE
from roundhouse_nemo.settings import Settings
from roundhouse_nemo.timed import read_timed

_ENGLISH: Final = "en"
_PROMPTS: Final = ("canary", "canary2")


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be done with a recording."""

    source: str
    target: str
    times: bool


class Canary(Hearing):
    pause_seconds = 0.8
    """Mostly it writes no times, by which the phrases of a window could be parted."""

    def __init__(self, name: str, model: Any, settings: Settings) -> None:  # noqa: ANN401 - NeMo has no types
        """Raises `ModelError`."""
        super().__init__(name, model, settings)
        if model.prompt_format not in _PROMPTS:
            raise ModelError(
                f"{name!r} is told what to do in the format {model.prompt_format!r}; this engine knows "
                f"{' and '.join(map(repr, _PROMPTS))}."
            )
        self._languages = _languages(model.tokenizer)
        self._tells_times = _tells_times(model)
        self._punctuation = "yes" if settings.punctuation else "no"
        self._default = settings.language
        if self._default is None and len(self._languages) == 1:
            self._default = next(iter(self._languages))
        if self._default is not None and self._default not in self._languages:
            raise ModelError(
                f"ROUNDHOUSE_LANGUAGE is {self._default!r}, and {name!r} understands {self._known} alone."
            )
        self._write = Together[tuple[torch.Tensor, Order], Heard](self._write_all, most=MOST, at_once=1)

    @property
    def _known(self) -> str:
        return ", ".join(f"{code!r} ({english_name(code)})" for code in sorted(self._languages))

    @override
    def check(self, options: SpeechOptions) -> None:
        self._order(options)

    @override
    def warm_up(self) -> None:
        language = self._default or next(iter(self._languages))
        self.hear(bytes(RATE * 2), SpeechOptions(language=language), Cancellation())

    @override
    def hear(self, samples: bytes, options: SpeechOptions, cancellation: Cancellation) -> Heard:
        order = self._order(options)
        encoded = self.encode(samples, cancellation)
        cancellation.check()
        # Those of one prompt, so that their tokens stand side by side.
        heard = self._write((encoded, order), (len(encoded).bit_length(), order), cancellation)
        seconds = len(samples) / 2 / RATE
        words = tuple(
            Word(each.text, min(each.start, seconds), min(each.end, seconds)) for each in heard.words
        )
        return Heard(heard.text, words, seconds, order.source)

    def _order(self, options: SpeechOptions) -> Order:
        """Raises `EngineError`."""
        source = options.language or self._default
        if source is None:
            raise invalid(
                f"The model {self.name!r} does not find out which language is spoken. Send language, one of "
                f"{self._known}.",
                param="language",
                code="missing",
            )
        if source not in self._languages:
            raise invalid(
                f"The model {self.name!r} does not understand {source!r} ({english_name(source)}), only "
                f"{self._known}.",
                param="language",
                code="unsupported_value",
            )
        target = source if options.task is Task.TRANSCRIBE else _ENGLISH
        if target not in self._languages:
            raise invalid(
                f"The model {self.name!r} writes no English to translate into, only {self._known}.",
                param="model",
                code="unsupported_value",
            )
        if options.words and not self._tells_times:
            raise invalid(
                f"The model {self.name!r} has no word timestamps. Ask for timestamp_granularities[]=segment.",
                param="timestamp_granularities",
                code="unsupported_value",
            )
        return Order(source, target, options.words)

    def _write_all(self, items: Sequence[tuple[torch.Tensor, Order]]) -> Sequence[Heard]:
        model = self.model
        with self._turn, self.computing():
            encoded = pad_sequence([each for each, _ in items], batch_first=True)
            lengths = torch.tensor([len(each) for each, _ in items], device=self.device)
            heard = torch.arange(encoded.shape[1], device=self.device)[None] < lengths[:, None]
            states = model.encoder_decoder_proj(encoded)
            mask = heard.to(states.dtype)
            if model.use_transf_encoder:
                states = model.transf_encoder(encoder_states=states, encoder_mask=mask)
            found = model.decoding.decode_predictions_tensor(
                encoder_hidden_states=states,
                encoder_input_mask=mask,
                decoder_input_ids=self._prompt(items[0][1]).repeat(len(items), 1),
                return_hypotheses=True,
            )
            return [Heard(*read_timed(each.text, self.frame_seconds)) for each in found]

    def _prompt(self, order: Order) -> torch.Tensor:
        """[1, tokens]"""
        said = {
            "source_lang": order.source,
            "target_lang": order.target,
            "task": "transcribe" if order.source == order.target else "translate",
            "pnc": self._punctuation,
            "timestamp": "yes" if order.times else "no",
            "itn": "no",
            "diarize": "no",
            "emotion": "<|emo:undefined|>",
            "decodercontext": "",
        }
        prompt = self.model.prompt
        slots = {slot: said[slot] for slot in prompt.get_slots("user")}
        told = prompt.encode_dialog(turns=[{"role": "user", "slots": slots}])["context_ids"]
        wanted: torch.Tensor = told[None].to(self.device)
        return wanted


def _languages(tokenizer: Any) -> frozenset[str]:  # noqa: ANN401 - NeMo has no types
    """Those that it has a tokenizer for, or, where one is for all, a token."""
    if hasattr(tokenizer, "langs"):
        return frozenset(each.partition("-")[0] for each in tokenizer.langs) & NAMES.keys()
    return frozenset(code for code in NAMES if f"<|{code}|>" in tokenizer.vocab)


def _tells_times(model: Any) -> bool:  # noqa: ANN401
    """Whether it was taught to: models with one tokenizer for all languages use another model for it."""
    tokenizer = model.tokenizer
    return (
        "timestamp" in model.prompt.get_slots("user")
        and hasattr(tokenizer, "special_tokens")
        and {"<|timestamp|>", "<|0|>"} <= tokenizer.special_tokens.keys()
    )

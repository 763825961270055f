"""Makes music: the library computes tokens step by step, and its codec turns them into sound."""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import torch
from transformers import LogitsProcessorList, MusicgenForConditionalGeneration, StoppingCriteriaList

from roundhouse_engine import Cancellation, Composition, MusicOptions
from roundhouse_engine.errors import invalid
from roundhouse_engine.shelf import Shelf
from roundhouse_engine.torch_memory import vram_bytes
from roundhouse_musicgen.adapters import Adapter, check
from roundhouse_musicgen.sampling import GuidedDraw, chances, guidance
from roundhouse_musicgen.settings import AdapterSetting, Placed
from roundhouse_transformers.bounds import check_length
from roundhouse_transformers.loading import load
from roundhouse_transformers.repository import Repository
from roundhouse_transformers.settings import Settings

_PROMPT_TOKENS: Final = 512
"""Where the tokenizer says nothing: what T5 was trained on."""
_STEPS_PART: Final = 0.95
"""Of the work; the rest is the codec's."""


class Composer:
    """Called by one thread at a time."""

    def __init__(
        self,
        repository: Repository,
        settings: Settings,
        adapters: Sequence[AdapterSetting],
        shelf: Shelf[Placed, Adapter],
        repo: str | None = None,
    ) -> None:
        """`repo`: the name by which adapters know the model. Raises `ModelError`."""
        self._adapters = {each.name: (each, check(each)) for each in adapters}
        self._shelf = shelf
        self._name = repository.name
        self._repo = repo
        self._loaded = load(repository, settings, MusicgenForConditionalGeneration)
        config = self._loaded.model.config
        self._frame_rate = float(config.audio_encoder.frame_rate)
        self._sample_rate = int(config.audio_encoder.sampling_rate)
        # Each codebook is one step behind the one before it; of two channels both go side by side.
        self._delayed = int(config.decoder.num_codebooks) // int(config.decoder.audio_channels)
        self._habits = self._loaded.model.generation_config.to_dict()
        self._limit = self._loaded.limit_tokens or _PROMPT_TOKENS

    def vram_bytes(self) -> int | None:
        return vram_bytes(self._loaded.model, self._loaded.device)

    def warm_up(self) -> None:
        """Of a GPU alone: a CPU's first steps take no longer than others."""
        if self._loaded.device == "cuda":
            shortest = MusicOptions(duration_seconds=1 / self._frame_rate, seed=0)
            self.compose(".", shortest, lambda _: None, Cancellation())

    def compose(
        self,
        prompt: str,
        options: MusicOptions,
        progress: Callable[[float], None],
        cancellation: Cancellation,
    ) -> Composition:
        """At most a frame longer than asked for; raises `EngineError` for a prompt that is too long."""
        read = self._read(prompt)
        frames = self.frames(options.duration_seconds)
        steps = frames + self._delayed - 1
        scale = guidance(options, self._habits)
        draw = GuidedDraw(chances(options, self._habits), scale, self._loaded.device)
        watch = _Watch(steps, progress, cancellation)
        with torch.inference_mode(), self._adapted(options, cancellation):
            sound = self._loaded.model.generate(
                **read,
                max_new_tokens=steps,
                guidance_scale=scale,
                do_sample=False,
                num_beams=1,
                temperature=None,
                top_p=None,
                top_k=None,
                logits_processor=LogitsProcessorList([draw]),
                stopping_criteria=StoppingCriteriaList([watch]),
            )
        return Composition(sound[0].float().cpu().numpy(), self._sample_rate, tokens=frames)

    def frames(self, seconds: float) -> int:
        """How many the codec makes so many seconds of; at least as many as codebooks are delayed."""
        return max(math.ceil(round(seconds * self._frame_rate, 6)), self._delayed)

    @contextlib.contextmanager
    def _adapted(self, options: MusicOptions, cancellation: Cancellation) -> Iterator[None]:
        if options.adapter is None:
            yield
            return
        if options.adapter not in self._adapters:
            there = ", ".join(map(repr, self._adapters)) or "none"
            raise invalid(
                f"There is no adapter {options.adapter!r} here. There is: {there}.",
                param="adapter",
                code="adapter_not_found",
            )
        setting, known = self._adapters[options.adapter]
        known.check_base(self._repo)
        model = self._loaded.model
        placed = Placed(setting, self._loaded.device, str(model.dtype).rpartition(".")[2])
        with (
            self._shelf.taken(placed, known.held_bytes, self._name, cancellation) as adapter,
            adapter.applied(model, options.adapter_strength),
        ):
            yield

    def _read(self, prompt: str) -> dict[str, Any]:
        check_length(prompt, self._limit, "prompt")
        read = self._loaded.tokenizer(prompt, return_tensors="pt").to(self._loaded.device)
        tokens = read["input_ids"].shape[1]
        if tokens > self._limit:
            raise invalid(
                f"The prompt is {tokens} tokens long, and the model takes {self._limit}. Make it shorter.",
                param="prompt",
                code="context_length_exceeded",
            )
        return {name: read[name] for name in ("input_ids", "attention_mask")}


class _Watch:
    """Asked by the library after each step. By raising it ends the work, and leaves the codec out."""

    def __init__(self, steps: int, progress: Callable[[float], None], cancellation: Cancellation) -> None:
        self._steps = steps
        self._done = 0
        self._progress = progress
        self._cancellation = cancellation

    def __call__(self, tokens: Any, scores: Any, **_: Any) -> Any:  # noqa: ANN401, ARG002 - the library's
        self._cancellation.check()
        self._done += 1
        self._progress(_STEPS_PART * self._done / self._steps)
        return torch.zeros(tokens.shape[0], dtype=torch.bool, device=tokens.device)

"""`python -m tests.bench.engines.libraries.transformers KIND MODEL`: chat, transcriptions and the like.

Of chat, a step is one token after a short prompt, and of texts a call of as many as an engine gives a model
at once. Transcriptions want a file of 16 kHz mono samples, too: a step of theirs is one window through the
encoder.
"""

import sys
import time
from collections.abc import Callable, Mapping, Sequence

from tests.bench.engines.libraries import answer
from tests.bench.engines.making import SPOKEN_WORDS
from tests.bench.engines.speech import CLIPS, RATE
from tests.bench.engines.texts import CALL, LONG, MESSAGES, PARAGRAPHS, QUERY, WRITTEN_TOKENS

Works = Mapping[str, Callable[[], object]]


def _embeddings(path: str) -> Works:
    import torch  # noqa: PLC0415 - imports are part of the start
    from transformers import AutoModel, AutoTokenizer  # noqa: PLC0415

    tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModel.from_pretrained(path).eval()

    def embed(texts: Sequence[str]) -> int:
        read = tokenizer(list(texts), padding=True, return_tensors="pt")
        with torch.inference_mode():
            weights = read["attention_mask"].unsqueeze(-1).float()
            hidden = model(**read).last_hidden_state
            pooled = (hidden * weights).sum(1) / weights.sum(1)
            return len(torch.nn.functional.normalize(pooled, dim=-1).tolist())

    return {"call": lambda: embed(LONG), "batch": lambda: embed(PARAGRAPHS), "step": lambda: embed(CALL)}


def _rerank(path: str) -> Works:
    import torch  # noqa: PLC0415
    from transformers import AutoModelForSequenceClassification, AutoTokenizer  # noqa: PLC0415

    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForSequenceClassification.from_pretrained(path).eval()

    def rank(documents: Sequence[str]) -> int:
        read = tokenizer([QUERY] * len(documents), list(documents), padding=True, return_tensors="pt")
        with torch.inference_mode():
            return len(torch.sigmoid(model(**read).logits[:, 0]).tolist())

    return {"call": lambda: rank(LONG), "batch": lambda: rank(PARAGRAPHS), "step": lambda: rank(CALL)}


def _chat(path: str) -> Works:
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415

    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForCausalLM.from_pretrained(path).eval()

    def write(streamer: "_First | None" = None) -> int:
        ids = tokenizer.apply_chat_template(
            MESSAGES, return_tensors="pt", add_generation_prompt=True, return_dict=False
        )
        written = model.generate(
            ids,
            attention_mask=ids.new_ones(ids.shape),
            max_new_tokens=WRITTEN_TOKENS,
            do_sample=False,
            streamer=streamer,
        )
        return int(written.shape[1] - ids.shape[1])

    def first() -> float:
        streamer = _First()
        write(streamer)
        return streamer.seconds

    return {"call": write, "first": first}


def _transcriptions(path: str, recording: str) -> Works:
    import numpy as np  # noqa: PLC0415
    import torch  # noqa: PLC0415
    from transformers import (  # noqa: PLC0415
        AutoTokenizer,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
    )

    extractor = WhisperFeatureExtractor.from_pretrained(path)
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = WhisperForConditionalGeneration.from_pretrained(path).eval()
    samples = np.fromfile(recording, "<i2").astype(np.float32) / 32768
    clips = np.split(samples, CLIPS)

    def heard(sounds: Sequence[object]) -> list[str]:
        read = extractor(list(sounds), sampling_rate=RATE, return_tensors="pt")["input_features"]
        with torch.inference_mode():
            written = model.generate(read, language="en", task="transcribe", return_timestamps=True)
        texts: list[str] = tokenizer.batch_decode(written, skip_special_tokens=True)
        assert all(SPOKEN_WORDS[1] in text for text in texts), texts
        return texts

    def step() -> None:
        with torch.inference_mode():
            model.model.encoder(torch.zeros(1, model.config.num_mel_bins, 3000))

    return {"call": lambda: heard([samples]), "batch": lambda: heard(clips), "step": step}


class _First:
    """Hears when the first token after the prompt came, in seconds from when it was made."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._prompted = False
        self.seconds = 0.0

    def put(self, _tokens: object) -> None:
        if self._prompted and not self.seconds:
            self.seconds = time.monotonic() - self._began
        self._prompted = True

    def end(self) -> None:
        pass


if __name__ == "__main__":
    kinds: Mapping[str, Callable[..., Works]] = {
        "chat": _chat,
        "embeddings": _embeddings,
        "rerank": _rerank,
        "transcriptions": _transcriptions,
    }
    answer(kinds[sys.argv[1]](*sys.argv[2:]))

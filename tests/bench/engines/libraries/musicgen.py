"""`python -m tests.bench.engines.libraries.musicgen MODEL`: music by transformers, a step for each frame."""

import sys

from tests.bench.engines.libraries import answer
from tests.bench.engines.texts import MUSIC_SECONDS, PROMPT


def main(path: str) -> None:
    import torch  # noqa: PLC0415 - imports are part of the start
    from transformers import AutoTokenizer, MusicgenForConditionalGeneration  # noqa: PLC0415

    tokenizer = AutoTokenizer.from_pretrained(path)
    model = MusicgenForConditionalGeneration.from_pretrained(path).eval()
    frames = round(MUSIC_SECONDS * model.config.audio_encoder.frame_rate)
    steps = frames + model.config.decoder.num_codebooks - 1

    def call() -> int:
        with torch.inference_mode():
            read = tokenizer(PROMPT, return_tensors="pt")
            read.pop("token_type_ids", None)
            sound = model.generate(**read, max_new_tokens=steps, do_sample=True, guidance_scale=3.0)
        return int(sound.shape[-1])

    answer({"call": call})


if __name__ == "__main__":
    main(sys.argv[1])

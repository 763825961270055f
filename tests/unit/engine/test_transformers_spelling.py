"""What is told of tokens as they come, where single bytes stand for what a vocabulary has no word for."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from roundhouse_engine import Cancellation, Finish, FinishReason, ModelSpec, Piece, TextOptions
from roundhouse_transformers.spelling import Spelling
from tests.support.torch_base import prepare_torch

SPECIAL = ("<unk>", "<s>", "</s>")
MARKS = dict(zip(("unk_token", "bos_token", "eos_token"), SPECIAL, strict=True))
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
WORDS = ["▁a", "▁b", "c"]
NUMBERS = {name: at for at, name in enumerate((*SPECIAL, *BYTES, *WORDS))}


def llamas() -> Any:
    """As Llama 2, Mistral and Gemma have it."""
    made = Tokenizer(models.BPE(NUMBERS, [], unk_token=SPECIAL[0], byte_fallback=True, fuse_unk=True))
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    made.decoder = decoders.Sequence(steps)
    return made


TOKENIZER = llamas()


def told(*names: str, before: tuple[str, ...] = ()) -> list[str]:
    spelling = Spelling(TOKENIZER, [NUMBERS[name] for name in before])
    return [spelling.add(NUMBERS[name]) for name in names]


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (("▁a", "<0xE2>", "<0x82>", "<0xAC>", "▁b"), ["a", "", "", "€", " b"]),
        (("▁a", "<0x0A>", "<0xE2>", "▁b", "▁a"), ["a", "\n", "", "\ufffd b", " a"]),
        (("▁a", "<0x0A>", "<0xE2>", "<0x82>", "c", "<0xE2>", "▁b"), None),
        (("<0xF0>", "▁b"), ["", "\ufffd b"]),
    ],
    ids=["whole", "after a newline", "twice", "at the beginning"],
)
def test_bytes_that_are_no_character_end_no_answer(names: tuple[str, ...], wanted: list[str] | None) -> None:
    found = told(*names)
    assert found == (wanted or ["a", "\n", "", "", "\ufffd\ufffdc", "", "\ufffd b"])


def test_a_text_goes_on_after_half_a_character() -> None:
    assert told("▁b", "▁a", before=("▁a", "<0x0A>", "<0xE2>")) == ["\ufffd b", " a"]
    assert told("▁b", before=("▁a",)) == [" b"]


@given(st.lists(st.sampled_from([*WORDS, "<0x0A>", *BYTES[128:]]), max_size=30))
def test_words_are_told_whatever_bytes_are_between_them(names: list[str]) -> None:
    """But for the last, behind which bytes may stay untold: their character is not at its end."""
    text = "".join(told(*names, "▁a", "▁b"))
    words = TOKENIZER.decode([NUMBERS[name] for name in (*names, "▁a", "▁b") if name in WORDS])
    assert re.sub(r"[^ -~]", "", text).lstrip() == words.lstrip()


def test_a_model_that_writes_bytes_by_chance_ends_as_it_was_asked_to(tmp_path: Path) -> None:
    prepare_torch()
    import torch  # noqa: PLC0415 - it loads only from here on
    import transformers  # noqa: PLC0415

    from roundhouse_transformers.handlers import TransformersChat  # noqa: PLC0415

    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=llamas(), **MARKS, model_max_length=256)
    tokenizer.save_pretrained(tmp_path)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(NUMBERS),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=256,
        eos_token_id=None,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path)
    chat = TransformersChat()
    chat.load(ModelSpec("m", tmp_path), lambda _part: None)
    for seed in range(10):
        options = TextOptions(max_tokens=40, temperature=1.0, seed=seed)
        *pieces, last = chat.complete("a", options, Cancellation())
        assert isinstance(last, Finish)
        assert last.tokens == sum(isinstance(each, Piece) for each in pieces) + (
            last.reason is FinishReason.STOP
        )

"""Tiny models of transformers, made on the spot as a repository holds them; import it only where torch loads.

Weights are random from a fixed seed, but for the one that writes: after each word comes the next of a chain.
"""

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

LENGTH = 128
TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools here') }}{% endif %}"
    "{{ m.role }} {{ m.content }} {% endfor %}assistant"
)
SPEAKER_TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}<says>"
_SPEAKER_MARKS = ("<pad>", "<says>", "<end>")
_SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
_WORDS = ("user", "assistant", "system", "count", "one", "two", "three", *(f"w{n}" for n in range(40)))


@dataclass(frozen=True, slots=True)
class Size:
    """Of a model's vectors, and of what its layers make of them."""

    width: int = 32
    layers: int = 2
    heads: int = 2
    inner: int = 64


_TINY = Size()
_TINY_WRITER = Size(width=64, heads=4)
BASE = Size(width=768, layers=12, heads=12, inner=3072)
"""A hundred million weights."""


def write_tokenizer(
    folder: Path, *, template: str | None = None, frames: bool = False, length: int = LENGTH
) -> Any:
    """Words apart by blanks, known ones whole and others unknown; `frames`: each text within <s> and </s>."""
    names = (*_SPECIAL, *(f"▁{word}" for word in _WORDS))
    made = Tokenizer(models.WordLevel({name: at for at, name in enumerate(names)}, _SPECIAL[3]))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    if frames:
        made.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
        )
    marks = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    found = transformers.PreTrainedTokenizerFast(tokenizer_object=made, **marks, model_max_length=length)
    found.chat_template = template
    found.save_pretrained(folder)
    return found


def _bert(size: Size, **changed: Any) -> Any:
    return transformers.BertConfig(
        vocab_size=len(_SPECIAL) + len(_WORDS),
        hidden_size=size.width,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        intermediate_size=size.inner,
        max_position_embeddings=LENGTH,
        **changed,
    )


def write_embedder(
    folder: Path, *, pooling: str | None = None, dense: bool = False, size: Size = _TINY
) -> Path:
    """`pooling` as sentence-transformers spells it in its files; without: a bare model."""
    torch.manual_seed(0)
    transformers.BertModel(_bert(size)).save_pretrained(folder)
    write_tokenizer(folder, frames=True)
    steps = ["Transformer"]
    if pooling is not None:
        steps.append("Pooling")
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling/config.json").write_text(json.dumps({f"pooling_mode_{pooling}": True}))
    if dense:
        steps.append("Dense")
        (folder / "2_Dense").mkdir()
        save_file({"linear.weight": torch.randn(48, 32)}, folder / "2_Dense/model.safetensors")
        told = {
            "in_features": 32,
            "out_features": 48,
            "activation_function": "torch.nn.modules.linear.Identity",
        }
        (folder / "2_Dense/config.json").write_text(json.dumps(told))
    if steps[1:]:
        paths = ["", *(f"{at}_{step}" for at, step in enumerate(steps[1:], 1))]
        said = [
            {"path": path, "type": f"sentence_transformers.models.{step}"}
            for path, step in zip(paths, steps, strict=True)
        ]
        (folder / "modules.json").write_text(json.dumps(said))
    return folder


def write_ranker(folder: Path, *, labels: int = 1, size: Size = _TINY) -> Path:
    torch.manual_seed(0)
    transformers.BertForSequenceClassification(_bert(size, num_labels=labels)).save_pretrained(folder)
    write_tokenizer(folder, frames=True)
    return folder


def write_writer(
    folder: Path,
    chain: Sequence[str] = ("assistant", "one", "two", "three"),
    *,
    template: str | None = TEMPLATE,
    length: int = LENGTH,
    ends: bool = True,
    size: Size = _TINY_WRITER,
) -> Path:
    """After the template's last word come those of the chain, and then the end; after any other, chance.

    Where it does not end, the chain's last word should stand in it before: so it goes round for ever.
    """
    tokenizer = write_tokenizer(folder, template=template, length=length)
    ids = tokenizer.convert_tokens_to_ids([f"▁{word}" for word in chain])
    return _chained(folder, len(tokenizer), [*ids, *([2] if ends else [])], length, size)


def write_speaker(
    folder: Path,
    chain: Sequence[str],
    *,
    template: str = SPEAKER_TEMPLATE,
    length: int = 1024,
    marks: Sequence[str] = (),
) -> Path:
    """Says the texts of the chain and ends; held to another text it goes on by chance.

    Its tokens are these texts, single bytes, as real models have them, and `marks`, which no text is made of.
    """
    texts = [text for text in chain if text not in marks]
    found = write_byte_tokenizer(folder, template=template, length=length, marks=marks, texts=texts)
    said = [text if text in marks else _spelt(text) for text in chain]
    return _chained(folder, len(found), found.convert_tokens_to_ids(["<says>", *said, "<end>"]), length)


def write_byte_tokenizer(
    folder: Path, *, template: str, length: int, marks: Sequence[str], texts: Sequence[str] = ()
) -> Any:
    """Reads a text byte by byte, and writes bytes and `texts`; special are <says>, <end> and `marks`."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [*_SPEAKER_MARKS, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    names += dict.fromkeys(_spelt(text) for text in texts if _spelt(text) not in names)
    made = Tokenizer(models.BPE({name: at for at, name in enumerate(names)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    special = {"pad_token": "<pad>", "eos_token": "<end>", "additional_special_tokens": ["<says>", *marks]}
    found = transformers.PreTrainedTokenizerFast(tokenizer_object=made, **special, model_max_length=length)
    found.chat_template = template
    found.save_pretrained(folder)
    return found


def _spelt(text: str) -> str:
    """The text as tokenizers of bytes write it."""
    return "".join(
        piece for piece, _ in pre_tokenizers.ByteLevel(False, use_regex=False).pre_tokenize_str(text)
    )


def _chained(folder: Path, words: int, ids: Sequence[int], length: int, size: Size = _TINY_WRITER) -> Path:
    """A model that says each of these tokens after the one before it."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=words,
        hidden_size=size.width,
        intermediate_size=size.inner,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads // 2,
        max_position_embeddings=length,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        tie_word_embeddings=False,
    )
    model = transformers.LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.model.layers.parameters():
            parameter.mul_(1e-3)
        vectors = torch.randint(0, 2, model.model.embed_tokens.weight.shape) * 2.0 - 1
        model.model.embed_tokens.weight.copy_(vectors)
        for token, successor in itertools.pairwise(ids):
            model.lm_head.weight[successor] = vectors[token] * 0.1
    model.save_pretrained(folder)
    return folder

"""A tiny model in llama.cpp's GGUF format, made on the spot: it says the words of a chain in order.

Attention and the layers between are next to nothing, so what follows a token depends on that token alone:
its vector is the row of its successor in the output matrix.
"""

import itertools
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

CONTEXT: Final = 256
_SPECIAL: Final = ("<unk>", "<s>", "</s>")
_EOS: Final = 2
_NORMAL, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6
_UINT32, _INT32, _FLOAT32, _STRING, _ARRAY = 4, 5, 6, 8, 9
_ALIGNMENT: Final = 32
TEMPLATE: Final = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"


@dataclass(frozen=True, slots=True)
class Size:
    """Of a model's vectors, and of what its layers make of them."""

    width: int = 64
    layers: int = 2
    heads: int = 4
    inner: int = 128


BASE: Final = Size(width=768, layers=12, heads=12, inner=2048)
"""Eighty million weights."""
_TINY: Final = Size()

TOOLS_TEMPLATE: Final = """{% if tools %}<|im_start|>system
<tools>{% for tool in tools %}
{{ tool | tojson }}{% endfor %}
</tools>
<tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call><|im_end|>
{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}{% if m.tool_calls %}{% for call in m.tool_calls %}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>{% endfor %}{% endif %}<|im_end|>
{% endfor %}<|im_start|>assistant:"""
"""As models have it that call tools."""


def write_model(
    path: Path,
    chain: Sequence[str] = ("one", "two", "three"),
    words: int = 30,
    *,
    template: str = TEMPLATE,
    context: int = CONTEXT,
    ends: bool = True,
    size: Size = _TINY,
) -> Path:
    """After the template's last colon the likeliest words are those of the chain, and then the end.

    Where it does not end, it begins anew, for ever.
    """
    names = [*chain, *(f"w{number}" for number in range(words))]
    tokens = [*_SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *(f"▁{name}" for name in names)]
    first = tokens.index(f"▁{chain[0]}")
    last = _EOS if ends else first
    path_of_tokens = [tokens.index("<0x3A>"), *range(first, first + len(chain)), last]
    tensors = _tensors(len(tokens), path_of_tokens, size)
    path.write_bytes(_file(_metadata(tokens, template, context, size), tensors))
    return path


def write_bytewise(path: Path, pretokenizer: str, context: int) -> Path:
    """A model that says nothing in particular, and divides texts as that of the name does, into bytes."""
    letters = _letters()
    tokens = [*letters, "<|end|>", letters[97] * 2]
    kinds = [*([_NORMAL] * len(letters)), _CONTROL, _NORMAL]
    metadata = _metadata([*_SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))], TEMPLATE, context, _TINY)
    metadata = {name: each for name, each in metadata.items() if not name.startswith("tokenizer.ggml")} | {
        "llama.vocab_size": (_UINT32, len(tokens)),
        "tokenizer.ggml.model": (_STRING, "gpt2"),
        "tokenizer.ggml.pre": (_STRING, pretokenizer),
        "tokenizer.ggml.tokens": (_ARRAY, (_STRING, tokens)),
        "tokenizer.ggml.token_type": (_ARRAY, (_INT32, kinds)),
        "tokenizer.ggml.merges": (_ARRAY, (_STRING, [f"{letters[97]} {letters[97]}"])),
        "tokenizer.ggml.eos_token_id": (_UINT32, len(letters)),
    }
    path.write_bytes(_file(metadata, _tensors(len(tokens), (), _TINY)))
    return path


def _letters() -> list[str]:
    """For each byte a letter, as GPT-2's vocabularies write them."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte if byte in plain else next(others)) for byte in range(256)]


def _metadata(tokens: Sequence[str], template: str, context: int, size: Size) -> dict[str, tuple[int, Any]]:
    kinds = [_UNKNOWN, _CONTROL, _CONTROL, *([_BYTE] * 256), *([_NORMAL] * (len(tokens) - 259))]
    numbers = {
        "llama.context_length": context,
        "llama.embedding_length": size.width,
        "llama.block_count": size.layers,
        "llama.feed_forward_length": size.inner,
        "llama.attention.head_count": size.heads,
        "llama.attention.head_count_kv": size.heads,
        "llama.rope.dimension_count": size.width // size.heads,
        "llama.vocab_size": len(tokens),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": _EOS,
        "tokenizer.ggml.unknown_token_id": 0,
    }
    return {
        "general.architecture": (_STRING, "llama"),
        **{name: (_UINT32, number) for name, number in numbers.items()},
        "llama.attention.layer_norm_rms_epsilon": (_FLOAT32, 1e-5),
        "tokenizer.ggml.model": (_STRING, "llama"),
        "tokenizer.ggml.tokens": (_ARRAY, (_STRING, tokens)),
        "tokenizer.ggml.scores": (_ARRAY, (_FLOAT32, [0.0] * len(tokens))),
        "tokenizer.ggml.token_type": (_ARRAY, (_INT32, kinds)),
        "tokenizer.chat_template": (_STRING, template),
    }


def _tensors(vocabulary: int, chain: Sequence[int], size: Size) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)

    def small(*shape: int) -> np.ndarray:
        return (random.standard_normal(shape) * 1e-3).astype("<f4")

    vectors = random.choice([-1.0, 1.0], (vocabulary, size.width)).astype("<f4")
    output = small(vocabulary, size.width)
    for token, successor in itertools.pairwise(chain):
        output[successor] = vectors[token]
    ones = np.ones(size.width, "<f4")
    tensors = {"token_embd.weight": vectors, "output_norm.weight": ones, "output.weight": output}
    for layer in range(size.layers):
        stem = f"blk.{layer}."
        tensors |= {stem + "attn_norm.weight": ones, stem + "ffn_norm.weight": ones}
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            tensors[f"{stem}{name}.weight"] = small(size.width, size.width)
        for name in ("ffn_gate", "ffn_up"):
            tensors[f"{stem}{name}.weight"] = small(size.inner, size.width)
        tensors[stem + "ffn_down.weight"] = small(size.width, size.inner)
    return tensors


def _file(metadata: Mapping[str, tuple[int, Any]], tensors: Mapping[str, np.ndarray]) -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    for name, (kind, value) in metadata.items():
        head += _value(_STRING, name) + struct.pack("<I", kind) + _value(kind, value)
    data = bytearray()
    for name, tensor in tensors.items():
        head += _value(_STRING, name) + struct.pack("<I", tensor.ndim)
        head += struct.pack(f"<{tensor.ndim}Q", *reversed(tensor.shape)) + struct.pack("<IQ", 0, len(data))
        data += _padded(tensor.tobytes())
    return _padded(head) + bytes(data)


def _value(kind: int, value: Any) -> bytes:
    if kind == _STRING:
        text = value.encode()
        return struct.pack("<Q", len(text)) + bytes(text)
    if kind == _ARRAY:
        inner, values = value
        return struct.pack("<IQ", inner, len(values)) + b"".join(_value(inner, each) for each in values)
    return struct.pack({_UINT32: "<I", _INT32: "<i", _FLOAT32: "<f"}[kind], value)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % _ALIGNMENT)

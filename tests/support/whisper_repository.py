"""The Whisper that says chosen words at chosen times, as a repository of transformers holds one.

Its weights are those of `whisper`, by transformers' names. What repositories lack that were published years
ago, or by a training that ended in the middle, `Kind` leaves out.
"""

import json
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from safetensors.numpy import save_file

from tests.support.whisper import NO_SPEECH, Whisper, make_tokenizer, weights

Matrix = NDArray[np.float32]


class Kind(StrEnum):
    WHOLE = "whole"
    OLD_FINE_TUNE = "old"
    """Pickled weights, the tokenizer in parts, and no generation_config: its config forces a language."""
    BARE = "bare"
    """A generation_config that tells nothing of Whisper's own."""


def write_whisper(folder: Path, whisper: Whisper | None = None, kind: Kind = Kind.WHOLE) -> Path:
    """Write the repository into `folder`."""
    whisper = whisper or Whisper()
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer(whisper)
    tensors = dict(_named(weights(whisper, tokenizer)))
    if kind is Kind.OLD_FINE_TUNE:
        torch.save(
            {name: torch.from_numpy(each) for name, each in tensors.items()}, folder / "pytorch_model.bin"
        )
        _tokenizer_in_parts(folder, tokenizer)
    else:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        tokenizer.save(str(folder / "tokenizer.json"))
    _write(folder, "tokenizer_config.json", _of_the_tokenizer())
    config = _config(whisper, tokenizer)
    sound = {"feature_size": whisper.mels, "sampling_rate": 16000, "hop_length": 160, "chunk_length": 30}
    _write(folder, "preprocessor_config.json", sound | {"n_fft": 400, "nb_max_frames": 3000})
    if kind is Kind.OLD_FINE_TUNE:
        german, task = (tokenizer.token_to_id(each) for each in ("<|de|>", "<|translate|>"))
        config |= {"forced_decoder_ids": [[1, german], [2, task]], "max_length": 448}
        config |= {"suppress_tokens": [], "begin_suppress_tokens": [config["eos_token_id"]]}
    else:
        _write(folder, "generation_config.json", _generation(whisper, tokenizer, kind))
    _write(folder, "config.json", config)
    return folder


def write_untaught(folder: Path) -> Path:
    """The same with random weights: what it says means nothing, and is another thing for every sound."""
    write_whisper(folder, kind=Kind.BARE)
    config = transformers.WhisperConfig.from_pretrained(folder, tie_word_embeddings=True, init_std=0.6)
    torch.manual_seed(4)
    model = transformers.WhisperForConditionalGeneration(config)
    model.generation_config = transformers.GenerationConfig.from_pretrained(folder)
    model.save_pretrained(folder)
    return folder


def _named(spec: Any) -> Iterator[tuple[str, Matrix]]:
    for part in ("encoder", "decoder"):
        source, name = getattr(spec, part), f"model.{part}"
        yield f"{name}.embed_positions.weight", source.position_encodings.encodings
        yield from _both(f"{name}.layer_norm", source.layer_norm.gamma, source.layer_norm.beta)
        for number, layer in enumerate(source.layer):
            yield from _layer(f"{name}.layers.{number}", layer)
    for number in (1, 2):
        convolution = getattr(spec.encoder, f"conv{number}")
        yield from _both(f"model.encoder.conv{number}", convolution.weight, convolution.bias)
    yield "model.decoder.embed_tokens.weight", spec.decoder.embeddings.weight
    yield "proj_out.weight", spec.decoder.projection.weight


def _layer(name: str, layer: Any) -> Iterator[tuple[str, Matrix]]:
    own, width = layer.self_attention, len(layer.ffn.layer_norm.gamma)
    joined = own.linear[0]
    yield from _attention(f"{name}.self_attn", joined.weight.reshape(3, width, width), own.linear[1].weight)
    yield from _both(f"{name}.self_attn_layer_norm", own.layer_norm.gamma, own.layer_norm.beta)
    if hasattr(layer, "attention"):
        query, keys_and_values, out = (each.weight for each in layer.attention.linear)
        parts = np.concatenate([query, keys_and_values]).reshape(3, width, width)
        yield from _attention(f"{name}.encoder_attn", parts, out)
        norm = layer.attention.layer_norm
        yield from _both(f"{name}.encoder_attn_layer_norm", norm.gamma, norm.beta)
    for number in (1, 2):
        linear = getattr(layer.ffn, f"linear_{number - 1}")
        yield from _both(f"{name}.fc{number}", linear.weight, linear.bias)
    yield from _both(f"{name}.final_layer_norm", layer.ffn.layer_norm.gamma, layer.ffn.layer_norm.beta)


def _attention(name: str, parts: Matrix, out: Matrix) -> Iterator[tuple[str, Matrix]]:
    """Keys have no bias; those of the others are zero."""
    for part, weight in zip("qkv", parts, strict=True):
        yield f"{name}.{part}_proj.weight", np.ascontiguousarray(weight)
        if part != "k":
            yield f"{name}.{part}_proj.bias", np.zeros(len(weight), np.float32)
    yield from _both(f"{name}.out_proj", out, np.zeros(len(out), np.float32))


def _both(name: str, weight: Matrix, bias: Matrix) -> Iterator[tuple[str, Matrix]]:
    yield f"{name}.weight", weight
    yield f"{name}.bias", bias


def _config(whisper: Whisper, tokenizer: Any) -> dict[str, Any]:
    end = tokenizer.token_to_id("<|endoftext|>")
    sizes = {
        f"{part}_{name}": size
        for part in ("encoder", "decoder")
        for name, size in (
            ("layers", whisper.layers),
            ("attention_heads", whisper.heads),
            ("ffn_dim", 4 * whisper.width),
        )
    }
    return sizes | {
        "architectures": ["WhisperForConditionalGeneration"],
        "model_type": "whisper",
        "vocab_size": tokenizer.get_vocab_size(),
        "num_mel_bins": whisper.mels,
        "d_model": whisper.width,
        "max_source_positions": 1500,
        "max_target_positions": 448,
        "eos_token_id": end,
        "bos_token_id": end,
        "pad_token_id": end,
        "decoder_start_token_id": tokenizer.token_to_id("<|startoftranscript|>"),
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
    }


def _generation(whisper: Whisper, tokenizer: Any, kind: Kind) -> dict[str, Any]:
    end = tokenizer.token_to_id("<|endoftext|>")
    begin = tokenizer.token_to_id("<|startoftranscript|>")
    bare = {"eos_token_id": end, "pad_token_id": end, "decoder_start_token_id": begin, "max_length": 448}
    if kind is Kind.BARE:
        return bare
    whole = bare | {
        "is_multilingual": whisper.multilingual,
        "alignment_heads": whisper.alignment_heads,
        "no_timestamps_token_id": tokenizer.token_to_id("<|notimestamps|>"),
        "suppress_tokens": [tokenizer.token_to_id(NO_SPEECH)],
        "begin_suppress_tokens": [end],
        "max_initial_timestamp_index": 50,
        "forced_decoder_ids": [[1, None], [2, tokenizer.token_to_id("<|transcribe|>")]],
    }
    if not whisper.multilingual:
        return whole
    tasks = {task: tokenizer.token_to_id(f"<|{task}|>") for task in ("transcribe", "translate")}
    languages = {f"<|{code}|>": tokenizer.token_to_id(f"<|{code}|>") for code in whisper.languages}
    return whole | {"lang_to_id": languages, "task_to_id": tasks}


def _of_the_tokenizer() -> dict[str, Any]:
    end = "<|endoftext|>"
    names = {"tokenizer_class": "WhisperTokenizer", "model_max_length": 1024, "errors": "replace"}
    return names | dict.fromkeys(("bos_token", "eos_token", "pad_token", "unk_token"), end)


def _tokenizer_in_parts(folder: Path, tokenizer: Any) -> None:
    model = json.loads(tokenizer.to_str())
    _write(folder, "vocab.json", model["model"]["vocab"])
    merges = [each if isinstance(each, str) else " ".join(each) for each in model["model"]["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]))
    # Time stamps are in none of the old ones: they come after all tokens that have a name.
    added = {one["content"]: one["id"] for one in model["added_tokens"] if one["special"]}
    _write(folder, "added_tokens.json", added)
    special = {"additional_special_tokens": list(added)}
    _write(folder, "special_tokens_map.json", special)


def _write(folder: Path, name: str, said: dict[str, Any]) -> None:
    (folder / name).write_text(json.dumps(said, ensure_ascii=False))

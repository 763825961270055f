"""Tiny models that see, with the files that their kinds have on a hub; import it only where torch loads.

Weights are random from a fixed seed: what they say means nothing, and depends on the picture.
"""

import copy
import json
from pathlib import Path
from typing import Any

import torch
import transformers

from tests.support.tiny_models import write_byte_tokenizer

QWEN2, QWEN25, QWEN3 = "qwen2_vl", "qwen2_5_vl", "qwen3_vl"
QWEN_MARKS = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
QWEN_TEMPLATE = (
    "{% for m in messages %}{{ m.role }}: {% if m.content is string %}{{ m.content }}{% else %}"
    "{% for part in m.content %}{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}\n{% endfor %}<says>"
)
LLAVA_TEMPLATE = (
    "{% for m in messages %}{{ m.role | upper }}: "
    "{% for part in m.content | selectattr('type', 'equalto', 'image') %}<image>\n{% endfor %}"
    "{% for part in m.content | selectattr('type', 'equalto', 'text') %}{{ part.text }}{% endfor %}\n"
    "{% endfor %}<says>"
)
GEMMA_MARKS = {
    "boi_token": "<start_of_image>",
    "eoi_token": "<end_of_image>",
    "image_token": "<image_soft_token>",
}
GEMMA_TEMPLATE = (
    "{% for m in messages %}{{ m.role }}: {% if m.content is string %}{{ m.content }}{% else %}"
    "{% for part in m.content %}{% if part.type == 'image' %}<start_of_image>{% else %}"
    "{{ part.text }}{% endif %}{% endfor %}{% endif %}\n{% endfor %}<says>"
)
_PATCH = 14
_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}


_QWEN_PROCESSORS = {
    QWEN2: "Qwen2VLProcessor",
    QWEN25: "Qwen2_5_VLProcessor",
    QWEN3: "Qwen3VLProcessor",
}
_MERGING: dict[str, Any] = {"depth": 2, "num_heads": 2, "patch_size": _PATCH, "spatial_merge_size": 2}
_QWEN_VISION: dict[str, dict[str, Any]] = {
    QWEN2: _MERGING | {"embed_dim": 32, "hidden_size": 32, "mlp_ratio": 1, "in_chans": 3},
    QWEN25: _MERGING
    | {"hidden_size": 32, "intermediate_size": 32, "out_hidden_size": 32, "in_chans": 3}
    | {"window_size": 4 * _PATCH, "fullatt_block_indexes": [1]},
    QWEN3: _MERGING
    | {"hidden_size": 32, "intermediate_size": 32, "out_hidden_size": 32, "deepstack_visual_indexes": [0]},
}


def write_qwen(folder: Path, kind: str = QWEN3, *, length: int = 1024) -> Path:
    """As its repositories hold one: a picture takes a token for each 28 x 28 pixels, 64 at most."""
    tokenizer = write_byte_tokenizer(folder, template=QWEN_TEMPLATE, length=length, marks=QWEN_MARKS)
    start, end, image, video = tokenizer.convert_tokens_to_ids(list(QWEN_MARKS))
    text: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": length,
        "pad_token_id": 0,
        "eos_token_id": 2,
        **_SIZES,
    }
    marks = {"vision_start_token_id": start, "vision_end_token_id": end}
    marks |= {"image_token_id": image, "video_token_id": video}
    sections = {"mrope_section": [4, 2, 2]}
    if kind == QWEN3:
        text |= {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, **sections}, "head_dim": 16}
        told = {"text_config": text, "vision_config": _QWEN_VISION[kind], **marks}
    else:  # as they were published, before texts had a configuration of their own
        text |= {"rope_scaling": {"type": "mrope", **sections}, "rope_theta": 1e4}
        told = {**text, "vision_config": _QWEN_VISION[kind], **marks}
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, **copy.deepcopy(told))
    _save(folder, transformers.AutoModelForImageTextToText.from_config(config), tokenizer)
    _write(folder / "config.json", {"model_type": kind, **told})
    prepares: dict[str, Any] = {
        "patch_size": _PATCH,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        "processor_class": _QWEN_PROCESSORS[kind],
    }
    if kind == QWEN3:
        prepares |= {"size": {"shortest_edge": 28 * 28, "longest_edge": 28 * 28 * 64}}
        prepares |= {"image_processor_type": "Qwen2VLImageProcessorFast", "do_convert_rgb": True}
        videos = prepares | {"video_processor_type": "Qwen3VLVideoProcessor"}
        _write(folder / "video_preprocessor_config.json", videos)
    else:
        prepares |= {"min_pixels": 28 * 28, "max_pixels": 28 * 28 * 64}
        prepares |= {"image_processor_type": "Qwen2VLImageProcessor"}
    _write(folder / "preprocessor_config.json", prepares)
    return folder


def write_gemma(folder: Path, *, length: int = 1024) -> Path:
    """As Gemma 3: each picture takes four tokens, and two that say where it is."""
    tokenizer = write_byte_tokenizer(
        folder, template=GEMMA_TEMPLATE, length=length, marks=list(GEMMA_MARKS.values())
    )
    said = json.loads((folder / "tokenizer_config.json").read_text())
    _write(folder / "tokenizer_config.json", said | GEMMA_MARKS | {"extra_special_tokens": GEMMA_MARKS})
    boi, eoi, image = tokenizer.convert_tokens_to_ids(list(GEMMA_MARKS.values()))
    torch.manual_seed(0)
    config = transformers.Gemma3Config(
        text_config={
            "vocab_size": len(tokenizer),
            "max_position_embeddings": length,
            "head_dim": 16,
            "sliding_window": 64,
            "sliding_window_pattern": 2,
            "pad_token_id": 0,
            "eos_token_id": 2,
            "tie_word_embeddings": False,
            **_SIZES,
        },
        vision_config={
            "image_size": 4 * _PATCH,
            "patch_size": _PATCH,
            **{name: size for name, size in _SIZES.items() if name != "num_key_value_heads"},
        },
        mm_tokens_per_image=4,
        boi_token_index=boi,
        eoi_token_index=eoi,
        image_token_index=image,
        tie_word_embeddings=False,
    )
    _save(folder, transformers.Gemma3ForConditionalGeneration(config), tokenizer)
    prepares: dict[str, Any] = {
        "image_processor_type": "Gemma3ImageProcessor",
        "size": {"height": 4 * _PATCH, "width": 4 * _PATCH},
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        "image_seq_length": 4,
        "processor_class": "Gemma3Processor",
    }
    _write(folder / "preprocessor_config.json", prepares)
    _write(folder / "processor_config.json", {"image_seq_length": 4, "processor_class": "Gemma3Processor"})
    return folder


def write_llava(folder: Path, *, length: int = 1024) -> Path:
    """As LLaVA 1.5: each picture takes four tokens, whatever its size; the template takes parts alone."""
    tokenizer = write_byte_tokenizer(folder, template=LLAVA_TEMPLATE, length=length, marks=["<image>"])
    torch.manual_seed(0)
    config = transformers.LlavaConfig(
        text_config={
            "model_type": "llama",
            "vocab_size": len(tokenizer),
            "max_position_embeddings": length,
            "pad_token_id": 0,
            "eos_token_id": 2,
            **_SIZES,
        },
        vision_config={
            "model_type": "clip_vision_model",
            "image_size": 2 * _PATCH,
            "patch_size": _PATCH,
            **{name: size for name, size in _SIZES.items() if name != "num_key_value_heads"},
        },
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=4,
    )
    _save(folder, transformers.LlavaForConditionalGeneration(config), tokenizer)
    side = {"height": 2 * _PATCH, "width": 2 * _PATCH}
    told: dict[str, Any] = {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": 2 * _PATCH},
        "crop_size": side,
    }
    _write(folder / "preprocessor_config.json", told | {"processor_class": "LlavaProcessor"})
    kept: dict[str, Any] = {
        "patch_size": _PATCH,
        "vision_feature_select_strategy": "default",
        "image_token": "<image>",
    }
    kept |= {"num_additional_image_tokens": 1, "processor_class": "LlavaProcessor"}
    _write(folder / "processor_config.json", kept)
    return folder


def _save(folder: Path, model: Any, tokenizer: Any) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.2)
        # Letters alone: half a character has no text.
        names = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
        letters = torch.zeros(len(names), 1)
        letters[[at for at, name in enumerate(names) if len(name) == 1 and name.isascii()]] = 1
        model.lm_head.weight.mul_(letters)
    model.generation_config = transformers.GenerationConfig(eos_token_id=2, pad_token_id=0)
    model.save_pretrained(folder)


def _write(file: Path, told: dict[str, Any]) -> None:
    file.write_text(json.dumps(told))

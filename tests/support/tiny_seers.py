"""Tiny models that see, with the files that their kinds have on a hub; import it only where torch loads.

Weights are random from a fixed seed: what they say means nothing, and depends on the picture.
"""

import json
from pathlib import Path
from typing import Any

import torch
import transformers

from tests.support.tiny_models import write_byte_tokenizer

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
_PATCH = 14
_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}


def write_qwen(folder: Path, *, length: int = 1024) -> Path:
    """As Qwen3-VL: a picture takes a token for each 28 x 28 pixels, 64 at most."""
    tokenizer = write_byte_tokenizer(folder, template=QWEN_TEMPLATE, length=length, marks=QWEN_MARKS)
    start, end, image, video = tokenizer.convert_tokens_to_ids(list(QWEN_MARKS))
    text: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "head_dim": 16,
        "max_position_embeddings": length,
        **_SIZES,
    }
    text |= {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 2, 2]}}
    text |= {"pad_token_id": 0, "eos_token_id": 2}
    vision: dict[str, Any] = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_heads": 2,
        "out_hidden_size": 32,
    }
    vision |= {"patch_size": _PATCH, "spatial_merge_size": 2, "deepstack_visual_indexes": [0]}
    torch.manual_seed(0)
    config = transformers.Qwen3VLConfig(
        text_config=text,
        vision_config=vision,
        vision_start_token_id=start,
        vision_end_token_id=end,
        image_token_id=image,
        video_token_id=video,
    )
    _save(folder, transformers.Qwen3VLForConditionalGeneration(config), tokenizer)
    told: dict[str, Any] = {
        "patch_size": _PATCH,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "do_convert_rgb": True,
    }
    told |= {"size": {"shortest_edge": 28 * 28, "longest_edge": 28 * 28 * 64}}
    told |= {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "processor_class": "Qwen3VLProcessor"}
    _write(folder / "preprocessor_config.json", told | {"image_processor_type": "Qwen2VLImageProcessorFast"})
    _write(
        folder / "video_preprocessor_config.json", told | {"video_processor_type": "Qwen3VLVideoProcessor"}
    )
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
